//! The quarantine file: bad samples with reasons, one line of JSON each. Lines about a dataset that is
//! read are [`BadRowLine`], lines about a source that is written are [`BadSampleLine`].

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, SampleError};

/// Name of the file in a run directory, or in a dataset that was written.
pub const QUARANTINE_NAME: &str = "quarantine.jsonl";

/// A quarantine file that is appended to. It is created with the first bad sample.
///
/// An existing file is continued, so a resumed run keeps one list.
#[derive(Debug)]
pub(crate) struct Quarantine {
    path: PathBuf,
    file: Option<File>,
}

/// A bad row of a dataset.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BadRowLine {
    /// Path or URL of the dataset.
    set: String,
    /// Path of the shard, relative to the dataset.
    pub(crate) shard: String,
    /// Row in the shard, from 0.
    pub(crate) row: u64,
    /// Message of the [`SampleError`].
    reason: String,
}

/// A bad sample of a source that is written to a dataset.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BadSampleLine {
    /// Message of the [`SampleError`].
    pub(crate) reason: String,
    /// Location in the source, for example `train/rose/1.jpg` or `x.tar:0001.jpg`.
    pub(crate) sample: String,
}

impl Quarantine {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
        }
    }

    /// Writes one line, without a buffer, so that a killed run keeps it.
    pub(crate) fn add(
        &mut self,
        set: &str,
        shard: &str,
        row: u64,
        reason: &SampleError,
    ) -> Result<()> {
        let line = BadRowLine {
            set: set.to_owned(),
            shard: shard.to_owned(),
            row,
            reason: reason.to_string(),
        };
        self.write(&json_line(&line)).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                empty.insert(File::options().create(true).append(true).open(&self.path)?)
            }
        };
        file.write_all(line)
    }
}

/// Returns a line of the file, with its end.
pub(crate) fn json_line(line: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec(line).expect("strings and numbers always become JSON");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_appends_lines_of_json() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/quarantine.jsonl");
        let mut untouched = Quarantine::new(&path);
        assert!(!path.exists());
        untouched
            .add("data", "train-00000.parquet", 7, &SampleError::Empty)
            .expect("written");
        let reason = SampleError::Hash {
            expected: 1,
            found: 2,
        };
        Quarantine::new(&path)
            .add("data", "a \"b\".parquet", 8, &reason)
            .expect("written");

        let text = std::fs::read_to_string(&path).expect("a file");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["set"], "data");
        assert_eq!(lines[0]["row"], 7);
        assert_eq!(lines[1]["shard"], "a \"b\".parquet");
        assert!(
            lines[1]["reason"]
                .as_str()
                .expect("text")
                .contains("hash mismatch")
        );
    }

    #[test]
    fn add_fails_on_an_unwritable_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut quarantine = Quarantine::new(folder.path());
        let error = quarantine
            .add("data", "a.parquet", 0, &SampleError::Empty)
            .expect_err("a folder");
        assert!(
            error
                .to_string()
                .contains(&folder.path().display().to_string())
        );
    }
}
