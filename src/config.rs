//! A recipe: one TOML file that says everything about a run.

mod keys;

pub(crate) use keys::flatten;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use understudy_pipelines::DataConfig;
use understudy_pipelines::config::{MaskConfig, Modality, assign};
use understudy_pipelines::store::Folder;

use crate::model::EncoderConfig;
use crate::objective::ModelConfig;
use crate::optim::{EmaSchedule, OptimConfig};

/// A recipe, or the resolved config of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of the initial weights and of the randomness inside the model.
    pub seed: u64,
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Another run, or one of its checkpoints, whose student is the start of this one's student and teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Threads; resolved at the start and stored with the run.
    #[serde(default)]
    pub threads: Threads,
    /// Where samples come from and what becomes of them.
    pub data: DataConfig,
    /// The method and its encoder.
    pub model: ModelConfig,
    /// How the teacher follows the student.
    pub ema: EmaSchedule,
    /// The optimizer.
    pub optim: OptimConfig,
    /// When a run is given up.
    pub guard: GuardConfig,
    /// Logging, saving, micro-batches.
    pub train: TrainConfig,
}

/// Threads on the CPU. What is not set becomes the number of cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threads {
    /// For the model's arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<usize>,
    /// For decoding, augmentation and masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<usize>,
}

/// When a run is given up: the table `[guard]`. A loss that is not finite always ends it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// First step at which a collapse counts.
    pub from_step: u64,
    /// Least spread of the targets, `train/target_var`; 0 turns it off.
    pub min_target_var: f64,
    /// Least spread of the predictions, `train/pred_var`; 0 turns it off.
    pub min_pred_var: f64,
    /// Least spread of the local features, `train/local_var`; 0 turns it off.
    pub min_local_var: f64,
}

/// Logging, saving, micro-batches: the table `[train]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Micro-batches that a step is computed in; divides `data.lanes`.
    pub micro_batches: usize,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Checkpoints at multiples of this step are kept; else only the newest two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every_steps: Option<u64>,
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A store did not give it.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// Not TOML, an unknown key or a wrong type: the parser's words, with line and caret.
    #[error("{path}:\n{reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// A `--set` that is not `key=value` or does not fit.
    #[error("--set {assignment}: {reason}")]
    Set {
        /// What was typed.
        assignment: String,
        /// Why it does not work.
        reason: String,
    },
    /// Values that cannot work, all of them at once.
    #[error("{path}: {} to mend:\n{}", count(.problems), .problems.join("\n"))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// `key: what is wrong`, one each.
        problems: Vec<String>,
    },
}

fn count(problems: &[String]) -> String {
    match problems.len() {
        1 => "one thing".to_owned(),
        n => format!("{n} things"),
    }
}

impl Threads {
    /// Sets what is not set to the number of cores.
    pub fn resolve(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.compute.get_or_insert(cores);
        self.data.get_or_insert(cores);
    }
}

