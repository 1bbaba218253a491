//! Checks a config: everything that cannot work, with the key that a user can set.

use serde::Serialize;
use understudy_pipelines::DataConfig;
use understudy_pipelines::config::{MaskConfig, MediaConfig};

use super::{PretrainedConfig, RunConfig, Threads, flatten};
use crate::model::EncoderConfig;
use crate::objective::ModelConfig;

/// Upper bound of threads: more than any machine has cores.
const MOST_THREADS: usize = 4096;
/// Upper bound of steps: names of checkpoints have nine digits.
const MOST_STEPS: u64 = 999_999_999;

impl PretrainedConfig {
    /// Lists every problem, as `key: problem`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = non_finite(self);
        problems.extend(of_encoder(&self.data, &self.model, &self.threads));
        problems
    }
}

impl RunConfig {
    /// Lists every problem, as `key: problem`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = non_finite(self);
        problems.extend(of_encoder(&self.data, &self.model, &self.threads));
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(
            (1..=MOST_STEPS).contains(&self.steps),
            format!("steps: must be in 1–{MOST_STEPS}, is {}", self.steps),
        );
        let [beta1, beta2] = self.optim.betas;
        check(
            (0.0..1.0).contains(&beta1) && (0.0..1.0).contains(&beta2),
            format!("optim.betas: must be in [0, 1), are {beta1} and {beta2}"),
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
        check(
            schedule.last_stage_steps() <= MOST_STEPS,
            format!("optim.schedule.{name}: its stages are more than {MOST_STEPS} steps"),
        );
        for problem in schedule.problems() {
            check(false, format!("optim.schedule.{name}.{problem}"));
        }
        for (key, decay) in [("decay", self.ema.decay), ("end_decay", self.ema.end_decay)] {
            check(
                (0.0..=1.0).contains(&decay),
                format!("ema.{key}: must be in [0, 1], is {decay}"),
            );
        }
        for (key, value) in [
            ("log_every", self.train.log_every),
            ("save_every", self.train.save_every),
            ("save_every_secs", self.train.save_every_secs),
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
                "train.micro_batches: {n}, but must equal data.lanes = {}: audio of different lengths is \
                 cropped lane by lane",
                self.data.lanes
            ),
        );
        problems
    }
}

/// Lists the problems of the tables that readers of an encoder need too.
fn of_encoder(data: &DataConfig, model: &ModelConfig, threads: &Threads) -> Vec<String> {
    let mut problems = data.problems();
    let of_model = model.problems();
    if of_model.is_empty() {
        problems.extend(misfits(data, model));
    }
    problems.extend(of_model);
    for (key, value) in [("compute", threads.compute), ("data", threads.data)] {
        if let Some(n) = value.filter(|n| !(1..=MOST_THREADS).contains(n)) {
            problems.push(format!(
                "threads.{key}: must be in 1–{MOST_THREADS}, is {n}"
            ));
        }
    }
    problems
}

/// Lists where `[data]` and a valid `[model]` do not fit each other.
fn misfits(data: &DataConfig, model: &ModelConfig) -> Vec<String> {
    let mut problems = Vec::new();
    // A missing table is reported by the check of `[data]`.
    let Some(media) = data.media() else {
        return problems;
    };
    let mut same = |key: &str, of_data: usize, what: &str, of_model: usize| {
        if of_data != of_model {
            problems.push(format!(
                "{key}: {of_data}, but the model's {what} is {of_model}"
            ));
        }
    };
    match (media, model.encoder()) {
        (MediaConfig::Image(image), EncoderConfig::Beit(_) | EncoderConfig::Vit(_)) => {
            let side = model.image_size().unwrap_or(0);
            same("data.image.size", image.size as usize, "image_size", side);
            let patches = model.grid().unwrap_or(0);
            let grid = data.mask.grid().unwrap_or(0);
            same(
                &format!("data.mask.{}.grid", data.mask.name()),
                grid,
                "number of patches per side",
                patches,
            );
        }
        (MediaConfig::Audio(audio), EncoderConfig::Audio(encoder)) => {
            let (window, hop) = (audio.window_frames, audio.hop_frames);
            let what = "extractor's window";
            same(
                "data.audio.window_frames",
                window,
                what,
                encoder.window_frames(),
            );
            same(
                "data.audio.hop_frames",
                hop,
                "extractor's hop",
                encoder.hop_frames(),
            );
        }
        (MediaConfig::Text(text), EncoderConfig::Text(encoder)) => {
            if text.max_tokens > encoder.max_tokens {
                problems.push(format!(
                    "data.text.max_tokens: {}, but the model has positions for {}",
                    text.max_tokens, encoder.max_tokens
                ));
            }
        }
        (media, encoder) => problems.push(format!(
            "model: its encoder takes {}, but the data are {}",
            encoder.table(),
            media.modality().name()
        )),
    }
    let (is_v1, takes) = match model {
        ModelConfig::Data2vec1(_) => (true, "beit_block, spans, token_spans or bert"),
        ModelConfig::Data2vec2(_) => (false, "inverse_block, blocks or tokens"),
    };
    let mask = &data.mask;
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

/// Lists the numbers that are not finite.
fn non_finite(config: &impl Serialize) -> Vec<String> {
    flatten(config)
        .into_iter()
        .filter(|(_, value)| !is_finite(value))
        .map(|(key, value)| format!("{key}: must be finite, is {value}"))
        .collect()
}

/// Returns false for a number, or a list with a number, that is not finite: comparisons let
/// infinities pass and fail silently at NaN.
fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(number) => number.is_finite(),
        toml::Value::Array(items) => items.iter().all(is_finite),
        _ => true,
    }
}
