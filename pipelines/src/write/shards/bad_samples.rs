//! The quarantine file of a dataset that is being written: one JSON object per bad sample.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::quarantine::{BadSampleLine, json_line};
use crate::write::sample::BadSample;
use crate::{Error, Result};

/// Appends bad samples to the quarantine file.
#[derive(Debug)]
pub(crate) struct BadSamples {
    path: PathBuf,
    file: Option<File>,
    /// Length of the file in bytes.
    pub(crate) bytes: u64,
    /// Bad samples so far.
    pub(crate) count: u64,
}

impl BadSamples {
    /// Resumes after the bad samples of finished shards. Later lines are truncated, because their samples
    /// are read again.
    pub(crate) fn resume(path: PathBuf, bytes: u64, count: u64) -> Result<Self> {
        let mut this = Self {
            path,
            file: None,
            bytes,
            count,
        };
        if this.path.exists() {
            let file = File::options()
                .append(true)
                .open(&this.path)
                .map_err(|e| this.io(e))?;
            file.set_len(bytes).map_err(|e| this.io(e))?;
            this.file = Some(file);
        }
        Ok(this)
    }

    /// Appends one line.
    pub(crate) fn add(&mut self, bad: &BadSample) -> Result<()> {
        let line = json_line(&BadSampleLine {
            reason: bad.reason.to_string(),
            sample: bad.place.clone(),
        });
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                let file = File::options().create(true).append(true).open(&self.path);
                let path = &self.path;
                empty.insert(file.map_err(|source| Error::Io {
                    path: path.clone(),
                    source,
                })?)
            }
        };
        file.write_all(&line).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })?;
        self.bytes += line.len() as u64;
        self.count += 1;
        Ok(())
    }

    /// Returns place and reason of the first bad sample.
    pub(crate) fn first(path: &Path) -> Result<Option<(String, String)>> {
        let text = read_if_exists(path)?.unwrap_or_default();
        let Some(line) = text.split(|byte| *byte == b'\n').find(|l| !l.is_empty()) else {
            return Ok(None);
        };
        let line: BadSampleLine = serde_json::from_slice(line).map_err(|error| Error::Corrupt {
            shard: path.display().to_string(),
            reason: format!("{error}\nhint: delete the dataset's folder and write it again"),
        })?;
        Ok(Some((line.sample, line.reason)))
    }

    /// Counts the bad samples of a finished dataset.
    pub(crate) fn count(path: &Path) -> Result<u64> {
        let text = read_if_exists(path)?.unwrap_or_default();
        Ok(text.split_inclusive(|byte| *byte == b'\n').count() as u64)
    }

    /// Removes the file of an earlier run if no line is left in it.
    pub(crate) fn finish(self) -> Result<()> {
        match &self.file {
            Some(_) if self.bytes == 0 => fs::remove_file(&self.path).map_err(|e| self.io(e)),
            _ => Ok(()),
        }
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Reads a local file; `None` if it does not exist.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
