//! Names in a run directory, a checkpoint and an imported model.
//!
//! ```text
//! runs/NAME/
//!   config.toml                       resolved config; `understudy train` resumes with it
//!   metrics.jsonl                     one line per logged step
//!   quarantine.jsonl                  bad samples, with reasons
//!   lock                              lease of the process that trains
//!   evaluate-step-N-WEIGHTS.json      table of `understudy evaluate`
//!   checkpoints/step-NNNNNNNNN/
//!     student.safetensors  teacher.safetensors  optimizer.safetensors  config.toml  state.json
//! ```
//!
//! In object storage, where nothing can be appended to a file, `metrics/step-NNNNNNNNN.jsonl` take
//! the place of `metrics.jsonl`. An imported model has `config.toml`, `student.safetensors`,
//! possibly `teacher.safetensors` and `heads.safetensors`, and the folder `hugging_face`.

/// Student parameters, in a checkpoint or an imported model.
pub const STUDENT: &str = "student.safetensors";
/// Teacher parameters, in a checkpoint or an imported model.
pub const TEACHER: &str = "teacher.safetensors";
/// Optimizer moments of a checkpoint, `NAME.m` and `NAME.v`.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Heads of an imported fine-tuned model.
pub const HEADS: &str = "heads.safetensors";
/// Small files (labels, tokenizer, processor) of an imported Hugging Face model.
pub const HUGGING_FACE: &str = "hugging_face";
/// Config of a run, a checkpoint or an imported model.
pub const CONFIG: &str = "config.toml";
/// Step and data of a checkpoint, see [`CheckpointState`](super::CheckpointState).
pub const STATE: &str = "state.json";

/// Files of a complete checkpoint.
pub(crate) const CHECKPOINT_FILES: [&str; 5] = [STUDENT, TEACHER, OPTIMIZER, CONFIG, STATE];

/// Folder of a run's checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// Metrics of a run on a local disk.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// Folder of the metrics of a run in object storage.
pub(crate) const METRICS_DIR: &str = "metrics";
/// Lease of the process that trains.
pub(crate) const LOCK: &str = "lock";

/// Returns the folder name of the checkpoint at `step`.
pub(crate) fn checkpoint_dir(step: u64) -> String {
    format!("step-{step:09}")
}

/// Returns the step of a checkpoint's folder name; `None` for any other name.
pub(crate) fn checkpoint_step(dir: &str) -> Option<u64> {
    dir.strip_prefix("step-")?.parse().ok()
}

/// Returns the name below [`METRICS_DIR`] of the lines up to `step`.
pub(crate) fn metrics_file(step: u64) -> String {
    format!("{}.jsonl", checkpoint_dir(step))
}

/// Returns the last step of a file below [`METRICS_DIR`]; `None` for any other name.
pub(crate) fn metrics_step(file: &str) -> Option<u64> {
    checkpoint_step(file.strip_suffix(".jsonl")?)
}

/// Returns the name of an evaluation's table: `checkpoint` is the checkpoint's folder name,
/// `weights` is `teacher` or `student`.
pub(crate) fn evaluation_file(checkpoint: &str, weights: &str, of_frames: bool) -> String {
    let of = if of_frames { "-frames" } else { "" };
    format!("evaluate-{checkpoint}-{weights}{of}.json")
}
