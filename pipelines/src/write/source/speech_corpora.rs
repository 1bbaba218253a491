//! Transcripts of speech corpora: LibriSpeech's `*.trans.txt`, and fairseq's `.tsv` with `.ltr` or
//! `.wrd`. [Manifests](super::audio_manifest) are read as a [`UtteranceList`] too.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::write::classes::RawLabel;
use crate::write::sample::Facts;
use crate::{Error, Result};

/// Utterances of a list.
#[derive(Debug)]
pub(crate) struct UtteranceList {
    /// Folder that names are relative to.
    pub(crate) root: PathBuf,
    /// Utterances, each with the split of its `split` column.
    pub(crate) utterances: Vec<(Option<String>, Utterance)>,
}

impl UtteranceList {
    /// Returns the list of the file `path`; an empty list is an error.
    pub(super) fn new(
        path: &Path,
        root: PathBuf,
        utterances: Vec<(Option<String>, Utterance)>,
    ) -> Result<Self> {
        if utterances.is_empty() {
            return Err(Error::Source {
                path: path.to_owned(),
                reason: "lists no audio files".to_owned(),
            });
        }
        Ok(Self { root, utterances })
    }
}

/// One line of a list.
#[derive(Debug)]
pub(crate) struct Utterance {
    pub(crate) name: String,
    /// Offset and length in bytes, if it is a range of the file.
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) label: RawLabel,
    pub(crate) facts: Facts,
}

/// Transcripts by utterance id, from lines of LibriSpeech's `*.trans.txt`:
/// `19-198-0000 NORTHANGER ABBEY`.
#[derive(Debug, Default)]
pub(crate) struct Transcripts(HashMap<String, String>);

impl Transcripts {
    pub(crate) fn read(&mut self, path: &Path) -> Result<()> {
        for line in read_text(path)?.lines() {
            if let Some((id, words)) = line.split_once(' ') {
                self.0.insert(id.to_owned(), words.trim().to_owned());
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the transcript of `…/<id>.flac`, and its speaker if the name contains one.
    pub(crate) fn facts(&mut self, name: &str) -> Facts {
        Facts::Speech {
            transcript: self.0.remove(stem(name)),
            speaker: speaker_of(name),
        }
    }
}

/// Returns the speaker of LibriSpeech's `<speaker>-<chapter>-<utterance>`, all numbers.
pub(super) fn speaker_of(name: &str) -> Option<String> {
    let parts: Vec<_> = stem(name).split('-').collect();
    let numbers = parts
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    (parts.len() == 3 && numbers).then(|| parts[0].to_owned())
}

fn stem(name: &str) -> &str {
    let base = name.rsplit('/').next().unwrap_or(name);
    base.rsplit_once('.').map_or(base, |(stem, _)| stem)
}

/// Reads a list of fairseq: a line with the root, then `path<TAB>frames` per utterance; a path may be
/// `file.zip:offset:length`. `None` if it is another kind of table. Transcripts come from the `.wrd`
/// file of the same name, or else from the `.ltr` file, line by line.
pub(crate) fn read_fairseq(path: &Path) -> Result<Option<UtteranceList>> {
    let text = read_text(path)?;
    let mut lines = lines(&text).into_iter();
    let root = match lines.next() {
        Some(root) if !root.contains('\t') => PathBuf::from(root),
        _ => return Ok(None),
    };
    let corrupt = |reason: String| Error::Corrupt {
        shard: path.display().to_string(),
        reason,
    };
    let mut utterances = Vec::new();
    for (i, line) in lines.enumerate() {
        let fields = line.split_once('\t');
        let Some((name, _)) = fields.filter(|(_, frames)| frames.trim().parse::<u64>().is_ok())
        else {
            let reason = format!("line {}: expected path, tab, frames; found `{line}`", i + 2);
            return Err(corrupt(reason));
        };
        let (name, range) = split_range(name);
        let facts = Facts::Speech {
            transcript: None,
            speaker: speaker_of(name),
        };
        let utterance = Utterance {
            name: name.to_owned(),
            range,
            label: RawLabel::None,
            facts,
        };
        utterances.push((None, utterance));
    }
    let (words, letters) = (path.with_extension("wrd"), path.with_extension("ltr"));
    let transcripts: Option<Vec<String>> = if words.is_file() {
        Some(
            read_text(&words)?
                .lines()
                .map(|line| line.trim().to_owned())
                .collect(),
        )
    } else if letters.is_file() {
        Some(
            read_text(&letters)?
                .lines()
                .map(transcript_of_ltr)
                .collect(),
        )
    } else {
        None
    };
    if let Some(mut transcripts) = transcripts {
        // A blank last line may be an utterance without words, unless there are too many lines.
        while transcripts.len() > utterances.len()
            && transcripts.last().is_some_and(String::is_empty)
        {
            transcripts.pop();
        }
        if transcripts.len() != utterances.len() {
            return Err(corrupt(format!(
                "{} audio files, but its .wrd or .ltr file has {} lines",
                utterances.len(),
                transcripts.len()
            )));
        }
        for ((_, utterance), words) in utterances.iter_mut().zip(transcripts) {
            if let Facts::Speech { transcript, .. } = &mut utterance.facts {
                *transcript = Some(words);
            }
        }
    }
    UtteranceList::new(path, root, utterances).map(Some)
}

/// Splits `a.zip:120:4000` into `a.zip`, and offset and length in bytes.
fn split_range(name: &str) -> (&str, Option<(u64, u64)>) {
    let mut parts = name.rsplitn(3, ':');
    let (length, offset, file) = (parts.next(), parts.next(), parts.next());
    match (file, offset.map(str::parse), length.map(str::parse)) {
        (Some(file), Some(Ok(offset)), Some(Ok(length))) => (file, Some((offset, length))),
        _ => (name, None),
    }
}

/// Converts a line of `.ltr`: `H I | Y O U |` becomes `HI YOU`.
fn transcript_of_ltr(letters: &str) -> String {
    let words = letters.replace(' ', "").replace('|', " ");
    words.trim().to_owned()
}

/// Returns the lines without the blank ones at the end, which editors leave.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines
}

/// Reads a text file, without the byte order mark that spreadsheets add.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_come_only_from_librispeech_names() {
        assert_eq!(speaker_of("19/198/19-198-0000.flac").as_deref(), Some("19"));
        assert_eq!(speaker_of("7_jackson_0.wav"), None);
        assert_eq!(speaker_of("a-b-c.wav"), None);
    }

    #[test]
    fn ltr_lines_and_zip_ranges_are_parsed() {
        assert_eq!(transcript_of_ltr("H I | Y O U |"), "HI YOU");
        assert_eq!(split_range("a/b.zip:12:34"), ("a/b.zip", Some((12, 34))));
        assert_eq!(split_range("a:b.flac"), ("a:b.flac", None));
    }
}
