//! Reads the values of one record batch, row by row.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int64Type};

use crate::SampleError;
use crate::write::classes::RawLabel;
use crate::write::sample::{Body, Facts};

/// Label column of one batch.
pub(super) enum ColumnLabels {
    None,
    /// Int64, and the class names of the file.
    Numbers(ArrayRef, Option<Vec<String>>),
    /// Class names, of type Utf8.
    Names(ArrayRef),
}

impl ColumnLabels {
    pub(super) fn get(&self, row: usize) -> RawLabel {
        match self {
            Self::Numbers(column, names) if column.is_valid(row) => {
                let index = column.as_primitive::<Int64Type>().value(row);
                match (names, usize::try_from(index)) {
                    (Some(names), Ok(i)) => names.get(i).map_or_else(
                        || {
                            RawLabel::Bad(format!(
                                "{i} is out of range: the file has {} classes",
                                names.len()
                            ))
                        },
                        |name| RawLabel::Name(name.clone()),
                    ),
                    _ => RawLabel::Index(index),
                }
            }
            Self::Names(column) if column.is_valid(row) => {
                RawLabel::Name(column.as_string::<i32>().value(row).to_owned())
            }
            _ => RawLabel::None,
        }
    }
}

/// Columns of one batch other than media and label.
pub(super) enum ColumnFacts {
    None,
    /// Transcript and speaker, both of type Utf8.
    Speech {
        transcript: Option<ArrayRef>,
        speaker: Option<ArrayRef>,
    },
    /// Second text, of type Utf8, and score, of type Float32.
    Text {
        second: Option<ArrayRef>,
        score: Option<ArrayRef>,
    },
}

impl ColumnFacts {
    pub(super) fn get(&self, row: usize) -> Facts {
        let text = |column: &Option<ArrayRef>| {
            let column = column.as_ref().filter(|column| column.is_valid(row))?;
            Some(column.as_string::<i32>().value(row).to_owned())
        };
        match self {
            Self::None => Facts::None,
            Self::Speech {
                transcript,
                speaker,
            } => Facts::Speech {
                transcript: text(transcript),
                speaker: text(speaker),
            },
            Self::Text { second, score } => Facts::Text {
                second: text(second).map(String::into_bytes),
                score: score
                    .as_ref()
                    .filter(|score| score.is_valid(row))
                    .map(|score| score.as_primitive::<Float32Type>().value(row)),
                continues: false,
            },
        }
    }
}

/// Media column of one batch.
pub(super) struct MediaColumn {
    bytes: ArrayRef,
    row: ArrayRef,
    path: Option<ArrayRef>,
}

impl MediaColumn {
    /// Takes the column `index`, whose type was checked.
    pub(super) fn of(batch: &RecordBatch, index: usize) -> Self {
        let column = batch.column(index).clone();
        let Some(fields) = column.as_struct_opt() else {
            return Self {
                bytes: column.clone(),
                row: column,
                path: None,
            };
        };
        let bytes = fields.column_by_name("bytes").unwrap_or(&column).clone();
        let path = fields
            .column_by_name("path")
            .and_then(|path| cast(path, &DataType::Utf8).ok());
        Self {
            bytes,
            row: column,
            path,
        }
    }

    pub(super) fn path(&self, row: usize) -> Option<String> {
        let path = self
            .path
            .as_ref()
            .filter(|path| self.row.is_valid(row) && path.is_valid(row))?;
        Some(path.as_string::<i32>().value(row).to_owned())
    }

    pub(super) fn body(&self, row: usize) -> Body {
        if self.row.is_null(row) || self.bytes.is_null(row) {
            let reason = self.path(row).map_or(SampleError::Empty, |path| {
                SampleError::Unsupported(format!("the row has the path `{path}` but no bytes"))
            });
            return Body::Bad(reason);
        }
        Body::Bytes(match self.bytes.data_type() {
            DataType::LargeBinary => self.bytes.as_binary::<i64>().value(row).to_vec(),
            DataType::BinaryView => self.bytes.as_binary_view().value(row).to_vec(),
            DataType::Utf8 => self.bytes.as_string::<i32>().value(row).into(),
            DataType::LargeUtf8 => self.bytes.as_string::<i64>().value(row).into(),
            DataType::Utf8View => self.bytes.as_string_view().value(row).into(),
            _ => self.bytes.as_binary::<i32>().value(row).to_vec(),
        })
    }
}
