//! The table `[data]` of a config: the source of samples, their order, decoding and masks.

mod debug;
mod keys;
pub mod load;
pub(crate) mod media;
mod overrides;
mod train;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::media::{AudioConfig, Filter, ImageConfig, MediaConfig, Modality, TextConfig};
pub use self::overrides::Overrides;
pub use self::train::{MixedSet, Share, TrainSets};
pub use self::units::parse_bytes;
pub use crate::error::ConfigError;
pub use crate::limits::Limits;
pub use crate::mask::MaskConfig;
use crate::store::{CacheOptions, StoreOptions};
use crate::{Error, Result};

/// Keys at the top of a config that are the trainer's.
pub const TRAINER_KEYS: &[&str] = &[
    "seed", "steps", "init", "threads", "model", "ema", "optim", "guard", "train",
];

/// The table `[data]`: the source of samples, their order, decoding and masks.
///
/// Exactly one of `image`, `audio` and `text` sets the modality, and exactly one of `batch`,
/// `batch_seconds` and `batch_tokens` the size of a step.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The train set: a folder or file of shards, as a path or URL; or a list of several with their
    /// shares, `[[data.train]]`.
    pub train: TrainSets,
    /// The val set, for `understudy evaluate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// Maps our name of a column to its name in the shards, for datasets with other names.
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
    /// Lanes that an epoch is split into; divides `batch`, and the number of ranks divides it.
    pub lanes: usize,
    /// Chunks (row groups, or ranges of rows within one) that each lane shuffles together.
    pub window_chunks: usize,
    /// Size of all buffers of the pipeline together, for example `"2GiB"`.
    pub memory: String,
    /// Time for which failing requests to a store are retried before the run stops with a
    /// checkpoint: `"15min"`.
    #[serde(default = "default_retry_for")]
    pub retry_for: String,
    /// A local cache of remote byte ranges, for the next epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheConfig>,
    /// Share of bad samples at which the run stops, of a thousand samples at least; unless it is 0,
    /// ten bad samples are allowed. In training, a sample that is too short is left out, not bad.
    pub max_bad_fraction: f64,
    /// The limits of one sample.
    #[serde(default)]
    pub limits: Limits,
    /// Images: the steps from an image to a training sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
    /// Audio: the steps from an audio file to a training sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioConfig>,
    /// Text: the steps from a text to a training sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// The masking strategy of the student's input.
    pub mask: MaskConfig,
}

/// A cache of byte ranges on a local disk. Processes may share it; it stays within its size and
/// touches no file that it did not write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Path of the cache's folder.
    pub folder: PathBuf,
    /// Most bytes it holds, for example `"200GiB"`.
    pub size: String,
}

fn default_retry_for() -> String {
    "15min".to_owned()
}

/// The size of a step, over all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepSize {
    /// A number of samples.
    Samples(usize),
    /// Most cost of the samples, padding included: audio frames at the config's rate, or tokens.
    Cost(u64),
}

impl DataConfig {
    /// Reads the table `[data]` of the config at `path`, changed by `overrides`. The tables of the
    /// trainer may stand next to it; other ones are refused, in the file and in `overrides`.
    ///
    /// # Errors
    ///
    /// [`Error::ConfigFile`]: an unreadable file, an unknown key or table, a wrong type.
    pub fn read(path: &Path, overrides: &Overrides) -> Result<Self> {
        #[derive(Deserialize, JsonSchema)]
        struct DataTable {
            data: DataConfig,
        }
        let is_trainers = |root: &str| TRAINER_KEYS.contains(&root);
        let text = load::read(path)?;
        let unknown: Vec<String> = toml::from_str::<toml::Table>(&text)
            .unwrap_or_default()
            .keys()
            .filter(|&root| root != "data" && !is_trainers(root))
            .map(|root| format!("{root}: unknown table or key; `shards` reads `[data]`"))
            .collect();
        if !unknown.is_empty() {
            return Err(Error::ConfigFile(ConfigError::Invalid {
                path: path.to_owned(),
                problems: unknown,
            }));
        }
        let ours = overrides.without_roots(TRAINER_KEYS);
        let strays = load::unknown_keys::<DataTable>(&ours.without_roots(&["data"]).in_order());
        if !strays.is_empty() {
            return Err(Error::ConfigFile(ConfigError::Override {
                problems: strays,
            }));
        }
        let DataTable { data } = load::parse(path, &text, &ours, |_| Vec::new())?;
        Ok(data)
    }

