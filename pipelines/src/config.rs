//! The table `[data]` of a recipe: where samples come from and what becomes of them.

mod assign;
mod media;
mod train;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::assign::assign;
pub use self::media::{AudioConfig, Filter, ImageConfig, TextConfig};
pub use self::train::{MixedSet, Share, TrainSets};
pub use self::units::parse_bytes;
pub use crate::limits::Limits;
pub use crate::mask::MaskConfig;
use crate::store::{CacheOptions, StoreOptions};
use crate::{Error, Result};

/// Where samples come from and what becomes of them: the table `[data]`.
///
/// Exactly one of `image`, `audio` and `text` says what a sample is, and exactly one of `batch`,
/// `batch_seconds` and `batch_tokens` how large a step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The training set: a folder or file of shards, as a path or URL. Or a list of several with
    /// their shares, `[[data.train]]`.
    pub train: TrainSets,
    /// The validation set, for `understudy evaluate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// Our name of a column → its name in the shards, for sets that use others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Seed of order, crops and masks.
    pub seed: u64,
    /// Samples per optimizer step, over all ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Seconds of audio per optimizer step at most, over all ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_seconds: Option<f64>,
    /// Tokens per optimizer step at most, over all ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<u64>,
    /// Streams that an epoch is split into; divides `batch`, and the number of ranks divides it.
    pub lanes: usize,
    /// Chunks (row groups, or runs of rows of one) that each lane shuffles together.
    pub window_chunks: usize,
    /// All buffers of the pipeline together, for example `"2GiB"`.
    pub memory: String,
    /// How long a store that does not answer is waited for before the run stops, with a checkpoint:
    /// `"15min"`.
    #[serde(default = "default_retry_for")]
    pub retry_for: String,
    /// Where ranges of remote shards are kept, so that the next epoch need not fetch them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheConfig>,
    /// Share of bad samples at which the run stops, of a thousand samples at least; unless it is 0,
    /// ten are borne. In training what is too short is left out and not bad.
    pub max_bad_fraction: f64,
    /// What one sample may cost.
    #[serde(default)]
    pub limits: Limits,
    /// How a picture becomes a training sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
    /// How a recording becomes a training sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioConfig>,
    /// How a text becomes a training sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// Which positions the student does not see.
    pub mask: MaskConfig,
}

/// A folder of ranges on a local disk. Processes may share it; it never grows beyond its size, and
/// what it did not write it does not touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// The folder.
    pub folder: PathBuf,
    /// How much it may hold, for example `"200GiB"`.
    pub size: String,
}

fn default_retry_for() -> String {
    "15min".to_owned()
}

