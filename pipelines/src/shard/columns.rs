//! The columns of a picture set: found by name, checked by type.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use crate::{Error, Result};

/// What the set's columns are called.
#[derive(Debug, Clone)]
pub(super) struct ColumnMap {
    pub(super) image: Name,
    pub(super) label: Name,
    pub(super) bytes_xxh3: Name,
}

/// A column's name, and whether the user chose it: then it must exist.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) name: String,
    chosen: bool,
}

/// Where the columns stand in a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) image: usize,
    pub(super) label: Option<usize>,
    pub(super) bytes_xxh3: Option<usize>,
}

impl ColumnMap {
    /// The names in the user's map, and ours where it says nothing.
    pub(super) fn new(map: &BTreeMap<String, String>) -> Result<Self> {
        const OURS: [&str; 3] = ["image", "label", "bytes_xxh3"];
        let unknown = map.keys().filter(|key| !OURS.contains(&key.as_str()));
        let problems: Vec<String> = unknown
            .map(|key| {
                format!(
                    "data.columns.{key}: no such column; there are {}",
                    OURS.join(", ")
                )
            })
            .collect();
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let name = |ours: &str| match map.get(ours) {
            Some(theirs) => Name {
                name: theirs.clone(),
                chosen: true,
            },
            None => Name {
                name: ours.to_owned(),
                chosen: false,
            },
        };
        Ok(Self {
            image: name("image"),
            label: name("label"),
            bytes_xxh3: name("bytes_xxh3"),
        })
    }

    /// Our names and the set's, for the fingerprint.
    pub(super) fn names(&self) -> [(&str, &str); 3] {
        let Self {
            image,
            label,
            bytes_xxh3,
        } = self;
        [
            ("image", &image.name),
            ("label", &label.name),
            ("bytes_xxh3", &bytes_xxh3.name),
        ]
    }

    /// Finds the columns in a shard's schema and checks their types.
    pub(super) fn find(&self, schema: &Schema, shard: &str) -> Result<Columns> {
        let error = |name: &Name, reason: String| Error::Schema {
            shard: shard.to_owned(),
            column: name.name.clone(),
            reason,
        };
        let find = |ours: &str, name: &Name, needed: bool| match schema.index_of(&name.name) {
            Ok(at) => Ok(Some(at)),
            Err(_) if needed || name.chosen => {
                let there: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Err(error(
                    name,
                    format!(
                        "missing; the file has {}: name the right one under [data.columns], `{ours} = \
                     \"…\"`",
                        there.join(", ")
                    ),
                ))
            }
            Err(_) => Ok(None),
        };
        let is = |at: Option<usize>, accepts: fn(&DataType) -> bool| {
            at.is_none_or(|at| accepts(schema.field(at).data_type()))
        };
        let found = |at: Option<usize>| at.map(|at| schema.field(at).data_type().to_string());
        let image = find("image", &self.image, true)?;
        if !is(image, is_media) {
            return Err(error(
                &self.image,
                format!(
                    "is {}, not binary or a struct with a binary field `bytes`",
                    found(image).unwrap_or_default()
                ),
            ));
        }
        let mut label = find("label", &self.label, false)?;
        if !is(label, is_label) {
            if self.label.chosen {
                return Err(error(
                    &self.label,
                    format!(
                        "is {}, not whole numbers or strings; map `label` to another column",
                        found(label).unwrap_or_default()
                    ),
                ));
            }
            // Some other thing of that name, such as a list of labels: training needs none.
            label = None;
        }
        let bytes_xxh3 = find("bytes_xxh3", &self.bytes_xxh3, false)?;
        if !is(bytes_xxh3, |found| *found == DataType::UInt64) {
            return Err(error(
                &self.bytes_xxh3,
                format!(
                    "is {}, not UInt64, the XXH3-64 of the picture's bytes",
                    found(bytes_xxh3).unwrap_or_default()
                ),
            ));
        }
        Ok(Columns {
            image: image.unwrap_or_default(),
            label,
            bytes_xxh3,
        })
    }

    /// Class names of the label column, as Hugging Face's `ClassLabel` keeps them in the metadata.
    pub(super) fn classes(&self, schema: &Schema) -> Option<Vec<String>> {
        let metadata = schema.metadata().get("huggingface")?;
        let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
        let feature = metadata
            .get("info")?
            .get("features")?
            .get(&self.label.name)?;
        serde_json::from_value(feature.get("names")?.clone()).ok()
    }
}

impl Columns {
    /// The columns' places, in the order of the file.
    pub(super) fn indices(self) -> Vec<usize> {
        let mut indices: Vec<usize> = [Some(self.image), self.label, self.bytes_xxh3]
            .into_iter()
            .flatten()
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// The same columns in a batch that holds only them.
    pub(super) fn projected(self) -> Self {
        let indices = self.indices();
        let place = |at: usize| indices.partition_point(|&other| other < at);
        Self {
            image: place(self.image),
            label: self.label.map(place),
            bytes_xxh3: self.bytes_xxh3.map(place),
        }
    }
}

/// The same type, with media as views into the fetched pages.
pub(super) fn as_views(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(parts) => DataType::Struct(
            parts
                .iter()
                .map(|part| {
                    if part.name() == "bytes" {
                        Arc::new(as_views(part))
                    } else {
                        part.clone()
                    }
                })
                .collect(),
        ),
        other if is_binary(value_type(other)) => DataType::BinaryView,
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

fn is_media(found: &DataType) -> bool {
    match value_type(found) {
        DataType::Struct(parts) => parts
            .iter()
            .any(|part| part.name() == "bytes" && is_binary(value_type(part.data_type()))),
        other => is_binary(other),
    }
}

fn is_binary(found: &DataType) -> bool {
    matches!(
        found,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

/// Whether a column can hold labels: whole numbers or class names.
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

/// The type of the values, where they stand in a dictionary.
pub(super) fn value_type(found: &DataType) -> &DataType {
    match found {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}
