//! The columns of a dataset: found by name, checked by type.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};

use understudy_schemas::Vocabulary;

use super::kind::{Kind, vocabulary_of};
use crate::{Error, Result};

/// Our names of columns, and their names in the dataset.
#[derive(Debug, Clone)]
pub(super) struct ColumnMap {
    pub(super) kind: Kind,
    names: Vec<Name>,
}

/// A column's name, and whether the user chose it: then it must exist.
#[derive(Debug, Clone)]
struct Name {
    ours: &'static str,
    theirs: String,
    chosen: bool,
}

/// Indices of the columns in a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) media: usize,
    pub(super) label: Option<usize>,
    pub(super) bytes_xxh3: Option<usize>,
    pub(super) label_xxh3: Option<usize>,
    /// The second text of a pair.
    pub(super) text_b: Option<usize>,
    /// Tokens of a block without padding.
    pub(super) n_tokens: Option<usize>,
    /// Length of a row, and the rate of its frames: not read with the rows.
    length: Option<usize>,
    rate: Option<usize>,
}

/// Rejects names in the user's map that no dataset of these kinds has a column for.
pub(super) fn check_names(map: &BTreeMap<String, String>, kinds: &[Kind]) -> Result<()> {
    let mut ours: Vec<&str> = Vec::new();
    for name in kinds.iter().flat_map(|kind| kind.columns()) {
        if !ours.contains(name) {
            ours.push(name);
        }
    }
    let unknown = map.keys().filter(|key| !ours.contains(&key.as_str()));
    let problems: Vec<String> = unknown
        .map(|key| {
            format!(
                "data.columns.{key}: no such column; there are {}",
                ours.join(", ")
            )
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(problems))
    }
}

impl ColumnMap {
    /// Takes the names in the user's map, and ours for all others.
    pub(super) fn new(kind: Kind, map: &BTreeMap<String, String>) -> Self {
        let name = |&ours: &&'static str| Name {
            ours,
            theirs: map.get(ours).cloned().unwrap_or_else(|| ours.to_owned()),
            chosen: map.contains_key(ours),
        };
        Self {
            kind,
            names: kind.columns().iter().map(name).collect(),
        }
    }

    /// Returns our names and the dataset's, for the fingerprint.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names
            .iter()
            .map(|name| (name.ours, name.theirs.as_str()))
    }

    /// Whether a column of this name holds media.
    pub(super) fn is_media(&self, name: &str) -> bool {
        let media = [self.kind.media_column(), "text_b"];
        self.names()
            .any(|(ours, theirs)| media.contains(&ours) && theirs == name)
    }

    /// Whether a file with this schema can be of this kind.
    pub(super) fn fits(&self, schema: &Schema) -> bool {
        schema.index_of(&self.names[0].theirs).is_ok()
    }

    /// Returns the dataset's name of the label column.
    pub(super) fn label(&self) -> &str {
        self.theirs("label")
    }

    /// Returns the dataset's name of the column of lengths.
    pub(super) fn length_column(&self) -> &str {
        self.theirs(match self.kind {
            Kind::Image => "image",
            Kind::Audio => "n_frames",
            Kind::Text => "n_bytes",
            Kind::Tokens => "n_tokens",
        })
    }

    fn theirs<'a>(&'a self, ours: &'a str) -> &'a str {
        let found = self.names.iter().find(|name| name.ours == ours);
        found.map_or(ours, |name| &name.theirs)
    }

    /// Finds the columns in a shard's schema and checks their types.
    pub(super) fn find(&self, schema: &Schema, shard: &str) -> Result<Columns> {
        let error = |name: &Name, reason: String| Error::Schema {
            shard: shard.to_owned(),
            column: name.theirs.clone(),
            reason,
        };
        let kind = self.kind;
        let find = |ours: &str| -> Result<Option<usize>> {
            let Some(name) = self.names.iter().find(|name| name.ours == ours) else {
                return Ok(None);
            };
            let Ok(at) = schema.index_of(&name.theirs) else {
                if ours != kind.media_column() && !name.chosen {
                    return Ok(None);
                }
                let others = Kind::ALL.into_iter().filter(|other| *other != kind);
                let other = others.map(Kind::media_column).find(|column| {
                    !name.chosen && ours == kind.media_column() && schema.index_of(column).is_ok()
                });
                if let Some(other) = other {
                    return Err(error(
                        name,
                        format!(
                            "missing; this dataset has `{other}`, for a config of another kind\n\
                             hint: use such a config, or map {ours} to a column under [data.columns]"
                        ),
                    ));
                }
                let there: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(error(
                    name,
                    format!(
                        "missing; the file has {}\nhint: name the right one under [data.columns], \
                         `{ours} = \"…\"`",
                        there.join(", ")
                    ),
                ));
            };
            let found = schema.field(at).data_type();
            let (serves, wanted) = wanted_type(kind, ours, found);
            if serves {
                return Ok(Some(at));
            }
            if ours == "label" && !name.chosen {
                // Something else with that name, such as a list of labels: training needs no label.
                return Ok(None);
            }
            Err(error(name, format!("is {found}, not {wanted}")))
        };
        let n_tokens = find("n_tokens")?;
        let length = match kind {
            Kind::Image => None,
            Kind::Audio => find("n_frames")?,
            Kind::Text => find("n_bytes")?,
            Kind::Tokens => n_tokens,
        };
        let label = find("label")?;
        Ok(Columns {
            media: find(kind.media_column())?.unwrap_or_default(),
            label,
            bytes_xxh3: find("bytes_xxh3")?,
            // The hash of the label that was written, not of another column in its place.
            label_xxh3: match label {
                Some(_) if !self.is_chosen("label") => find("label_xxh3")?,
                _ => None,
            },
            text_b: find("text_b")?,
            n_tokens,
            length,
            rate: find("sample_rate_hz")?,
        })
    }

    fn is_chosen(&self, ours: &str) -> bool {
        self.names
            .iter()
            .any(|name| name.ours == ours && name.chosen)
    }

    /// Returns the class names of the label column, from Hugging Face's `ClassLabel` in the metadata.
    pub(super) fn classes(&self, schema: &Schema) -> Option<Vec<String>> {
        let metadata = schema.metadata().get("huggingface")?;
        let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
        let feature = metadata.get("info")?.get("features")?.get(self.label())?;
        serde_json::from_value(feature.get("names")?.clone()).ok()
    }
}