/// What a sample is, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Modality<'a> {
    /// A picture.
    Image(&'a ImageConfig),
    /// A recording.
    Audio(&'a AudioConfig),
    /// A text, or a block of tokens.
    Text(&'a TextConfig),
}

/// How large a step is, over all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepSize {
    /// So many samples.
    Samples(usize),
    /// Samples that cost no more than this, padding included: audio frames at the recipe's rate,
    /// or tokens.
    Cost(u64),
}

impl DataConfig {
    /// Reads the table `[data]` of a recipe, changed by `assignments` (`data.seed=2`); its other
    /// tables are the trainer's.
    pub fn read(recipe: &Path, assignments: &[String]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Recipe {
            data: DataConfig,
        }
        let text = std::fs::read_to_string(recipe).map_err(|source| Error::Io {
            path: recipe.to_owned(),
            source,
        })?;
        let refuse =
            |place: String, error: String| Error::Config(vec![format!("{place}: {error}")]);
        let at_path =
            |error: toml::de::Error| refuse(recipe.display().to_string(), error.to_string());
        // The plain file first: only its own text gives errors with line and caret.
        let Recipe { data } = toml::from_str(&text).map_err(at_path)?;
        if assignments.is_empty() {
            return Ok(data);
        }
        let mut table: toml::Table = toml::from_str(&text).map_err(at_path)?;
        for assignment in assignments {
            assign(&mut table, assignment)
                .map_err(|reason| refuse(format!("--set {assignment}"), reason))?;
        }
        let Recipe { data } = table.try_into().map_err(|error: toml::de::Error| {
            refuse(
                format!("--set {}", assignments.join(" --set ")),
                error.to_string(),
            )
        })?;
        Ok(data)
    }

    /// How patient the client of a store is.
    ///
    /// # Errors
    ///
    /// What is wrong with `retry_for` or `cache`.
    pub fn store_options(&self) -> Result<StoreOptions, String> {
        let retry_for = humantime::parse_duration(&self.retry_for).map_err(|error| {
            format!(
                "data.retry_for: `{}` is not a time such as \"15min\" or \"90s\": {error}",
                self.retry_for
            )
        })?;
        let cache = match &self.cache {
            None => None,
            Some(CacheConfig { folder, size }) => {
                let bytes = parse_bytes(size);
                let bytes = bytes.map_err(|reason| format!("data.cache.size: {reason}"))?;
                if bytes < CacheOptions::LEAST_BYTES {
                    return Err(format!(
                        "data.cache.size: {size} is too small to keep row groups; give 1GiB or more"
                    ));
                }
                let folder = folder.clone();
                Some(CacheOptions { folder, bytes })
            }
        };
        Ok(StoreOptions {
            retry_for,
            cache,
            ..StoreOptions::default()
        })
    }

    /// The table that says what a sample is; `None` unless there is exactly one.
    pub fn modality(&self) -> Option<Modality<'_>> {
        match (&self.image, &self.audio, &self.text) {
            (Some(image), None, None) => Some(Modality::Image(image)),
            (None, Some(audio), None) => Some(Modality::Audio(audio)),
            (None, None, Some(text)) => Some(Modality::Text(text)),
            _ => None,
        }
    }

    /// How large a step is; `None` unless exactly one key says so, in a unit that the samples have.
    pub fn step_size(&self) -> Option<StepSize> {
        match (self.batch, self.batch_seconds, self.batch_tokens) {
            (Some(samples), None, None) => Some(StepSize::Samples(samples)),
            (None, Some(seconds), None) => {
                let rate = self.audio.as_ref()?.sample_rate_hz;
                Some(StepSize::Cost((seconds * f64::from(rate)) as u64))
            }
            (None, None, Some(tokens)) => self.text.is_some().then_some(StepSize::Cost(tokens)),
            _ => None,
        }
    }

    /// Everything that cannot work, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(
            self.window_chunks > 0,
            "data.window_chunks: must be at least 1".to_owned(),
        );
        check(
            (0.0..=1.0).contains(&self.max_bad_fraction),
            format!(
                "data.max_bad_fraction: must lie in [0, 1], is {}",
                self.max_bad_fraction
            ),
        );
        if let Err(reason) = parse_bytes(&self.memory) {
            check(false, format!("data.memory: {reason}"));
        }
        problems.extend(self.train.problems());
        problems.extend(self.store_options().err());
        problems.extend(self.step_problems());
        let Some(modality) = self.modality() else {
            problems.push(
                "data: exactly one of [data.image], [data.audio] and [data.text] says what a \
                 sample is"
                    .to_owned(),
            );
            return problems;
        };
        problems.extend(match modality {
            Modality::Image(image) => image.problems(),
            Modality::Audio(audio) => audio.problems(),
            Modality::Text(text) => text.problems(),
        });
        if !self.mask.suits(modality) {
            problems.push(format!(
                "data.mask: {} does not suit {}, which takes {}",
                self.mask.name(),
                modality.name(),
                MaskConfig::names_for(modality)
            ));
        }
        problems.extend(self.mask.problems());
        problems
    }

    /// What is wrong with the size of a step and its division among the lanes.
    fn step_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let lanes = self.lanes;
        if lanes == 0 {
            problems.push("data.lanes: must be at least 1".to_owned());
        }
        let given = [
            ("batch", self.batch.is_some()),
            ("batch_seconds", self.batch_seconds.is_some()),
            ("batch_tokens", self.batch_tokens.is_some()),
        ];
        let given: Vec<&str> = given
            .iter()
            .filter(|(_, is)| *is)
            .map(|&(key, _)| key)
            .collect();
        match given.as_slice() {
            [] => problems.push(
                "data.batch: a step has no size; give batch, batch_seconds (audio) or \
                 batch_tokens (text)"
                    .to_owned(),
            ),
            [_] => {}
            several => problems.push(format!(
                "data.{}: only one of them can be the size of a step",
                several.join(", data.")
            )),
        }
        if let Some(batch) = self.batch
            && (batch == 0 || !batch.is_multiple_of(lanes.max(1)))
        {
            problems.push(if batch == 0 {
                "data.batch: must be at least 1".to_owned()
            } else {
                format!("data.lanes: {lanes} does not divide data.batch = {batch}")
            });
        }
        // A lane's share must hold the longest sample there can be.
        if let Some(seconds) = self.batch_seconds {
            match &self.audio {
                None => problems.push(
                    "data.batch_seconds: is for audio; pictures take batch, text batch_tokens"
                        .to_owned(),
                ),
                Some(audio) => {
                    let longest = audio.max_frames as f64 / f64::from(audio.sample_rate_hz.max(1));
                    // NaN is not enough either.
                    let is_enough = seconds / lanes.max(1) as f64 >= longest;
                    if !is_enough {
                        problems.push(format!(
                            "data.batch_seconds: {seconds} over {lanes} lanes leaves a lane less \
                             than the {longest} s of data.audio.max_frames"
                        ));
                    }
                }
            }
        }
        if let Some(tokens) = self.batch_tokens {
            match &self.text {
                None => problems.push(
                    "data.batch_tokens: is for text; pictures take batch, audio batch_seconds"
                        .to_owned(),
                ),
                Some(text) if tokens / (lanes.max(1) as u64) < text.max_tokens as u64 => {
                    problems.push(format!(
                        "data.batch_tokens: {tokens} over {lanes} lanes leaves a lane less than \
                         data.text.max_tokens = {}",
                        text.max_tokens
                    ));
                }
                Some(_) => {}
            }
        }
        problems
    }
}

impl Modality<'_> {
    /// `pictures`, `audio` or `text`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image(_) => "pictures",
            Self::Audio(_) => "audio",
            Self::Text(_) => "text",
        }
    }
}

#[cfg(test)]
mod tests;