impl RunConfig {
    /// Reads the recipe at `path`, applies `assignments` (`a.b=value`) and validates.
    pub fn load(path: &Path, assignments: &[String]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text, assignments)
    }

    /// [`RunConfig::load`]s the file `name` of a folder, which may lie in a store.
    pub fn load_in(
        folder: &Folder,
        name: &str,
        assignments: &[String],
    ) -> Result<Self, ConfigError> {
        let path = PathBuf::from(folder.url_of(name));
        let text = folder.read(name)?.ok_or_else(|| ConfigError::Io {
            path: path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        Self::parse(&path, &String::from_utf8_lossy(&text), assignments)
    }

    /// As [`RunConfig::load`], from text; `path` is for messages.
    pub fn parse(path: &Path, text: &str, assignments: &[String]) -> Result<Self, ConfigError> {
        let parse = |error: toml::de::Error| ConfigError::Parse {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        // The plain file first: only its own text gives errors with line and caret.
        let mut config: Self = toml::from_str(text).map_err(parse)?;
        if !assignments.is_empty() {
            let mut table: toml::Table = toml::from_str(text).map_err(parse)?;
            for assignment in assignments {
                assign(&mut table, assignment).map_err(|reason| ConfigError::Set {
                    assignment: assignment.clone(),
                    reason,
                })?;
            }
            config = table
                .try_into()
                .map_err(|error: toml::de::Error| ConfigError::Set {
                    assignment: assignments.join(" --set "),
                    reason: error.to_string(),
                })?;
        }
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid {
                path: path.to_owned(),
                problems,
            })
        }
    }

    /// Everything that cannot work, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = flatten(self)
            .into_iter()
            .filter(|(_, value)| !is_finite(value))
            .map(|(key, value)| format!("{key}: must be finite, is {value}"))
            .collect();
        problems.extend(self.data.problems());
        let of_model = self.model.problems();
        if of_model.is_empty() {
            problems.extend(self.misfits());
        }
        problems.extend(of_model);
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(self.steps > 0, "steps: must be at least 1".to_owned());
        let [beta1, beta2] = self.optim.betas;
        check(
            (0.0..1.0).contains(&beta1) && (0.0..1.0).contains(&beta2),
            format!("optim.betas: must lie in [0, 1), are {beta1} and {beta2}"),
        );
        check(
            self.optim.lr > 0.0,
            format!("optim.lr: must be above 0, is {}", self.optim.lr),
        );
        check(
            self.optim.clip_norm.is_none_or(|norm| norm > 0.0),
            "optim.clip_norm: must be above 0; leave it out for no clipping".to_owned(),
        );
        check(
            self.optim.weight_decay >= 0.0,
            format!(
                "optim.weight_decay: must be at least 0, is {}",
                self.optim.weight_decay
            ),
        );
        check(
            self.optim.eps > 0.0,
            format!("optim.eps: must be above 0, is {}", self.optim.eps),
        );
        let (schedule, name) = (&self.optim.schedule, self.optim.schedule.name());
        check(
            schedule.warmup_steps() < self.steps,
            format!(
                "optim.schedule.{name}.warmup_steps: {} of {} steps leave none after the warm-up",
                schedule.warmup_steps(),
                self.steps
            ),
        );
        for problem in schedule.problems() {
            check(false, format!("optim.schedule.{name}.{problem}"));
        }
        for (key, decay) in [("decay", self.ema.decay), ("end_decay", self.ema.end_decay)] {
            check(
                (0.0..=1.0).contains(&decay),
                format!("ema.{key}: must lie in [0, 1], is {decay}"),
            );
        }
        for (key, value) in [
            ("log_every", self.train.log_every),
            ("save_every", self.train.save_every),
            ("keep_every_steps", self.train.keep_every_steps.unwrap_or(1)),
        ] {
            check(value > 0, format!("train.{key}: must be at least 1"));
        }
        let n = self.train.micro_batches;
        check(
            n > 0 && self.data.lanes.is_multiple_of(n),
            format!(
                "train.micro_batches: {n} does not divide data.lanes = {}",
                self.data.lanes
            ),
        );
        check(
            self.data.audio.is_none() || n == self.data.lanes,
            format!(
                "train.micro_batches: {n}, but recordings of different lengths come lane by lane: \
                 data.lanes = {}",
                self.data.lanes
            ),
        );
        for (key, value) in [
            ("compute", self.threads.compute),
            ("data", self.threads.data),
        ] {
            check(
                value != Some(0),
                format!("threads.{key}: must be at least 1"),
            );
        }
        problems
    }

    /// Where data and model do not fit each other.
    fn misfits(&self) -> Vec<String> {
        let mut problems = Vec::new();
        // Without these there are problems enough.
        let (Some(modality), true) = (self.data.modality(), self.model.problems().is_empty())
        else {
            return problems;
        };
        let mut same = |key: &str, data: usize, what: &str, model: usize| {
            if data != model {
                problems.push(format!("{key}: {data}, but the model's {what} is {model}"));
            }
        };
        match (modality, self.model.encoder()) {
            (Modality::Image(image), EncoderConfig::Beit(_) | EncoderConfig::Vit(_)) => {
                let side = self.model.image_size().unwrap_or(0);
                same("data.image.size", image.size as usize, "image_size", side);
                let patches = self.model.grid().unwrap_or(0);
                let grid = self.data.mask.grid().unwrap_or(0);
                same(
                    "data.mask: grid",
                    grid,
                    "number of patches per side",
                    patches,
                );
            }
            (Modality::Audio(audio), EncoderConfig::Audio(model)) => {
                let (window, hop) = (audio.window_frames, audio.hop_frames);
                let what = "extractor's window";
                same(
                    "data.audio.window_frames",
                    window,
                    what,
                    model.window_frames(),
                );
                same(
                    "data.audio.hop_frames",
                    hop,
                    "extractor's hop",
                    model.hop_frames(),
                );
            }
            (Modality::Text(text), EncoderConfig::Text(model)) => {
                if text.max_tokens > model.max_tokens {
                    problems.push(format!(
                        "data.text.max_tokens: {}, but the model has positions for {}",
                        text.max_tokens, model.max_tokens
                    ));
                }
            }
            (modality, encoder) => problems.push(format!(
                "model: its encoder is of {}, but the data are {}",
                encoder.table(),
                modality.name()
            )),
        }
        let (is_v1, takes) = match &self.model {
            ModelConfig::Data2vec1(_) => (true, "beit_block, spans, token_spans or bert"),
            ModelConfig::Data2vec2(_) => (false, "inverse_block, blocks or tokens"),
        };
        let mask = &self.data.mask;
        let for_v1 = match mask {
            MaskConfig::BeitBlock(_)
            | MaskConfig::Spans(_)
            | MaskConfig::TokenSpans(_)
            | MaskConfig::Bert(_) => true,
            MaskConfig::InverseBlock(_) | MaskConfig::Blocks(_) | MaskConfig::Tokens(_) => false,
        };
        if is_v1 != for_v1 {
            problems.push(format!(
                "data.mask: {} masks, but {} takes {takes}",
                mask.name(),
                if is_v1 { "data2vec1" } else { "data2vec2" }
            ));
        }
        problems
    }

    /// The config as TOML, as it is stored with a run.
    ///
    /// # Panics
    ///
    /// Never: a config holds only what TOML can say.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a config holds only what TOML can say")
    }
}

/// Whether a value, or all of a list, is a finite number or none: what compares numbers lets
/// infinities through, and switches off at a NaN.
fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(number) => number.is_finite(),
        toml::Value::Array(items) => items.iter().all(is_finite),
        _ => true,
    }
}
