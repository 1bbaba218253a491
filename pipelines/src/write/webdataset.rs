//! WebDataset tars: the members that share a key are one sample, `0001.jpg` with `0001.cls`.
//!
//! The key is the name up to the first dot of its last part. The picture is the first member that
//! is one by name or content. The label is `cls`, or else `label`, `cls` or `class` of the `json`,
//! or else `txt`: a whole number is a label as it stands, anything else is a class name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, Entries};

use super::source::{Body, RawLabel, RawSample, Sink, Survey};
use crate::config::Limits;
use crate::{Error, Result, SampleError};

const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
const LABELS: [&str; 3] = ["cls", "json", "txt"];
/// A label member that is larger holds something else.
const MAX_LABEL_BYTES: u64 = 1 << 20;

/// One tar.
#[derive(Debug)]
pub(crate) struct Tar {
    path: PathBuf,
    gzip: bool,
    /// The member that holds the picture, by its extension, where it was named.
    picture: Option<String>,
    /// The members that may hold the label, by extension, best first.
    labels: Vec<String>,
}

/// What has been read of one key.
#[derive(Default)]
struct Group {
    key: String,
    picture: Option<(String, Body)>,
    labels: BTreeMap<usize, RawLabel>,
    members: Vec<String>,
}

impl Tar {
    /// A tar or gzipped tar by its first bytes.
    pub(crate) fn open(
        path: &Path,
        head: &[u8],
        columns: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        if !gzip && head.get(257..262) != Some(b"ustar") {
            return None;
        }
        let labels = match columns.get("label").map(String::as_str) {
            None => LABELS.map(str::to_owned).to_vec(),
            Some("") => Vec::new(),
            Some(named) => vec![named.to_lowercase()],
        };
        let picture = columns.get("image").map(|e| e.to_lowercase());
        Some(Self {
            path: path.to_owned(),
            gzip,
            picture,
            labels,
        })
    }

    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        let metadata = self.path.metadata().map_err(|source| self.io(source))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        survey.hash_file(&name, metadata.len());
        // Pictures are stepped over, labels are read.
        let _ = self.groups(u64::MAX, &mut |group| {
            survey.samples += 1;
            match group.label() {
                RawLabel::Name(name) => survey.labels.name(&name),
                RawLabel::Index(_) => survey.labels.numbers = true,
                RawLabel::None | RawLabel::Bad(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        let mut seen = 0;
        let flow = self.groups(skip, &mut |group| {
            seen += 1;
            if seen <= skip {
                ControlFlow::Continue(())
            } else {
                sink(self.sample(group))
            }
        })?;
        Ok(match flow {
            ControlFlow::Break(()) => ControlFlow::Break(()),
            ControlFlow::Continue(()) => ControlFlow::Continue(skip.saturating_sub(seen)),
        })
    }

    fn sample(&self, group: Group) -> RawSample {
        let label = group.label();
        let (path, body) = group.picture.unwrap_or_else(|| {
            let members = group.members.join(", ");
            let reason = format!(
                "no picture among the members of `{}` ({members})",
                group.key
            );
            (
                group.key.clone(),
                Body::Bad(SampleError::Unsupported(reason)),
            )
        });
        RawSample {
            place: format!("{}:{path}", self.path.display()),
            path: Some(path),
            body,
            label,
        }
    }

    /// Gives each key's members; the pictures of the first `skip` keys are not read.
    fn groups(
        &self,
        skip: u64,
        each: &mut dyn FnMut(Group) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        let length = file.metadata().map_err(|source| self.io(source))?.len();
        let file = BufReader::new(file);
        if self.gzip {
            let mut archive = Archive::new(flate2::read::MultiGzDecoder::new(file));
            let entries = archive.entries().map_err(|e| self.damaged(&e))?;
            self.walk(entries, u64::MAX, skip, each)
        } else {
            let mut archive = Archive::new(file);
            let entries = archive.entries_with_seek().map_err(|e| self.damaged(&e))?;
            self.walk(entries, length, skip, each)
        }
    }

    /// `length` is that of the file: stepping over a member does not notice its missing end.
    fn walk<R: Read>(
        &self,
        entries: Entries<'_, R>,
        length: u64,
        skip: u64,
        each: &mut dyn FnMut(Group) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut group = Group::default();
        let mut n_groups = 0;
        for entry in entries {
            let mut entry = entry.map_err(|e| self.damaged(&e))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if entry.raw_file_position().saturating_add(entry.size()) > length {
                return Err(self.cut_short(&name));
            }
            let Some((key, extension)) = split_key(&name) else {
                continue;
            };
            if !entry.header().entry_type().is_file() {
                continue;
            }
            if key != group.key {
                if !group.members.is_empty() {
                    n_groups += 1;
                    if each(std::mem::take(&mut group)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                key.clone_into(&mut group.key);
            }
            group.members.push(extension.clone());
            if let Some(rank) = self.labels.iter().position(|e| *e == extension) {
                group
                    .labels
                    .insert(rank, self.read_label(&mut entry, &extension)?);
            } else if group.picture.is_none() && n_groups >= skip {
                group.picture = self
                    .read_picture(&mut entry, &extension)?
                    .map(|body| (name, body));
            }
        }
        if group.members.is_empty() {
            Ok(ControlFlow::Continue(()))
        } else {
            Ok(each(group))
        }
    }

    fn read_label<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        extension: &str,
    ) -> Result<RawLabel> {
        if entry.size() > MAX_LABEL_BYTES {
            return Ok(RawLabel::Bad(format!(
                "`{extension}` has {} bytes",
                entry.size()
            )));
        }
        let mut text = Vec::new();
        self.read_to_end(entry, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        Ok(if extension == "json" {
            label_of_json(&text)
        } else {
            label_of_text(&text)
        })
    }

    /// The member's bytes, if it is the picture.
    fn read_picture<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        extension: &str,
    ) -> Result<Option<Body>> {
        let named = match &self.picture {
            Some(picture) if picture == extension => true,
            Some(_) => return Ok(None),
            None => PICTURES.contains(&extension),
        };
        let found = entry.size();
        let limit = Limits::default().bytes;
        if found > limit {
            let what = "bytes";
            return Ok(named.then_some(Body::Bad(SampleError::Limit { what, found, limit })));
        }
        let mut bytes = Vec::new();
        entry
            .take(16)
            .read_to_end(&mut bytes)
            .map_err(|e| self.damaged(&e))?;
        if !named && image::guess_format(&bytes).is_err() {
            return Ok(None);
        }
        bytes.reserve_exact(found as usize - bytes.len().min(found as usize));
        self.read_to_end(entry, &mut bytes)?;
        Ok(Some(Body::Bytes(bytes)))
    }

    /// Reads the rest of a member, all of which must be there.
    fn read_to_end<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        entry.read_to_end(bytes).map_err(|e| self.damaged(&e))?;
        if bytes.len() as u64 == entry.size() {
            return Ok(());
        }
        Err(self.cut_short(&String::from_utf8_lossy(&entry.path_bytes())))
    }

    fn cut_short(&self, member: &str) -> Error {
        let reason = format!("it ends within `{member}`; fetch it again, or leave it out");
        Error::Corrupt {
            shard: self.path.display().to_string(),
            reason,
        }
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, error: &std::io::Error) -> Error {
        let reason = format!("{error}; fetch it again, or leave it out");
        Error::Corrupt {
            shard: self.path.display().to_string(),
            reason,
        }
    }
}

impl Group {
    fn label(&self) -> RawLabel {
        let mut labels = self
            .labels
            .values()
            .filter(|label| **label != RawLabel::None);
        labels.next().cloned().unwrap_or(RawLabel::None)
    }
}

/// `a/0001.seg.png` → (`a/0001`, `seg.png`); `None` for hidden names and names without a dot.
fn split_key(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    if dot == base {
        return None;
    }
    Some((&name[..dot], name[dot + 1..].to_lowercase()))
}

fn label_of_text(text: &str) -> RawLabel {
    let text = text.trim();
    match text.parse() {
        Ok(index) => RawLabel::Index(index),
        Err(_) if text.is_empty() => RawLabel::None,
        Err(_) => RawLabel::Name(text.to_owned()),
    }
}

fn label_of_json(text: &str) -> RawLabel {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return RawLabel::Bad(format!("in json: {error}")),
    };
    let label = if value.is_object() {
        ["label", "cls", "class"]
            .into_iter()
            .find_map(|key| value.get(key))
    } else {
        Some(&value)
    };
    match label {
        None | Some(Value::Null) => RawLabel::None,
        Some(Value::Number(n)) if n.is_i64() => RawLabel::Index(n.as_i64().unwrap_or_default()),
        Some(Value::String(name)) => RawLabel::Name(name.clone()),
        Some(other) => RawLabel::Bad(format!(
            "in json: {other} is neither a whole number nor a name"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_last_part() {
        assert_eq!(
            split_key("v1.0/a.seg.PNG"),
            Some(("v1.0/a", "seg.png".to_owned()))
        );
        assert_eq!(split_key("v1.0/.hidden.jpg"), None);
        assert_eq!(split_key("readme"), None);
    }

    #[test]
    fn labels_are_numbers_or_names() {
        assert_eq!(label_of_text(" 7\n"), RawLabel::Index(7));
        assert_eq!(label_of_text("cat\n"), RawLabel::Name("cat".to_owned()));
        assert_eq!(label_of_text("\n"), RawLabel::None);
        assert_eq!(label_of_json("3"), RawLabel::Index(3));
        assert_eq!(
            label_of_json(r#"{"cls": "cat", "w": 3}"#),
            RawLabel::Name("cat".to_owned())
        );
        assert_eq!(label_of_json(r#"{"w": 3}"#), RawLabel::None);
        assert!(matches!(
            label_of_json(r#"{"label": 1.5}"#),
            RawLabel::Bad(_)
        ));
        assert!(matches!(label_of_json("{"), RawLabel::Bad(_)));
    }
}
