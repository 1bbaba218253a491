//! `metrics.jsonl`: one JSON object per logged step.
//!
//! Nothing can be appended to an object in object storage. There each checkpoint brings one more
//! file, named by its step: concatenated in the order of their names they are `metrics.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use understudy_pipelines::Error;
use understudy_pipelines::store::Folder;

use crate::checkpoint::layout::{METRICS, METRICS_DIR, metrics_file, metrics_step};

/// Metrics that a training step computes on the device, read back to the host.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct StepMetrics {
    /// Optimizer steps done.
    pub step: u64,
    /// Loss per masked position, as the objective defines it.
    #[serde(rename = "train/loss")]
    pub loss: f32,
    /// Regression term of the loss.
    #[serde(rename = "train/regression")]
    pub regression: f32,
    /// Class-token term of the loss (data2vec 2.0 images).
    #[serde(rename = "train/cls", skip_serializing_if = "Option::is_none")]
    pub cls: Option<f32>,
    /// Mean over dimensions of the targets' standard deviation.
    #[serde(rename = "train/target_var")]
    pub target_var: f32,
    /// The same of the predictions.
    #[serde(rename = "train/pred_var")]
    pub pred_var: f32,
    /// The same of the local features, before any block.
    #[serde(rename = "train/local_var")]
    pub local_var: f32,
    /// Global norm of the gradients before clipping.
    #[serde(rename = "train/grad_norm")]
    pub grad_norm: f32,
    /// Learning rate of the step.
    #[serde(rename = "optim/lr")]
    pub lr: f64,
    /// EMA decay τ.
    #[serde(rename = "ema/decay")]
    pub decay: f64,
    /// The first step since the last reading whose loss or gradient norm was not finite, and which
    /// of them.
    #[serde(skip)]
    pub non_finite: Option<(u64, &'static str)>,
}

/// One line of `metrics.jsonl`. Names are `group/name`, times are in seconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct MetricsLine {
    /// Metrics of the step.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// Samples per second since the last line.
    #[serde(rename = "train/samples_per_sec")]
    pub samples_per_sec: f64,
    /// Seconds of that time spent waiting for data.
    #[serde(rename = "data/wait_secs")]
    pub wait_secs: f64,
    /// Bad samples so far.
    #[serde(rename = "data/bad_samples")]
    pub bad_samples: usize,
    /// Wall-clock time, in seconds since 1970.
    #[serde(rename = "time/unix_secs")]
    pub unix_secs: u64,
}

/// Returns the wall-clock time, in seconds since 1970.
pub(super) fn unix_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Writer of a run's metrics.
pub(super) enum MetricsLog {
    /// Appends to the file of a local run.
    File(File),
    /// Collects lines and uploads one file per checkpoint.
    Upload {
        /// Folder of the uploaded files.
        folder: Folder,
        /// Lines that are not uploaded yet.
        pending: Vec<u8>,
    },
}

impl MetricsLog {
    /// Opens the log of `run` to continue after `step`: removes lines of later steps, written
    /// before an interruption.
    pub(super) fn open(run: &Folder, step: u64) -> Result<Self, Error> {
        if let Some(run) = run.local() {
            let path = run.join(METRICS);
            let file = open_file(&path, step);
            let file = file.map_err(|source| Error::Io { path, source })?;
            return Ok(Self::File(file));
        }
        let folder = run.join(METRICS_DIR);
        let files = folder.files()?.into_iter().map(|(name, _)| name);
        let is_later = |name: &String| metrics_step(name).is_some_and(|last| last > step);
        folder.remove(&files.filter(is_later).collect::<Vec<_>>())?;
        let pending = Vec::new();
        Ok(Self::Upload { folder, pending })
    }

    /// Adds one line.
    pub(super) fn write(&mut self, metrics: &MetricsLine) -> io::Result<()> {
        let mut line = serde_json::to_vec(metrics)?;
        line.push(b'\n');
        match self {
            Self::File(file) => file.write_all(&line),
            Self::Upload { pending, .. } => {
                pending.extend(line);
                Ok(())
            }
        }
    }

    /// Uploads the pending lines up to `step`, if the run is in object storage.
    pub(super) fn upload(&mut self, step: u64) -> Result<(), Error> {
        if let Self::Upload { folder, pending } = self
            && !pending.is_empty()
        {
            folder.write(&metrics_file(step), pending.clone())?;
            pending.clear();
        }
        Ok(())
    }
}

/// Opens `metrics.jsonl` for appending and removes lines after `step`.
fn open_file(path: &Path, step: u64) -> io::Result<File> {
    if path.exists() {
        let mut kept = Vec::new();
        for line in fs::read(path)?.split(|&byte| byte == b'\n') {
            // A truncated line was being written when the process ended; a disk may damage another.
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else {
                continue;
            };
            if value["step"].as_u64().is_some_and(|at| at <= step) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
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

    fn kept_up_to_2(lines: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, lines).expect("written");
        drop(MetricsLog::open(&folder.path().into(), 2).expect("opened"));
        fs::read_to_string(&path).expect("UTF-8")
    }

    #[test]
    fn resume_removes_later_lines() {
        let kept = kept_up_to_2(b"{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
        assert_eq!(kept, "{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn resume_removes_damaged_lines() {
        let kept = kept_up_to_2(b"{\"step\":1}\n{\"step\":\xff2}\n\0\0\n{\"step\":2}\n{\"st");
        assert_eq!(kept, "{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn line_has_the_wall_clock_time() {
        // Some time in 2025 to 2100.
        assert!((1_735_000_000..4_102_444_800).contains(&unix_secs()));
    }
}
