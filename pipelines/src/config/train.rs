//! The training datasets of a run: `data.train`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::store::Public;

/// The training datasets: one, or a mix of several.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TrainSets {
    /// A folder or file of shards, as a path or URL.
    One(String),
    /// Several datasets, each with its share: `[[data.train]]`.
    Mix(Vec<MixedSet>),
}

/// One dataset of a mix. All datasets of a mix have a `weight`, or all have `passes`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixedSet {
    /// A folder or file of shards, as a path or URL.
    pub set: String,
    /// Share of the samples, relative to the weights of the others; share of the cost, where a step
    /// is measured in seconds or tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Epochs of this dataset per `passes` epochs of the others: its share is passes × rows (×
    /// seconds or tokens, where a step is measured in these).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<f64>,
}

/// The share of one dataset in a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// Share of the samples (of the cost, in a plan by cost), relative to the others' weights.
    Weight(f64),
    /// Epochs of this dataset per `passes` epochs of the others.
    Passes(f64),
}

impl TrainSets {
    /// Returns the URL of the only dataset; `None` for a mix.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::One(url) => Some(url),
            Self::Mix(_) => None,
        }
    }

    /// Returns the URL of each dataset, in order.
    pub fn urls(&self) -> Vec<&str> {
        match self {
            Self::One(url) => vec![url],
            Self::Mix(sets) => sets.iter().map(|set| set.set.as_str()).collect(),
        }
    }

    /// Returns the share of each dataset, in order; weight 1 for a single one. Complete where
    /// [`problems`](Self::problems) finds none.
    pub fn shares(&self) -> Vec<Share> {
        match self {
            Self::One(_) => vec![Share::Weight(1.0)],
            Self::Mix(sets) => sets.iter().filter_map(MixedSet::share).collect(),
        }
    }

    /// Combines the `fingerprints` of the datasets, and the shares of a mix, into one.
    pub(crate) fn fingerprint(&self, fingerprints: &[u64]) -> u64 {
        if let (Self::One(_), &[one]) = (self, fingerprints) {
            return one;
        }
        let mut hash = Xxh3::new();
        for (fingerprint, share) in fingerprints.iter().zip(self.shares()) {
            let (kind, share) = match share {
                Share::Weight(weight) => (0, weight),
                Share::Passes(passes) => (1, passes),
            };
            hash.update(&fingerprint.to_le_bytes());
            hash.update(&[kind]);
            hash.update(&share.to_le_bytes());
        }
        hash.digest()
    }

    /// Lists every problem, as `key: problem`.
    pub fn problems(&self) -> Vec<String> {
        let Self::Mix(sets) = self else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        if sets.is_empty() {
            problems.push("data.train: the list is empty".to_owned());
        }
        for (i, set) in sets.iter().enumerate() {
            match set.share() {
                None => problems.push(format!(
                    "data.train[{i}]: {} needs either `weight` or `passes`",
                    set.set
                )),
                Some(Share::Weight(share) | Share::Passes(share)) => {
                    if !(share > 0.0 && share.is_finite()) {
                        let key = set.weight.map_or("passes", |_| "weight");
                        problems.push(format!(
                            "data.train[{i}].{key}: must be above 0, is {share}"
                        ));
                    }
                }
            }
        }
        let n_weighted = sets.iter().filter(|set| set.weight.is_some()).count();
        let n_passed = sets.iter().filter(|set| set.passes.is_some()).count();
        if n_weighted > 0 && n_passed > 0 && problems.is_empty() {
            problems.push(
                "data.train: `weight` and `passes` cannot be mixed: give every dataset the one, or \
                 every dataset the other"
                    .to_owned(),
            );
        }
        problems
    }
}

impl MixedSet {
    fn share(&self) -> Option<Share> {
        match (self.weight, self.passes) {
            (Some(weight), None) => Some(Share::Weight(weight)),
            (None, Some(passes)) => Some(Share::Passes(passes)),
            _ => None,
        }
    }
}

impl From<String> for TrainSets {
    fn from(url: String) -> Self {
        Self::One(url)
    }
}

/// Written by hand: a URL may be signed.
impl fmt::Debug for TrainSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(url) => f.debug_tuple("One").field(&Public(url)).finish(),
            Self::Mix(sets) => f.debug_tuple("Mix").field(sets).finish(),
        }
    }
}

impl fmt::Debug for MixedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            set,
            weight,
            passes,
        } = self;
        f.debug_struct("MixedSet")
            .field("set", &Public(set))
            .field("weight", weight)
            .field("passes", passes)
            .finish()
    }
}

impl fmt::Display for TrainSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls().join(", "))
    }
}

/// Written by hand: errors of an untagged enum give neither reason nor place.
impl<'de> Deserialize<'de> for TrainSets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sets;
        impl<'de> Visitor<'de> for Sets {
            type Value = TrainSets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path or URL of a dataset, or a list of tables with `set` and `weight` or `passes`")
            }

            fn visit_str<E>(self, url: &str) -> Result<TrainSets, E> {
                Ok(TrainSets::One(url.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sets: A) -> Result<TrainSets, A::Error> {
                let sets = Deserialize::deserialize(SeqAccessDeserializer::new(sets))?;
                Ok(TrainSets::Mix(sets))
            }
        }
        deserializer.deserialize_any(Sets)
    }
}
