//! Rows of a picture set, as they were read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, Int64Array, LargeBinaryArray,
    RecordBatch, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};

use super::columns::{Columns, is_text, value_type};
use super::fetch::Fetched;
use crate::SampleError;

/// Memory of a row beside its media, at most: views, label, hash and a path.
pub(super) const ROW_BYTES: u64 = 256;

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
        let labels = labels.map(|labels| {
            if is_text(value_type(labels.data_type())) {
                Ok(Labels::Names(
                    cast(labels, &DataType::Utf8)?.as_string().clone(),
                    classes,
                ))
            } else {
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

/// Class names and their numbers.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) names: Vec<String>,
    numbers: HashMap<String, i64>,
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
    let mut arrays: Vec<_> = batch.columns().iter().map(Array::to_data).collect();
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
