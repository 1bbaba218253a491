//! WebDataset tars: the members that share a key are one sample, `0001.jpg` with `0001.cls`.
//!
//! The key is the name up to the first dot of the file name. The image is the first member that is one
//! by name or content, the audio the first that is one by name. The label is `cls`, or else `label`,
//! `cls` or `class` of the `json`, or else, for images, `txt`. For audio, `txt` is the transcript, or
//! else the `json` has it, and the speaker.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tar::{Archive, Entries};

use crate::config::Limits;
use crate::config::Modality;
use crate::write::classes::RawLabel;
use crate::write::sample::{Body, ColumnMap, Facts, RawSample, Sink, Survey};
use crate::write::source::webdataset_members::{MemberMetadata, TarSample, split_key};
use crate::{Error, Result, SampleError};

const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
const AUDIO_EXTENSIONS: [&str; 8] = ["flac", "wav", "mp3", "ogg", "oga", "opus", "m4a", "aac"];
/// Maximum size of a text member: a larger one contains something else.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// A tar and the extensions of its media, labels and transcripts.
#[derive(Debug)]
pub(crate) struct Tar {
    pub(super) path: PathBuf,
    gzip: bool,
    modality: Modality,
    /// Extension of the media member, if the user named it.
    media: Option<String>,
    /// Extensions of members that may contain the label, best first.
    labels: Vec<String>,
    /// Extension of the label member, if the user named it: it must then exist.
    named_label: Option<String>,
    /// Extensions of members that may contain the transcript, best first.
    transcripts: Vec<String>,
}

impl Tar {
    /// Opens a tar or gzipped tar, detected by its first bytes.
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
        // Media are skipped, labels are read.
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
                reason: format!("no member ends in .{named}, which --columns names as the label"),
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
                Modality::Image => "image",
                Modality::Audio => "audio",
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

    /// Calls `each` with the members of each key; the media of the first `skip` keys are not read.
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

    /// Reads all entries. `length` is the file's size in bytes: skipping a member does not notice that it
    /// is truncated.
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
                        "`{name}` is a link to another member, which is unsupported\nhint: pack with \
                         tar --hard-dereference --dereference"
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
            let is_metadata = |names: &[String]| names.contains(&extension);
            if is_metadata(&self.labels) || is_metadata(&self.transcripts) {
                self.read_metadata(&mut entry, &extension, &mut group)?;
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

    /// Reads a member with label, transcript or speaker.
    fn read_metadata<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        extension: &str,
        group: &mut TarSample,
    ) -> Result<()> {
        let rank = |names: &[String]| names.iter().position(|e| e == extension);
        let (label, transcript) = (rank(&self.labels), rank(&self.transcripts));
        let size = entry.size();
        let member = if size > MAX_TEXT_BYTES {
            MemberMetadata {
                label: RawLabel::Bad(format!("`{extension}` has {size} bytes")),
                ..MemberMetadata::default()
            }
        } else {
            let mut text = Vec::new();
            self.read_to_end(entry, &mut text)?;
            let text = String::from_utf8_lossy(&text);
            if extension == "json" {
                MemberMetadata::of_json(&text)
            } else {
                MemberMetadata::of_text(&text)
            }
        };
        if let Some(rank) = label {
            group.labels.insert(rank, member.label);
        }
        if let (Some(rank), Some(transcript)) = (transcript, member.transcript) {
            group.transcripts.insert(rank, transcript);
        }
        group.speaker = group.speaker.take().or(member.speaker);
        Ok(())
    }

    /// Reads a member if it is the media of its sample.
    fn read_media<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        extension: &str,
    ) -> Result<Option<Body>> {
        let by_name: &[&str] = match self.modality {
            Modality::Image => &IMAGE_EXTENSIONS,
            Modality::Audio => &AUDIO_EXTENSIONS,
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

    /// Reads the rest of a member; a truncated one is an error.
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
        let reason =
            format!("truncated within `{member}`\nhint: download it again, or leave it out");
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
        let reason = format!("{error}\nhint: download it again, or leave it out");
        Error::Corrupt {
            shard: self.path.display().to_string(),
            reason,
        }
    }
}
