//! Rows of a dataset, as read from a row group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, Int64Array,
    LargeBinaryArray, RecordBatch, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::columns::{Columns, is_text, value_type};
use super::fetch::Fetched;
use crate::SampleError;

/// Most memory of a row without its media, in bytes: views, label, hash and a path.
pub(super) const ROW_BYTES: u64 = 256;

/// The number of a class that stands for no label in datasets of Hugging Face.
pub(crate) const NO_LABEL: i64 = -1;

/// The mapped columns of some rows of a dataset, without a copy of the media where the file allows it.
#[derive(Debug, Clone)]
pub struct Rows {
    media: Media,
    /// Nulls of the struct that holds the media.
    nulls: Option<NullBuffer>,
    paths: Option<StringArray>,
    /// Second texts of pairs.
    second: Option<Media>,
    /// Tokens of each block without padding.
    n_tokens: Option<Int64Array>,
    hashes: Option<UInt64Array>,
    label_hashes: Option<UInt64Array>,
    labels: Option<Labels>,
    memory: u64,
}

#[derive(Debug, Clone)]
enum Media {
    Binary(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
}

#[derive(Debug, Clone)]
enum Labels {
    Numbers(Int64Array, Option<Arc<Classes>>),
    Names(StringArray, Option<Arc<Classes>>),
}

impl Rows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        match &self.media {
            Media::Binary(array) => array.len(),
            Media::Large(array) => array.len(),
            Media::View(array) => array.len(),
            Media::Fixed(array) => array.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the encoded image or audio, the text, or the token block of a row; `None` where it is
    /// null or empty.
    pub fn bytes(&self, row: usize) -> Option<&[u8]> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        self.media.bytes(row)
    }

    /// Returns the second text of a pair.
    pub fn second(&self, row: usize) -> Option<&[u8]> {
        self.second.as_ref()?.bytes(row)
    }

    /// Returns the number of tokens of a block without its padding, where the dataset has it.
    pub fn n_tokens(&self, row: usize) -> Option<i64> {
        let lengths = self.n_tokens.as_ref()?;
        lengths.is_valid(row).then(|| lengths.value(row))
    }

    /// Checks a row's bytes and its label against the writer's hashes, where the dataset has them, and
    /// returns the bytes.
    ///
    /// # Errors
    ///
    /// [`SampleError::Empty`] for a row without bytes, [`SampleError::Hash`] for one with other bytes.
    pub fn checked(&self, row: usize) -> Result<&[u8], SampleError> {
        let bytes = self.bytes(row).ok_or(SampleError::Empty)?;
        if let Some(expected) = self.xxh3(row) {
            let mut hash = Xxh3::new();
            hash.update(bytes);
            hash.update(self.second(row).unwrap_or_default());
            let found = hash.digest();
            if found != expected {
                return Err(SampleError::Hash { expected, found });
            }
        }
        if let (Some(expected), Some(bytes_xxh3)) =
            (value(self.label_hashes.as_ref(), row), self.xxh3(row))
        {
            let label = match &self.labels {
                Some(Labels::Numbers(numbers, _)) => {
                    numbers.is_valid(row).then(|| numbers.value(row))
                }
                _ => None,
            };
            let found = hash_of_label(label, bytes_xxh3);
            if found != expected {
                return Err(SampleError::Hash { expected, found });
            }
        }
        Ok(bytes)
    }

    /// Returns the XXH3-64 of the media that was written, where the dataset has it; for a pair, of both
    /// texts joined.
    pub fn xxh3(&self, row: usize) -> Option<u64> {
        value(self.hashes.as_ref(), row)
    }

