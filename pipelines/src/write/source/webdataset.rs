//! WebDataset tars: the members that share a key are one sample, `0001.jpg` with `0001.cls`.
//!
//! The key is the name up to the first dot of its last part. The picture is the first member that
//! is one by name or content, the recording the first that is one by name. The label is `cls`, or
//! else `label`, `cls` or `class` of the `json`, or else, of pictures, `txt`. Of recordings `txt` is
//! the transcript, or else the `json` has it, and the speaker too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, Entries};

use crate::config::Limits;
use crate::config::Modality;
use crate::write::classes::RawLabel;
use crate::write::sample::{Body, ColumnMap, Facts, RawSample, Sink, Survey};
use crate::write::source::audio_manifest::{SPEAKER, TRANSCRIPT};
use crate::{Error, Result, SampleError};

const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
const RECORDINGS: [&str; 8] = ["flac", "wav", "mp3", "ogg", "oga", "opus", "m4a", "aac"];
/// A member of words that is larger holds something else.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// One tar.
#[derive(Debug)]
pub(crate) struct Tar {
    pub(super) path: PathBuf,
    gzip: bool,
    modality: Modality,
    /// The member that holds the media, by its extension, where it was named.
    media: Option<String>,
    /// The members that may hold the label, by extension, best first.
    labels: Vec<String>,
    /// The label's member, where the user named it: then there must be one.
    named_label: Option<String>,
    /// The members that may hold the transcript, by extension, best first.
    transcripts: Vec<String>,
}

/// What has been read of one key.
#[derive(Default)]
struct TarSample {
    key: String,
    media: Option<(String, Body)>,
    labels: BTreeMap<usize, RawLabel>,
    transcripts: BTreeMap<usize, String>,
    speaker: Option<String>,
    members: Vec<String>,
}

impl Tar {
    /// A tar or gzipped tar by its first bytes.
    pub(crate) fn open(
        path: &Path,
        head: &[u8],
        modality: Modality,
        columns: &ColumnMap,
    ) -> Option<Self> {
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        if !gzip && head.get(257..262) != Some(b"ustar") {
            return None;
        }
        let named = |ours: &str, others: &[&str]| match columns.get(ours).map(String::as_str) {
            None => others.iter().map(|&e| e.to_owned()).collect(),
            Some("") => Vec::new(),
            Some(named) => vec![named.to_lowercase()],
        };
        let (ours, labels, transcripts) = match modality {
            Modality::Image => ("image", named("label", &["cls", "json", "txt"]), Vec::new()),
            Modality::Audio => (
                "audio",
                named("label", &["cls", "json"]),
                named("transcript", &["txt", "json"]),
            ),
            Modality::Text => ("text", Vec::new(), Vec::new()),
        };
        Some(Self {
            path: path.to_owned(),
            gzip,
            modality,
            media: columns.get(ours).map(|e| e.to_lowercase()),
            labels,
            named_label: columns.get("label").filter(|e| !e.is_empty()).cloned(),
            transcripts,
        })
    }

    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        let metadata = self.path.metadata().map_err(|source| self.io(source))?;
        let name = self.path.file_name().unwrap_or_default();
        survey.hash_file(name, metadata.len());
        // Media are stepped over, labels are read.
        let mut labelled = false;
        let _ = self.groups(u64::MAX, &mut |group| {
            survey.samples += 1;
            labelled |= group.label() != RawLabel::None;
            survey.labels.label(&group.label());
            ControlFlow::Continue(())
        })?;
        if let (Some(named), false) = (&self.named_label, labelled) {
            return Err(Error::Source {
                path: self.path.clone(),
                reason: format!("no member ends in .{named}, which --columns names for the label"),
            });
        }
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

