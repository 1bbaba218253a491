//! `metrics.jsonl`: one JSON object per logged step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::Serialize;

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

/// The open file.
pub(super) struct MetricsFile {
    file: File,
}

impl MetricsFile {
    /// Opens `path` to go on after `step`: lines of later steps, from before an interruption, go.
    pub(super) fn open(path: &Path, step: u64) -> io::Result<Self> {
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
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file })
    }

    /// Appends one line.
    pub(super) fn write(&mut self, metrics: &Metrics) -> io::Result<()> {
        let mut line = serde_json::to_string(metrics)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_resumed_step_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st").expect("written");
        drop(MetricsFile::open(&path, 2).expect("opened"));
        assert_eq!(
            fs::read_to_string(&path).expect("read"),
            "{\"step\":1}\n{\"step\":2}\n"
        );
    }
}
