//! Parquet and Arrow IPC files. `image` or `audio` is a struct of bytes and path (Hugging Face) or
//! plain binary, `text` a string; `label` is a number, with or without `ClassLabel` names, or a string.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::config::Modality;
use crate::write::sample::{ColumnMap, RawSample, Sink, Survey};
use crate::write::source::audio_manifest::{SPEAKER, TRANSCRIPT};
use crate::write::source::columnar_cells::{ColumnFacts, ColumnLabels, MediaColumn};
use crate::{Error, Result};

/// Rows per record batch: small, because all media of a batch are in memory.
const BATCH_ROWS: usize = 64;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// One Parquet or Arrow IPC file.
#[derive(Debug)]
pub(crate) struct Columnar {
    pub(super) path: PathBuf,
    format: ColumnarFormat,
    modality: Modality,
    /// Media column.
    media: Wanted,
    label: Wanted,
    /// `transcript` of audio, `text_b` of texts.
    transcript_or_text_b: Wanted,
    /// `speaker` of audio, `score` of texts.
    speaker_or_score: Wanted,
}

/// An optional column: its possible names, best first, and whether the user named it.
#[derive(Debug)]
struct Wanted {
    ours: &'static str,
    names: Vec<String>,
    named: bool,
}

impl Wanted {
    fn new(ours: &'static str, others: &[&str], columns: &ColumnMap) -> Self {
        let named = columns.get(ours);
        let names = match named {
            Some(name) => vec![name.clone()],
            None => others.iter().map(|&name| name.to_owned()).collect(),
        };
        Self {
            ours,
            names,
            named: named.is_some(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum ColumnarFormat {
    Parquet,
    ArrowFile,
    ArrowStream,
}

/// Columns to read of each row.
#[derive(Clone, Copy, PartialEq)]
enum Projection {
    Label,
    All,
}

impl Columnar {
    /// Opens a columnar file, detected by its first bytes.
    pub(crate) fn open(
        path: &Path,
        head: &[u8],
        modality: Modality,
        columns: &ColumnMap,
    ) -> Option<Self> {
        let format = if head.starts_with(b"PAR1") {
            ColumnarFormat::Parquet
        } else if head.starts_with(b"ARROW1") {
            ColumnarFormat::ArrowFile
        } else if head.starts_with(&[0xff; 4]) {
            ColumnarFormat::ArrowStream
        } else {
            return None;
        };
        let wanted = |ours, others: &[&str]| Wanted::new(ours, others, columns);
        let (media, transcript_or_text_b, speaker_or_score) = match modality {
            Modality::Image => (
                wanted("image", &["image"]),
                wanted("", &[]),
                wanted("", &[]),
            ),
            Modality::Audio => (
                wanted("audio", &["audio"]),
                wanted("transcript", &TRANSCRIPT),
                wanted("speaker", &SPEAKER),
            ),
            Modality::Text => (
                wanted("text", &["text"]),
                wanted("text_b", &["text_b"]),
                wanted("score", &["score"]),
            ),
        };
        Some(Self {
            path: path.to_owned(),
            format,
            modality,
            media,
            label: wanted("label", &["label"]),
            transcript_or_text_b,
            speaker_or_score,
        })
    }

    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        let bytes = self
            .path
            .metadata()
            .map_err(|source| self.io(source))?
            .len();
        let name = self.path.file_name().unwrap_or_default();
        survey.hash_file(name, bytes);
        let (schema, batches) = self.batches(Projection::Label, 0)?;
        self.check_media(&schema)?;
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
                survey.labels.label(&labels.get(row));
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        let (schema, batches) = self.batches(Projection::All, skip)?;
        let names = self.class_names(&schema);
        // The Parquet reader skips rows itself; Arrow batches are skipped here.
        let mut row_in_file = if matches!(self.format, ColumnarFormat::Parquet) {
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
            let media = MediaColumn::of(&batch, self.media_index(&batch.schema())?);
            let facts = self.facts(&batch)?;
            for row in 0..batch.num_rows() {
                if row_in_file >= skip {
                    let sample = RawSample {
                        place: format!("{}#{row_in_file}", self.path.display()),
                        path: media.path(row),
                        body: media.body(row),
                        label: labels.get(row),
                        facts: facts.get(row),
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
        u64::try_from(rows).map_err(|_| self.damaged(&"negative number of rows"))
    }

    fn parquet(&self) -> Result<ParquetRecordBatchReaderBuilder<File>> {
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| self.damaged(&e))
    }

    /// Returns the schema of the file, and its rows with the wanted columns. Parquet starts after `skip`
    /// rows, Arrow at the first.
    fn batches(&self, columns: Projection, skip: u64) -> Result<(SchemaRef, Batches)> {
        let project = |schema: &Schema| -> Result<Vec<usize>> {
            let mut wanted: Vec<usize> = self.index(&self.label, schema)?.into_iter().collect();
            if columns == Projection::All {
                wanted.push(self.media_index(schema)?);
                wanted.extend(self.index(&self.transcript_or_text_b, schema)?);
                wanted.extend(self.index(&self.speaker_or_score, schema)?);
            }
            wanted.sort_unstable();
            wanted.dedup();
            Ok(wanted)
        };
        let open = || File::open(&self.path).map_err(|source| self.io(source));
        let damaged = |e: ArrowError| self.damaged(&e);
        match self.format {
            ColumnarFormat::Parquet => {
                let builder = self.parquet()?;
                let schema = builder.schema().clone();
                let mask = ProjectionMask::roots(builder.parquet_schema(), project(&schema)?);
                let rows = if columns == Projection::All {
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
            ColumnarFormat::ArrowFile => {
                let schema = FileReader::try_new_buffered(open()?, None)
                    .map_err(damaged)?
                    .schema();
                let wanted = project(&schema)?;
                let reader = FileReader::try_new(BufReader::new(open()?), Some(wanted));
                Ok((schema, Box::new(reader.map_err(damaged)?)))
            }
            ColumnarFormat::ArrowStream => {
                let schema = StreamReader::try_new_buffered(open()?, None)
                    .map_err(damaged)?
                    .schema();
                let wanted = project(&schema)?;
                let reader = StreamReader::try_new(BufReader::new(open()?), Some(wanted));
                Ok((schema, Box::new(reader.map_err(damaged)?)))
            }
        }
    }

    fn media_index(&self, schema: &Schema) -> Result<usize> {
        let name = &self.media.names[0];
        schema.index_of(name).map_err(|_| {
            let (has, ours) = (column_names(schema), self.media.ours);
            let reason = format!("not found among {has}\nhint: name it with --columns {ours}=NAME");
            self.schema_error(name, reason)
        })
    }

    /// Returns the index of a column, `None` if it is missing. A column that the user named must exist.
    fn index(&self, wanted: &Wanted, schema: &Schema) -> Result<Option<usize>> {
        let mut names = wanted.names.iter().filter(|name| !name.is_empty());
        let found = names.find_map(|name| schema.index_of(name).ok());
        match wanted.names.first() {
            Some(name) if found.is_none() && wanted.named && !name.is_empty() => {
                let has = column_names(schema);
                Err(self.schema_error(name, format!("not found among {has}")))
            }
            _ => Ok(found),
        }
    }

    fn check_media(&self, schema: &Schema) -> Result<()> {
        let found = schema.field(self.media_index(schema)?).data_type();
        let serves = match (self.modality, found) {
            (Modality::Text, plain) => is_text(plain),
            (_, DataType::Struct(fields)) => fields
                .find("bytes")
                .is_some_and(|(_, field)| is_binary(field.data_type())),
            (_, plain) => is_binary(plain),
        };
        if serves {
            return Ok(());
        }
        let expected = match self.modality {
            Modality::Text => "a string",
            _ => "binary, or a struct with `bytes` of binary",
        };
        let reason = format!("is {found}; expected {expected}");
        Err(self.schema_error(&self.media.names[0], reason))
    }

    fn class_names(&self, schema: &Schema) -> Option<Vec<String>> {
        let features = schema.metadata().get(understudy_schemas::HUGGINGFACE_KEY)?;
        understudy_schemas::class_names(features, self.label.names.first()?)
    }

    fn labels(&self, batch: &RecordBatch, names: Option<&[String]>) -> Result<ColumnLabels> {
        let schema = batch.schema();
        let Some(index) = self.index(&self.label, &schema)? else {
            return Ok(ColumnLabels::None);
        };
        let column = batch.column(index);
        let name = schema.field(index).name();
        let to = |data_type| {
            cast(column, &data_type).map_err(|e| self.schema_error(name, e.to_string()))
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
            other => Err(self.schema_error(name, format!(
                "is {other}; expected integers or strings\nhint: ignore labels with --columns label="
            ))),
        }
    }

    /// Returns the columns other than media and label. Numeric speakers become strings.
    fn facts(&self, batch: &RecordBatch) -> Result<ColumnFacts> {
        let schema = batch.schema();
        let column = |wanted: &Wanted, data_type: DataType| -> Result<Option<ArrayRef>> {
            let Some(index) = self.index(wanted, &schema)? else {
                return Ok(None);
            };
            let column = cast(batch.column(index), &data_type);
            let name = schema.field(index).name();
            column
                .map(Some)
                .map_err(|e| self.schema_error(name, e.to_string()))
        };
        Ok(match self.modality {
            Modality::Image => ColumnFacts::None,
            Modality::Audio => ColumnFacts::Speech {
                transcript: column(&self.transcript_or_text_b, DataType::Utf8)?,
                speaker: column(&self.speaker_or_score, DataType::Utf8)?,
            },
            Modality::Text => ColumnFacts::Text {
                second: column(&self.transcript_or_text_b, DataType::Utf8)?,
                score: column(&self.speaker_or_score, DataType::Float32)?,
            },
        })
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

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView)
}

fn is_text(data_type: &DataType) -> bool {
    use DataType::{LargeUtf8, Utf8, Utf8View};
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View)
}

fn column_names(schema: &Schema) -> String {
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| format!("`{}`", field.name()))
        .collect();
    names.join(", ")
}
