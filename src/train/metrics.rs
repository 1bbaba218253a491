//! `metrics.jsonl`: one JSON object per logged step.
//!
//! Nothing can be appended to an object in a store. There the lines come in pieces, one before each
//! checkpoint, named by its step: in the order of their names they are the one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::Serialize;
use understudy_pipelines::Error;
use understudy_pipelines::store::Folder;

/// One line. Names are `group/name`; times in seconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Metrics {
    /// Optimizer steps done.
    pub step: u64,
    /// Loss per masked patch, as the method defines it, of this step.
    #[serde(rename = "train/loss")]
    pub loss: f32,
    /// Its regression part.
    #[serde(rename = "train/regression")]
    pub regression: f32,
    /// Its class-token part (data2vec 2.0 images).
    #[serde(rename = "train/cls", skip_serializing_if = "Option::is_none")]
    pub cls: Option<f32>,
    /// Spread of the targets: mean over dimensions of their standard deviation.
    #[serde(rename = "train/target_var")]
    pub target_var: f32,
    /// Spread of the predictions.
    #[serde(rename = "train/pred_var")]
    pub pred_var: f32,
    /// Spread of the local features, before any block.
    #[serde(rename = "train/local_var")]
    pub local_var: f32,
    /// Global norm of the gradients before clipping.
    #[serde(rename = "train/grad_norm")]
    pub grad_norm: f32,
    /// Learning rate.
    #[serde(rename = "optim/lr")]
    pub lr: f64,
    /// EMA decay τ.
    #[serde(rename = "ema/decay")]
    pub decay: f64,
    /// Samples per second since the last line.
    #[serde(rename = "train/samples_per_sec")]
    pub samples_per_sec: f64,
    /// Seconds of that time spent waiting for data.
    #[serde(rename = "data/wait_secs")]
    pub wait_secs: f64,
    /// Bad samples so far.
    #[serde(rename = "data/bad_samples")]
    pub bad_samples: usize,
}

/// The lines of a run.
pub(super) enum MetricsLog {
    /// Of a run on this machine.
    File(File),
    /// Of a run in a store.
    Pieces {
        /// The pieces that are there.
        folder: Folder,
        /// Lines that are in none of them.
        waiting: Vec<u8>,
    },
}

impl MetricsLog {
    /// Opens those of `run` to go on after `step`: lines of later steps, from before an
    /// interruption, go.
    pub(super) fn open(run: &Folder, step: u64) -> Result<Self, Error> {
        if let Some(run) = run.local() {
            let path = run.join("metrics.jsonl");
            let file = open_file(&path, step);
            let file = file.map_err(|source| Error::Io { path, source })?;
            return Ok(Self::File(file));
        }
        let folder = run.join("metrics");
        let pieces = folder.files()?.into_iter().map(|(name, _)| name);
        let is_later = |name: &String| {
            let of = name
                .strip_prefix("step-")
                .and_then(|name| name.strip_suffix(".jsonl"));
            of.and_then(|of| of.parse::<u64>().ok())
                .is_some_and(|of| of > step)
        };
        folder.remove(&pieces.filter(is_later).collect::<Vec<_>>())?;
        let waiting = Vec::new();
        Ok(Self::Pieces { folder, waiting })
    }

    /// Adds one line.
    pub(super) fn write(&mut self, metrics: &Metrics) -> io::Result<()> {
        let mut line = serde_json::to_vec(metrics)?;
        line.push(b'\n');
        match self {
            Self::File(file) => file.write_all(&line),
            Self::Pieces { waiting, .. } => {
                waiting.extend(line);
                Ok(())
            }
        }
    }

    /// Brings the lines up to `step` to a store, if that is where the run lies.
    pub(super) fn send(&mut self, step: u64) -> Result<(), Error> {
        if let Self::Pieces { folder, waiting } = self
            && !waiting.is_empty()
        {
            folder.write(&format!("step-{step:09}.jsonl"), waiting.clone())?;
            waiting.clear();
        }
        Ok(())
    }
}

fn open_file(path: &Path, step: u64) -> io::Result<File> {
    if path.exists() {
        let mut kept = String::new();
        for line in BufReader::new(File::open(path)?).lines() {
            let line = line?;
            // A line that is cut short was being written when the process ended.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else {
                continue;
            };
            if value["step"].as_u64().is_some_and(|at| at <= step) {
                kept.push_str(&line);
                kept.push('\n');
            }
        }
        let partial = path.with_extension("jsonl.partial");
        fs::write(&partial, kept)?;
        fs::rename(&partial, path)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_resumed_step_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st").expect("written");
        drop(MetricsLog::open(&folder.path().into(), 2).expect("opened"));
        assert_eq!(
            fs::read_to_string(&path).expect("read"),
            "{\"step\":1}\n{\"step\":2}\n"
        );
    }
}
