//! Manifests of audio files: tables (`manifest.tsv`, Hugging Face's `metadata.csv`) and JSON lines.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::write::classes::RawLabel;
use crate::write::discover::file_names::ends_in;
use crate::write::sample::{ColumnMap, Facts};
use crate::write::source::speech_corpora::{
    Utterance, UtteranceList, lines, read_text, speaker_of,
};
use crate::{Error, Result};

/// File names of manifests; the first that exists is read.
pub(crate) const MANIFESTS: [&str; 6] = [
    "manifest.tsv",
    "manifest.csv",
    "manifest.jsonl",
    "metadata.tsv",
    "metadata.csv",
    "metadata.jsonl",
];
/// Column names of the transcript, best first.
pub(crate) const TRANSCRIPT: [&str; 4] = ["transcript", "transcription", "text", "sentence"];
/// Column names of the speaker, best first.
pub(crate) const SPEAKER: [&str; 3] = ["speaker", "speaker_id", "client_id"];
const LABEL: [&str; 2] = ["label", "class"];
const NAME: [&str; 5] = ["path", "file_name", "file", "audio_filepath", "audio"];
const SPLIT: [&str; 1] = ["split"];

/// Reads a table with a header line (`.tsv`, `.csv`) or one JSON object per line. File names are
/// relative to its folder.
pub(crate) fn read_manifest(path: &Path, columns: &ColumnMap) -> Result<UtteranceList> {
    let text = read_text(path)?;
    let rows = if ends_in(path, &[".jsonl"]) {
        json_rows(path, &text)?
    } else if ends_in(path, &[".csv"]) {
        table_rows(path, comma_records(&text))?
    } else {
        let fields = |line: &str| line.split('\t').map(str::to_owned).collect();
        table_rows(path, lines(&text).into_iter().map(fields).collect())?
    };
    let mut utterances = Vec::new();
    for (i, row) in rows.into_iter().enumerate() {
        let get = |ours: &str, others: &[&str]| -> Option<String> {
            let value = match columns.get(ours) {
                Some(named) => row.get(named.as_str()),
                None => others.iter().find_map(|name| row.get(*name)),
            };
            value.filter(|value| !value.is_empty()).cloned()
        };
        let Some(name) = get("audio", &NAME) else {
            return Err(Error::Corrupt {
                shard: path.display().to_string(),
                reason: format!(
                    "entry {}: no file name in any of the columns {}\nhint: name the column with --columns \
                     audio=NAME",
                    i + 1,
                    NAME.join(", ")
                ),
            });
        };
        let label = get("label", &LABEL).map_or(RawLabel::None, |label| RawLabel::of_text(&label));
        let facts = Facts::Speech {
            transcript: get("transcript", &TRANSCRIPT),
            speaker: get("speaker", &SPEAKER).or_else(|| speaker_of(&name)),
        };
        let utterance = Utterance {
            name,
            range: None,
            label,
            facts,
        };
        utterances.push((get("split", &SPLIT), utterance));
    }
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    UtteranceList::new(path, root, utterances)
}

type ManifestRow = HashMap<String, String>;

/// Returns each record by the column names in the first.
fn table_rows(path: &Path, records: Vec<Vec<String>>) -> Result<Vec<ManifestRow>> {
    let mut records = records.into_iter();
    let names = records.next().unwrap_or_default();
    let row = |(i, record): (usize, Vec<String>)| {
        if record.len() == names.len() {
            return Ok(names.iter().cloned().zip(record).collect());
        }
        Err(Error::Corrupt {
            shard: path.display().to_string(),
            reason: format!(
                "record {}: {} fields, but the first line has {} names",
                i + 1,
                record.len(),
                names.len()
            ),
        })
    };
    records.enumerate().map(row).collect()
}

/// Parses the records of a CSV file (RFC 4180): a field may be quoted, with quotes inside doubled.
fn comma_records(text: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let (mut record, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            _ => field.push(character),
        }
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    records.retain(|record| record.len() > 1 || record.iter().any(|field| !field.is_empty()));
    records
}

fn json_rows(path: &Path, text: &str) -> Result<Vec<ManifestRow>> {
    let lines = text.lines().enumerate();
    let rows = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| {
            let row: serde_json::Map<String, Value> =
                serde_json::from_str(line).map_err(|error| Error::Corrupt {
                    shard: path.display().to_string(),
                    reason: format!("line {}: {error}", i + 1),
                })?;
            let texts = row.into_iter().map(|(key, value)| match value {
                Value::String(text) => (key, text),
                Value::Null => (key, String::new()),
                other => (key, other.to_string()),
            });
            Ok(texts.collect())
        });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_may_contain_commas_and_line_breaks() {
        let text = "a,b\r\n\"x, \"\"y\"\"\nz\",2\n\n,\"\"";
        let expected = [["a", "b"], ["x, \"y\"\nz", "2"], ["", ""]];
        assert_eq!(comma_records(text), expected);
    }
}
