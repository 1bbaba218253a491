//! Parquet and Arrow IPC files as others have them: `image` is a struct of bytes and path (Hugging
//! Face) or plain binary; `label` is a number, with `ClassLabel` names or without, or a string.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::source::{Body, RawLabel, RawSample, Sink, Survey};
use crate::{Error, Result, SampleError};

/// Rows read at a time: pictures are large, and all of a batch's are held.
const BATCH_ROWS: usize = 64;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// One Parquet or Arrow IPC file.
#[derive(Debug)]
pub(crate) struct Columnar {
    path: PathBuf,
    format: Format,
    image: String,
    /// The column of labels; the second is true where the user named it.
    label: (String, bool),
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Parquet,
    ArrowFile,
    ArrowStream,
}

/// What the survey must read of each row.
#[derive(Clone, Copy, PartialEq)]
enum Columns {
    Label,
    All,
}

impl Columnar {
    /// A columnar file by its first bytes.
    pub(crate) fn open(
        path: &Path,
        head: &[u8],
        columns: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let format = if head.starts_with(b"PAR1") {
            Format::Parquet
        } else if head.starts_with(b"ARROW1") {
            Format::ArrowFile
        } else if head.starts_with(&[0xff; 4]) {
            Format::ArrowStream
        } else {
            return None;
        };
        let column = |ours: &str| columns.get(ours).map_or(ours, String::as_str).to_owned();
        let label = (column("label"), columns.contains_key("label"));
        Some(Self {
            path: path.to_owned(),
            format,
            image: column("image"),
            label,
        })
    }

    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        let bytes = self
            .path
            .metadata()
            .map_err(|source| self.io(source))?
            .len();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        survey.hash_file(&name, bytes);
        let (schema, batches) = self.batches(Columns::Label, 0)?;
        self.check_image(&schema)?;
        let names = self.class_names(&schema);
        if let Some(names) = &names {
            survey.labels.list(names.clone());
        }
        for batch in batches {
            let batch = batch.map_err(|e| self.damaged(&e))?;
            survey.samples += batch.num_rows() as u64;
            if names.is_some() {
                continue;
            }
            let labels = self.labels(&batch, None)?;
            for row in 0..batch.num_rows() {
                match labels.get(row) {
                    RawLabel::Name(name) => survey.labels.name(&name),
                    RawLabel::Index(_) => survey.labels.numbers = true,
                    RawLabel::None | RawLabel::Bad(_) => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        let (schema, batches) = self.batches(Columns::All, skip)?;
        let names = self.class_names(&schema);
        // Parquet has skipped already; Arrow's batches are stepped over here.
        let mut row_in_file = if matches!(self.format, Format::Parquet) {
            let rows = self.n_rows()?;
            if rows <= skip {
                return Ok(ControlFlow::Continue(skip - rows));
            }
            skip
        } else {
            0
        };
        for batch in batches {
            let batch = batch.map_err(|e| self.damaged(&e))?;
            let n_rows = batch.num_rows() as u64;
            if row_in_file + n_rows <= skip {
                row_in_file += n_rows;
                continue;
            }
            let labels = self.labels(&batch, names.as_deref())?;
            let media = Media::of(&batch, self.image_index(&batch.schema())?);
            for row in 0..batch.num_rows() {
                if row_in_file >= skip {
                    let sample = RawSample {
                        place: format!("{}#{row_in_file}", self.path.display()),
                        path: media.path(row),
                        body: media.body(row),
                        label: labels.get(row),
                    };
                    if sink(sample).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                row_in_file += 1;
            }
        }
        Ok(ControlFlow::Continue(skip.saturating_sub(row_in_file)))
    }

    fn n_rows(&self) -> Result<u64> {
        let rows = self.parquet()?.metadata().file_metadata().num_rows();
        u64::try_from(rows).map_err(|_| self.damaged(&"a negative number of rows"))
    }

    fn parquet(&self) -> Result<ParquetRecordBatchReaderBuilder<File>> {
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| self.damaged(&e))
    }

    /// The whole file's schema, and its rows with the columns that are wanted; Parquet starts
    /// after `skip` rows, Arrow at the first.
    fn batches(&self, columns: Columns, skip: u64) -> Result<(SchemaRef, Batches)> {
        let project = |schema: &Schema| -> Result<Vec<usize>> {
            let mut wanted: Vec<usize> = self.label_index(schema)?.into_iter().collect();
            if columns == Columns::All {
                wanted.push(self.image_index(schema)?);
            }
            wanted.sort_unstable();
            Ok(wanted)
        };
        let open = || File::open(&self.path).map_err(|source| self.io(source));
        let damaged = |e: ArrowError| self.damaged(&e);
        match self.format {
            Format::Parquet => {
                let builder = self.parquet()?;
                let schema = builder.schema().clone();
                let mask = ProjectionMask::roots(builder.parquet_schema(), project(&schema)?);
                let rows = if columns == Columns::All {
                    BATCH_ROWS
                } else {
                    8192
                };
                let builder = builder.with_projection(mask).with_batch_size(rows);
                let reader = builder
                    .with_offset(skip as usize)
                    .build()
                    .map_err(|e| self.damaged(&e))?;
                Ok((schema, Box::new(reader)))
            }
            Format::ArrowFile => {
                let schema = FileReader::try_new_buffered(open()?, None)
                    .map_err(damaged)?
                    .schema();
                let wanted = project(&schema)?;
                let reader = FileReader::try_new(BufReader::new(open()?), Some(wanted));
                Ok((schema, Box::new(reader.map_err(damaged)?)))
            }
            Format::ArrowStream => {
                let schema = StreamReader::try_new_buffered(open()?, None)
                    .map_err(damaged)?
                    .schema();
                let wanted = project(&schema)?;
                let reader = StreamReader::try_new(BufReader::new(open()?), Some(wanted));
                Ok((schema, Box::new(reader.map_err(damaged)?)))
            }
        }
    }

    fn image_index(&self, schema: &Schema) -> Result<usize> {
        schema.index_of(&self.image).map_err(|_| {
            self.schema_error(
                &self.image,
                format!(
                    "not in this file, which has {}; name it with --columns image=…",
                    column_names(schema)
                ),
            )
        })
    }

    fn label_index(&self, schema: &Schema) -> Result<Option<usize>> {
        let (name, named) = &self.label;
        match schema.index_of(name) {
            _ if name.is_empty() => Ok(None),
            Ok(index) => Ok(Some(index)),
            Err(_) if !named => Ok(None),
            Err(_) => {
                let has = column_names(schema);
                Err(self.schema_error(name, format!("not in this file, which has {has}")))
            }
        }
    }

    fn check_image(&self, schema: &Schema) -> Result<()> {
        let found = schema.field(self.image_index(schema)?).data_type();
        let bytes = match found {
            DataType::Struct(fields) => fields.find("bytes").map(|(_, field)| field.data_type()),
            plain => Some(plain),
        };
        match bytes {
            Some(DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => Ok(()),
            _ => Err(self.schema_error(
                &self.image,
                format!("is {found}; expected binary, or a struct with `bytes` of binary"),
            )),
        }
    }

    fn class_names(&self, schema: &Schema) -> Option<Vec<String>> {
        let features = schema.metadata().get(understudy_schemas::HUGGINGFACE_KEY)?;
        understudy_schemas::class_names(features, &self.label.0)
    }

    fn labels(&self, batch: &RecordBatch, names: Option<&[String]>) -> Result<ColumnLabels> {
        let schema = batch.schema();
        let Some(index) = self.label_index(&schema)? else {
            return Ok(ColumnLabels::None);
        };
        let column = batch.column(index);
        let to = |data_type| {
            cast(column, &data_type).map_err(|e| self.schema_error(&self.label.0, e.to_string()))
        };
        let value = match column.data_type() {
            DataType::Dictionary(_, value) => value.as_ref(),
            plain => plain,
        };
        match value {
            integer if integer.is_integer() => {
                Ok(ColumnLabels::Numbers(to(DataType::Int64)?, names.map(<[String]>::to_vec)))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(ColumnLabels::Names(to(DataType::Utf8)?))
            }
            other => Err(self.schema_error(&self.label.0, format!(
                "is {other}; expected whole numbers or strings; leave labels out with --columns label="
            ))),
        }
    }

    fn schema_error(&self, column: &str, reason: String) -> Error {
        Error::Schema {
            shard: self.path.display().to_string(),
            column: column.to_owned(),
            reason,
        }
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, reason: &impl ToString) -> Error {
        Error::Corrupt {
            shard: self.path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

/// The labels of one batch.
enum ColumnLabels {
    None,
    /// Int64, and the names that the file gives them.
    Numbers(ArrayRef, Option<Vec<String>>),
    /// Utf8.
    Names(ArrayRef),
}

impl ColumnLabels {
    fn get(&self, row: usize) -> RawLabel {
        match self {
            Self::Numbers(column, names) if column.is_valid(row) => {
                let index = column.as_primitive::<Int64Type>().value(row);
                match (names, usize::try_from(index)) {
                    (Some(names), Ok(i)) => names.get(i).map_or_else(
                        || {
                            RawLabel::Bad(format!(
                                "{i} is out of range: its file names {} classes",
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

/// The pictures of one batch.
struct Media {
    bytes: ArrayRef,
    row: ArrayRef,
    path: Option<ArrayRef>,
}

impl Media {
    /// `index` is the picture's column, whose type was checked.
    fn of(batch: &RecordBatch, index: usize) -> Self {
        let column = batch.column(index).clone();
        let Some(parts) = column.as_struct_opt() else {
            return Self {
                bytes: column.clone(),
                row: column,
                path: None,
            };
        };
        let bytes = parts.column_by_name("bytes").unwrap_or(&column).clone();
        let path = parts
            .column_by_name("path")
            .and_then(|path| cast(path, &DataType::Utf8).ok());
        Self {
            bytes,
            row: column,
            path,
        }
    }

    fn path(&self, row: usize) -> Option<String> {
        let path = self
            .path
            .as_ref()
            .filter(|path| self.row.is_valid(row) && path.is_valid(row))?;
        Some(path.as_string::<i32>().value(row).to_owned())
    }

    fn body(&self, row: usize) -> Body {
        if self.row.is_null(row) || self.bytes.is_null(row) {
            let reason = self.path(row).map_or(SampleError::Empty, |path| {
                SampleError::Unsupported(format!(
                    "the row names `{path}` and does not hold its bytes"
                ))
            });
            return Body::Bad(reason);
        }
        Body::Bytes(match self.bytes.data_type() {
            DataType::LargeBinary => self.bytes.as_binary::<i64>().value(row).to_vec(),
            DataType::BinaryView => self.bytes.as_binary_view().value(row).to_vec(),
            _ => self.bytes.as_binary::<i32>().value(row).to_vec(),
        })
    }
}

fn column_names(schema: &Schema) -> String {
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| format!("`{}`", field.name()))
        .collect();
    names.join(", ")
}
