//! The columns of a picture set: found by name, checked by type, read row by row.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, Int64Array, LargeBinaryArray,
    RecordBatch, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};

use super::fetch::Fetched;
use crate::{Error, Result, SampleError};

/// Memory of a row beside its media, at most: views, label, hash and a path.
pub(super) const ROW_BYTES: u64 = 256;

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

/// Class names and their numbers.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) names: Vec<String>,
    numbers: HashMap<String, i64>,
}

/// The mapped columns of some rows of a picture set, without a copy of the media where the file
/// allows it.
#[derive(Debug, Clone)]
pub struct ImageRows {
    media: Media,
    /// Nulls of the struct that holds the media.
    nulls: Option<NullBuffer>,
    paths: Option<StringArray>,
    hashes: Option<UInt64Array>,
    labels: Option<Labels>,
    memory: u64,
}

#[derive(Debug, Clone)]
enum Media {
    Binary(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
}

#[derive(Debug, Clone)]
enum Labels {
    Numbers(Int64Array, Option<Arc<Classes>>),
    Names(StringArray, Option<Arc<Classes>>),
}

impl ImageRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.media {
            Media::Binary(array) => array.len(),
            Media::Large(array) => array.len(),
            Media::View(array) => array.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoded picture of a row; `None` where it is null or empty.
    pub fn bytes(&self, row: usize) -> Option<&[u8]> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let bytes = match &self.media {
            Media::Binary(array) => array.is_valid(row).then(|| array.value(row)),
            Media::Large(array) => array.is_valid(row).then(|| array.value(row)),
            Media::View(array) => array.is_valid(row).then(|| array.value(row)),
        };
        bytes.filter(|bytes| !bytes.is_empty())
    }

    /// XXH3-64 of the picture as the writer saw it, where the set says.
    pub fn xxh3(&self, row: usize) -> Option<u64> {
        let hashes = self.hashes.as_ref()?;
        hashes.is_valid(row).then(|| hashes.value(row))
    }

    /// The label's number; `None` in a set without labels.
    ///
    /// # Errors
    ///
    /// [`SampleError::Label`] for a label that is null or none of the set's classes.
    pub fn label(&self, row: usize) -> Result<Option<i64>, SampleError> {
        let null = || SampleError::Label("is null".into());
        match &self.labels {
            None => Ok(None),
            Some(Labels::Numbers(numbers, classes)) => {
                let number = numbers
                    .is_valid(row)
                    .then(|| numbers.value(row))
                    .ok_or_else(null)?;
                match classes {
                    Some(classes) if !(0..classes.names.len() as i64).contains(&number) => {
                        let n = classes.names.len();
                        Err(SampleError::Label(format!(
                            "{number} is not in the set's {n} classes"
                        )))
                    }
                    _ => Ok(Some(number)),
                }
            }
            Some(Labels::Names(names, classes)) => {
                let name = names
                    .is_valid(row)
                    .then(|| names.value(row))
                    .ok_or_else(null)?;
                let number = classes
                    .as_ref()
                    .and_then(|classes| classes.numbers.get(name));
                match (number, classes) {
                    (Some(&number), _) => Ok(Some(number)),
                    (None, Some(_)) => Err(SampleError::Label(format!(
                        "`{name}` is not one of the set's classes"
                    ))),
                    (None, None) => Err(SampleError::Label(format!(
                        "`{name}` has no number: the set has no list of class names"
                    ))),
                }
            }
        }
    }

    /// Whether the row says anything about its label: then [`Self::label`] tells if it is right.
    pub fn is_labelled(&self, row: usize) -> bool {
        match &self.labels {
            None => false,
            Some(Labels::Numbers(numbers, _)) => numbers.is_valid(row),
            Some(Labels::Names(names, _)) => names.is_valid(row),
        }
    }