    fn sample(&self, group: TarSample) -> RawSample {
        let label = group.label();
        let facts = match self.modality {
            Modality::Audio => Facts::Speech {
                transcript: group.transcripts.into_values().next(),
                speaker: group.speaker,
            },
            Modality::Image | Modality::Text => Facts::None,
        };
        let (path, body) = group.media.unwrap_or_else(|| {
            let members = group.members.join(", ");
            let what = match self.modality {
                Modality::Image => "picture",
                Modality::Audio => "recording",
                Modality::Text => "text",
            };
            let reason = format!("no {what} among the members of `{}` ({members})", group.key);
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
            facts,
        }
    }

    /// Gives each key's members; the media of the first `skip` keys are not read.
    fn groups(
        &self,
        skip: u64,
        each: &mut dyn FnMut(TarSample) -> ControlFlow<()>,
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
        each: &mut dyn FnMut(TarSample) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut group = TarSample::default();
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
            let kind = entry.header().entry_type();
            if kind.is_hard_link() || kind.is_symlink() {
                return Err(Error::Source {
                    path: self.path.clone(),
                    reason: format!(
                        "`{name}` is a link to another member, which a stream cannot follow; \
                         pack it with tar --hard-dereference --dereference"
                    ),
                });
            }
            if !kind.is_file() {
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
            let is_words = |names: &[String]| names.contains(&extension);
            if is_words(&self.labels) || is_words(&self.transcripts) {
                self.read_words(&mut entry, &extension, &mut group)?;
            } else if group.media.is_none() && n_groups >= skip {
                group.media = self
                    .read_media(&mut entry, &extension)?
                    .map(|body| (name, body));
            }
        }
        if group.members.is_empty() {
            Ok(ControlFlow::Continue(()))
        } else {
            Ok(each(group))
        }
    }

    /// A member with label, transcript or speaker.
    fn read_words<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        extension: &str,
        group: &mut TarSample,
    ) -> Result<()> {
        let rank = |names: &[String]| names.iter().position(|e| e == extension);
        let (label, transcript) = (rank(&self.labels), rank(&self.transcripts));
        let size = entry.size();
        let words = if size > MAX_TEXT_BYTES {
            Words {
                label: RawLabel::Bad(format!("`{extension}` has {size} bytes")),
                ..Words::default()
            }
        } else {
            let mut text = Vec::new();
            self.read_to_end(entry, &mut text)?;
            let text = String::from_utf8_lossy(&text);
            if extension == "json" {
                Words::of_json(&text)
            } else {
                Words::of_text(&text)
            }
        };
        if let Some(rank) = label {
            group.labels.insert(rank, words.label);
        }
        if let (Some(rank), Some(transcript)) = (transcript, words.transcript) {
            group.transcripts.insert(rank, transcript);
        }
        group.speaker = group.speaker.take().or(words.speaker);
        Ok(())
    }

    /// The member's bytes, if it is the picture or the recording.
    fn read_media<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        extension: &str,
    ) -> Result<Option<Body>> {
        let by_name: &[&str] = match self.modality {
            Modality::Image => &PICTURES,
            Modality::Audio => &RECORDINGS,
            Modality::Text => &[],
        };
        let named = match &self.media {
            Some(media) if media == extension => true,
            Some(_) => return Ok(None),
            None => by_name.contains(&extension),
        };
        if !named && self.modality != Modality::Image {
            return Ok(None);
        }
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

impl TarSample {
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

/// What a member of words says.
struct Words {
    label: RawLabel,
    transcript: Option<String>,
    speaker: Option<String>,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            label: RawLabel::None,
            transcript: None,
            speaker: None,
        }
    }
}

impl Words {
    fn of_text(text: &str) -> Self {
        Self {
            label: RawLabel::of_text(text),
            transcript: Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            speaker: None,
        }
    }

    fn of_json(text: &str) -> Self {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                return Self {
                    label: RawLabel::Bad(format!("in json: {error}")),
                    ..Self::default()
                };
            }
        };
        if !value.is_object() {
            return Self {
                label: RawLabel::of_json(Some(&value)),
                ..Self::default()
            };
        }
        let find = |keys: &[&str]| keys.iter().find_map(|key| value.get(*key));
        let text = |keys: &[&str]| match find(keys)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Self {
            label: RawLabel::of_json(find(&["label", "cls", "class"])),
            transcript: text(&TRANSCRIPT),
            speaker: text(&SPEAKER),
        }
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
        let of_text = |text| Words::of_text(text).label;
        let of_json = |text| Words::of_json(text).label;
        assert_eq!(of_text(" 7\n"), RawLabel::Index(7));
        assert_eq!(of_text("cat\n"), RawLabel::Name("cat".to_owned()));
        assert_eq!(of_text("\n"), RawLabel::None);
        assert_eq!(of_json("3"), RawLabel::Index(3));
        assert_eq!(
            of_json(r#"{"cls": "cat", "w": 3}"#),
            RawLabel::Name("cat".to_owned())
        );
        assert_eq!(of_json(r#"{"w": 3}"#), RawLabel::None);
        assert!(matches!(of_json(r#"{"label": 1.5}"#), RawLabel::Bad(_)));
        assert!(matches!(of_json("{"), RawLabel::Bad(_)));
    }

    #[test]
    fn json_tells_words_and_speaker() {
        let words = Words::of_json(r#"{"text": "HI YOU", "speaker_id": 19}"#);
        assert_eq!(words.transcript.as_deref(), Some("HI YOU"));
        assert_eq!(words.speaker.as_deref(), Some("19"));
    }
}
