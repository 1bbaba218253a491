//! What a run trains on: `data.train`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// What a run trains on: one set, or a mix of several.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TrainSets {
    /// A folder or file of shards, as a path or URL.
    One(String),
    /// Several sets, each with its share: `[[data.train]]`.
    Mix(Vec<MixedSet>),
}

/// One set of a mix. All sets of a mix have a `weight`, or all have `passes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixedSet {
    /// A folder or file of shards, as a path or URL.
    pub set: String,
    /// Its share of the samples, beside the weights of the others; of the cost, where a step is so
    /// many seconds or tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Epochs of it, while the others have theirs: its share is its passes times its rows (their
    /// seconds or tokens, where a step is so many).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<f64>,
}

/// The share of one dataset in a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// So much of the samples (of the cost, in a plan by cost), beside the weights of the others.
    Weight(f64),
    /// So many epochs of it, while the others have theirs.
    Passes(f64),
}

impl TrainSets {
    /// The only set; `None` of a mix.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::One(url) => Some(url),
            Self::Mix(_) => None,
        }
    }

    /// Where the sets lie.
    pub fn urls(&self) -> Vec<&str> {
        match self {
            Self::One(url) => vec![url],
            Self::Mix(sets) => sets.iter().map(|set| set.set.as_str()).collect(),
        }
    }

    /// What each set has of the mix; all of it, if there is one. Without [`problems`](Self::problems)
    /// there is one for each set.
    pub fn shares(&self) -> Vec<Share> {
        match self {
            Self::One(_) => vec![Share::Weight(1.0)],
            Self::Mix(sets) => sets.iter().filter_map(MixedSet::share).collect(),
        }
    }

    /// Identifies a set or a mix, where each set has one of `fingerprints`: a mix by its shares too.
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

    /// Everything that cannot work, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let Self::Mix(sets) = self else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        if sets.is_empty() {
            problems.push("data.train: a mix of no sets".to_owned());
        }
        for (i, set) in sets.iter().enumerate() {
            match set.share() {
                None => problems.push(format!(
                    "data.train[{i}]: give either `weight` or `passes` of {}",
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
                "data.train: `weight` and `passes` cannot be compared: give all sets the one or \
                 all the other"
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

impl fmt::Display for TrainSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls().join(", "))
    }
}

/// By hand, because errors of an untagged enum say neither what is wrong nor where.
impl<'de> Deserialize<'de> for TrainSets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sets;
        impl<'de> Visitor<'de> for Sets {
            type Value = TrainSets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path or URL of a set, or a list of tables with `set` and `weight` or `passes`")
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