impl ColumnMap {
    /// Returns the vocabulary of a token dataset; `None` for other datasets.
    pub(super) fn tokenizer(
        &self,
        schema: &Schema,
        columns: Columns,
        shard: &str,
    ) -> Result<Option<Vocabulary>> {
        match schema.field(columns.media).data_type() {
            DataType::FixedSizeBinary(bytes) if self.kind == Kind::Tokens => {
                vocabulary_of(schema, shard, *bytes).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl Columns {
    /// Returns the indices of the columns that are read with the rows, in the order of the file.
    pub(super) fn indices(self) -> Vec<usize> {
        let mut indices: Vec<usize> = [
            Some(self.media),
            self.label,
            self.bytes_xxh3,
            self.label_xxh3,
            self.text_b,
            self.n_tokens,
        ]
        .into_iter()
        .flatten()
        .collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// Returns the indices of the columns of lengths and rates, in a dataset that has lengths.
    pub(super) fn length_and_rate(self) -> Option<(usize, Option<usize>)> {
        Some((self.length?, self.rate))
    }

    /// Returns the indices of the same columns in a batch that holds only them.
    pub(super) fn projected(self) -> Self {
        let indices = self.indices();
        let place = |at: usize| indices.partition_point(|&other| other < at);
        Self {
            media: place(self.media),
            label: self.label.map(place),
            bytes_xxh3: self.bytes_xxh3.map(place),
            label_xxh3: self.label_xxh3.map(place),
            text_b: self.text_b.map(place),
            n_tokens: self.n_tokens.map(place),
            length: None,
            rate: None,
        }
    }
}

/// Returns whether a column of ours can be of a type, and a description of the right type.
fn wanted_type(kind: Kind, ours: &str, found: &DataType) -> (bool, &'static str) {
    match ours {
        "image" | "audio" => (
            is_media(found),
            "binary or a struct with a binary field `bytes`",
        ),
        "text" | "text_b" => (
            is_text(value_type(found)) || is_binary(value_type(found)),
            "strings",
        ),
        "tokens" => (
            matches!(found, DataType::FixedSizeBinary(_)),
            "fixed-size binary, a block of token ids",
        ),
        "label" => (
            is_label(found),
            "integers or strings; map `label` to another column",
        ),
        "bytes_xxh3" => (
            *found == DataType::UInt64,
            match kind {
                Kind::Image => "UInt64, the XXH3-64 of the image's bytes",
                _ => "UInt64, the XXH3-64 of the sample's bytes",
            },
        ),
        "label_xxh3" => (
            *found == DataType::UInt64,
            "UInt64, the XXH3-64 of the label",
        ),
        _ => (found.is_integer(), "integers"),
    }
}

fn is_media(found: &DataType) -> bool {
    match value_type(found) {
        DataType::Struct(parts) => parts
            .iter()
            .any(|part| part.name() == "bytes" && is_binary(value_type(part.data_type()))),
        other => is_binary(other),
    }
}

pub(super) fn is_binary(found: &DataType) -> bool {
    matches!(
        found,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

/// Returns whether a column can hold labels: integers or class names.
pub(crate) fn is_label(found: &DataType) -> bool {
    let found = value_type(found);
    found.is_integer() || is_text(found)
}

pub(super) fn is_text(found: &DataType) -> bool {
    matches!(
        found,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Returns the type of the values, also of those in a dictionary.
pub(super) fn value_type(found: &DataType) -> &DataType {
    match found {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}