    /// The path that the picture came from, where the set says.
    pub fn path(&self, row: usize) -> Option<&str> {
        let paths = self.paths.as_ref()?;
        paths.is_valid(row).then(|| paths.value(row))
    }

    /// Bytes that these rows keep in memory: what was fetched, and what was decoded beside it.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Takes the columns out of a batch that was decoded from `fetched`.
    pub(super) fn new(
        batch: &RecordBatch,
        columns: Columns,
        classes: Option<Arc<Classes>>,
        fetched: &Fetched,
    ) -> Result<Self, arrow::error::ArrowError> {
        let memory = fetched.len() + decoded_bytes(batch, fetched);
        let image = plain(batch.column(columns.image))?;
        let (media, nulls, paths) = match image.as_struct_opt() {
            None => (image, None, None),
            Some(parts) => {
                let media = parts.column_by_name("bytes").map(plain).transpose()?;
                let paths = parts
                    .column_by_name("path")
                    .map(|path| cast(path, &DataType::Utf8));
                let paths = paths.transpose()?.map(|paths| paths.as_string().clone());
                (
                    media.unwrap_or(image.clone()),
                    parts.nulls().cloned(),
                    paths,
                )
            }
        };
        let media = match media.data_type() {
            DataType::Binary => Media::Binary(media.as_binary().clone()),
            DataType::LargeBinary => Media::Large(media.as_binary().clone()),
            _ => Media::View(
                cast(&media, &DataType::BinaryView)?
                    .as_binary_view()
                    .clone(),
            ),
        };
        let hashes = columns
            .bytes_xxh3
            .map(|at| batch.column(at).as_primitive::<UInt64Type>());
        let labels = columns.label.map(|at| batch.column(at));
        let labels = labels.map(|labels| match is_text(value_type(labels.data_type())) {
            true => Ok(Labels::Names(
                cast(labels, &DataType::Utf8)?.as_string().clone(),
                classes,
            )),
            false => {
                let numbers = cast(labels, &DataType::Int64)?.as_primitive().clone();
                Ok::<_, arrow::error::ArrowError>(Labels::Numbers(numbers, classes))
            }
        });
        Ok(Self {
            media,
            nulls,
            paths,
            hashes: hashes.cloned(),
            labels: labels.transpose()?,
            memory,
        })
    }
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

impl Classes {
    pub(super) fn new(names: Vec<String>) -> Self {
        let numbers = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name.clone(), at as i64))
            .collect();
        Self { names, numbers }
    }
}

/// The same type, with media as views into the fetched pages.
pub(super) fn as_views(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(parts) => DataType::Struct(
            parts
                .iter()
                .map(|part| match part.name() == "bytes" {
                    true => Arc::new(as_views(part)),
                    false => part.clone(),
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

fn is_label(found: &DataType) -> bool {
    let found = value_type(found);
    found.is_integer() || is_text(found)
}

fn is_text(found: &DataType) -> bool {
    matches!(
        found,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// The type of the values, where they stand in a dictionary.
fn value_type(found: &DataType) -> &DataType {
    match found {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// The values themselves, where they stand in a dictionary.
fn plain(array: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values),
        _ => Ok(array.clone()),
    }
}

/// Bytes of a batch's buffers that do not lie in `fetched`.
fn decoded_bytes(batch: &RecordBatch, fetched: &Fetched) -> u64 {
    let fetched: Vec<_> = fetched
        .parts
        .iter()
        .map(|(_, bytes)| bytes.as_ptr_range())
        .collect();
    let mut seen = BTreeMap::new();
    let mut arrays: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| column.to_data())
        .collect();
    while let Some(array) = arrays.pop() {
        for buffer in array.buffers() {
            if !fetched.iter().any(|part| part.contains(&buffer.as_ptr())) {
                seen.insert(buffer.data_ptr(), buffer.capacity() as u64);
            }
        }
        arrays.extend(array.child_data().iter().cloned());
    }
    seen.values().sum()
}