    /// Returns the label's number; `None` in a dataset without labels.
    ///
    /// # Errors
    ///
    /// [`SampleError::Label`] for a label that is null or not one of the dataset's classes.
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
                            "{number} is not in the dataset's {n} classes"
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
                        "`{name}` is not one of the dataset's classes"
                    ))),
                    (None, None) => Err(SampleError::Label(format!(
                        "`{name}` has no number: the dataset has no list of class names"
                    ))),
                }
            }
        }
    }

    /// Whether the row has a label, valid or not: [`Self::label`] checks it. In a dataset with classes
    /// -1 means that there is no label, as in those of Hugging Face.
    pub fn is_labelled(&self, row: usize) -> bool {
        match &self.labels {
            None => false,
            Some(Labels::Numbers(numbers, classes)) => {
                numbers.is_valid(row) && !(classes.is_some() && numbers.value(row) == NO_LABEL)
            }
            Some(Labels::Names(names, _)) => names.is_valid(row),
        }
    }

    /// Whether the row's label is a name, in a dataset without a list of class names.
    pub(crate) fn has_unlisted_label(&self, row: usize) -> bool {
        matches!(&self.labels, Some(Labels::Names(names, None)) if names.is_valid(row))
    }

    /// Returns the path of the file that the media came from, where the dataset has it.
    pub fn path(&self, row: usize) -> Option<&str> {
        let paths = self.paths.as_ref()?;
        paths.is_valid(row).then(|| paths.value(row))
    }

    /// Returns the bytes that these rows keep in memory: fetched and decoded ones.
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
        let media = plain(batch.column(columns.media))?;
        let (media, nulls, paths) = match media.as_struct_opt() {
            None => (media, None, None),
            Some(parts) => {
                let bytes = parts.column_by_name("bytes").map(plain).transpose()?;
                let paths = parts
                    .column_by_name("path")
                    .map(|path| cast(path, &DataType::Utf8));
                let paths = paths.transpose()?.map(|paths| paths.as_string().clone());
                (
                    bytes.unwrap_or(media.clone()),
                    parts.nulls().cloned(),
                    paths,
                )
            }
        };
        let media = Media::new(&media)?;
        let second = columns
            .text_b
            .map(|at| Media::new(&plain(batch.column(at))?));
        let n_tokens = columns.n_tokens.map(|at| {
            let numbers = cast(batch.column(at), &DataType::Int64)?;
            Ok::<_, arrow::error::ArrowError>(numbers.as_primitive().clone())
        });
        let hashes = columns
            .bytes_xxh3
            .map(|at| batch.column(at).as_primitive::<UInt64Type>());
        let label_hashes = columns
            .label_xxh3
            .map(|at| batch.column(at).as_primitive::<UInt64Type>());
        let labels = columns.label.map(|at| batch.column(at));
        // A dataset that was written without labels has the column too.
        let is_empty =
            |labels: &&ArrayRef| classes.is_none() && labels.null_count() == labels.len();
        let labels = labels.filter(|labels| !is_empty(labels));
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
            second: second.transpose()?,
            n_tokens: n_tokens.transpose()?,
            hashes: hashes.cloned(),
            label_hashes: label_hashes.cloned(),
            labels: labels.transpose()?,
            memory,
        })
    }
}

impl Media {
    /// Takes binary and strings of any layout; strings as their bytes.
    fn new(array: &ArrayRef) -> Result<Self, arrow::error::ArrowError> {
        Ok(match array.data_type() {
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::Large(array.as_binary().clone()),
            DataType::Utf8 => Self::Binary(BinaryArray::from(array.as_string::<i32>().clone())),
            DataType::LargeUtf8 => {
                Self::Large(LargeBinaryArray::from(array.as_string::<i64>().clone()))
            }
            DataType::Utf8View => Self::View(array.as_string_view().clone().to_binary_view()),
            DataType::FixedSizeBinary(_) => Self::Fixed(array.as_fixed_size_binary().clone()),
            _ => Self::View(cast(array, &DataType::BinaryView)?.as_binary_view().clone()),
        })
    }

    fn bytes(&self, row: usize) -> Option<&[u8]> {
        let bytes = match self {
            Self::Binary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Large(array) => array.is_valid(row).then(|| array.value(row)),
            Self::View(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Fixed(array) => array.is_valid(row).then(|| array.value(row)),
        };
        bytes.filter(|bytes| !bytes.is_empty())
    }
}

/// Hashes a row's label as our schemas define it: seeded with the hash of the row's media, so that a
/// label belongs to its row.
pub(crate) fn hash_of_label(label: Option<i64>, bytes_xxh3: u64) -> u64 {
    let bytes = label.map(i64::to_le_bytes);
    xxh3_64_with_seed(bytes.as_ref().map_or(&[], |bytes| &bytes[..]), bytes_xxh3)
}

fn value(hashes: Option<&UInt64Array>, row: usize) -> Option<u64> {
    let hashes = hashes?;
    hashes.is_valid(row).then(|| hashes.value(row))
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

/// Returns the values, also of a dictionary.
fn plain(array: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values),
        _ => Ok(array.clone()),
    }
}

/// Counts the bytes of a batch's buffers that are not in `fetched`.
fn decoded_bytes(batch: &RecordBatch, fetched: &Fetched) -> u64 {
    let fetched: Vec<_> = fetched
        .ranges
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