    /// Returns the options of the store's client.
    ///
    /// # Errors
    ///
    /// `key: problem`, for `retry_for` or `cache`.
    pub fn store_options(&self) -> Result<StoreOptions, String> {
        let retry_for = humantime::parse_duration(&self.retry_for).map_err(|error| {
            format!(
                "data.retry_for: invalid duration `{}` (examples: \"15min\", \"90s\"): {error}",
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
                        "data.cache.size: must be at least 1GiB to hold row groups, is {size}"
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

    /// Returns the table of the modality; `None` unless exactly one is set.
    pub fn media(&self) -> Option<MediaConfig<'_>> {
        match (&self.image, &self.audio, &self.text) {
            (Some(image), None, None) => Some(MediaConfig::Image(image)),
            (None, Some(audio), None) => Some(MediaConfig::Audio(audio)),
            (None, None, Some(text)) => Some(MediaConfig::Text(text)),
            _ => None,
        }
    }

    /// Returns the modality of the samples; `None` unless exactly one table sets it.
    pub fn modality(&self) -> Option<Modality> {
        self.media().map(MediaConfig::modality)
    }

    /// Returns the size of a step; `None` unless exactly one key sets it, in a unit of the modality.
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

    /// Lists every problem, as `key: problem`.
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
                "data.max_bad_fraction: must be in [0, 1], is {}",
                self.max_bad_fraction
            ),
        );
        if let Err(reason) = parse_bytes(&self.memory) {
            check(false, format!("data.memory: {reason}"));
        }
        problems.extend(self.train.problems());
        problems.extend(self.store_options().err());
        problems.extend(self.step_problems());
        let Some(media) = self.media() else {
            problems.push(
                "data: exactly one of [data.image], [data.audio] and [data.text] is needed"
                    .to_owned(),
            );
            return problems;
        };
        problems.extend(match media {
            MediaConfig::Image(image) => image.problems(),
            MediaConfig::Audio(audio) => audio.problems(),
            MediaConfig::Text(text) => text.problems(),
        });
        let modality = media.modality();
        if !self.mask.suits(modality) {
            problems.push(format!(
                "data.mask: unsupported for {1}: {0}; supported: {2}",
                self.mask.name(),
                modality.name(),
                MaskConfig::names_for(modality)
            ));
        }
        problems.extend(self.mask.problems());
        problems
    }

    /// Lists the problems of a step's size and of its division into lanes.
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
                "data.batch: missing; set batch, batch_seconds (audio) or batch_tokens (text)"
                    .to_owned(),
            ),
            [_] => {}
            several => problems.push(format!(
                "data.{}: only one of them can set the size of a step; remove the others (--unset KEY)",
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
        // A lane's micro-batch must hold the longest possible sample.
        if let Some(seconds) = self.batch_seconds {
            match &self.audio {
                None => problems.push(
                    "data.batch_seconds: audio only; images take batch, text takes batch_tokens"
                        .to_owned(),
                ),
                Some(audio) => {
                    let longest = audio.max_frames as f64 / f64::from(audio.sample_rate_hz.max(1));
                    // NaN is not enough either.
                    let is_enough = seconds / lanes.max(1) as f64 >= longest;
                    if !is_enough {
                        problems.push(format!(
                            "data.batch_seconds: {seconds} s over {lanes} lanes is less per lane than \
                             data.audio.max_frames, {longest} s"
                        ));
                    }
                }
            }
        }
        if let Some(tokens) = self.batch_tokens {
            match &self.text {
                None => problems.push(
                    "data.batch_tokens: text only; images take batch, audio takes batch_seconds"
                        .to_owned(),
                ),
                Some(text) if tokens / (lanes.max(1) as u64) < text.max_tokens as u64 => {
                    problems.push(format!(
                        "data.batch_tokens: {tokens} over {lanes} lanes is less per lane than \
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

#[cfg(test)]
mod tests;
