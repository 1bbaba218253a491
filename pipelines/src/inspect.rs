//! Inspection of a dataset: schema, counts, labels and the first samples.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use understudy_schemas::{NAME_KEY, VERSION_KEY};

use crate::config::Limits;
use crate::decode::{read_audio_header, read_header, text};
use crate::shard::{Dataset, Kind, NO_LABEL, Rows, Shard, ShardFormat, is_label, unpadded_tokens};
use crate::store::Location;
use crate::{Error, Result, SampleError};

/// Maximum of characters and tokens shown of one sample.
const SHOWN_CHARS: usize = 60;
const SHOWN_TOKENS: usize = 8;

/// Summary of a dataset; `Display` formats it as text.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Path or URL of the dataset.
    pub url: String,
    /// Name and version of the schema, if the files have them in their metadata.
    pub schema: Option<(String, String)>,
    /// Whether there is a manifest, which is written last.
    pub has_manifest: bool,
    /// Number of rows.
    pub rows: u64,
    /// Number of shards.
    pub shards: usize,
    /// Number of row groups or record batches.
    pub groups: usize,
    /// Size of all columns as stored, in bytes.
    pub bytes: u64,
    /// Name and type of each column of the first shard; empty for Arrow IPC.
    pub columns: Vec<(String, String)>,
    /// Names of the classes, in the order of their numbers.
    pub classes: Option<Vec<String>>,
    /// Number of rows per label; `None` counts rows without a label.
    pub labels: BTreeMap<Option<i64>, u64>,
    /// Descriptions of the first rows.
    pub samples: Vec<String>,
}

/// Reads the footers, the labels, and the first `n_samples` samples of a dataset.
pub fn inspect(
    url: &str,
    columns: &BTreeMap<String, String>,
    n_samples: usize,
) -> Result<Inspection> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io {
            path: "the I/O runtime".into(),
            source,
        })?;
    runtime.block_on(async {
        let dataset = Dataset::open(url, &Kind::ALL, columns).await?;
        let label = columns.get("label").map_or("label", String::as_str);
        let mut labels = BTreeMap::new();
        let mut schema = None;
        for (s, shard) in dataset.shards.iter().enumerate() {
            match shard.format {
                ShardFormat::Parquet => {
                    let found = count_labels(shard, label, &mut labels).await?;
                    schema.get_or_insert(found);
                }
                ShardFormat::Arrow => count_by_groups(&dataset, s, &mut labels).await?,
            }
        }
        if dataset.classes.is_some()
            && let Some(rows) = labels.remove(&Some(NO_LABEL))
        {
            *labels.entry(None).or_default() += rows;
        }
        let metadata = schema.as_ref().map(|schema| schema.metadata());
        let entry = |key| metadata.and_then(|m| m.get(key)).cloned();
        let fields = schema.iter().flat_map(|schema| schema.fields().iter());
        Ok(Inspection {
            url: dataset.location.url.clone(),
            schema: entry(NAME_KEY).zip(entry(VERSION_KEY)),
            has_manifest: dataset.read_manifest().await?.is_some(),
            rows: dataset.rows,
            shards: dataset.shards.len(),
            groups: dataset.shards.iter().map(|shard| shard.groups.len()).sum(),
            bytes: dataset
                .shards
                .iter()
                .flat_map(|shard| &shard.groups)
                .map(|group| group.bytes)
                .sum(),
            columns: fields
                .map(|f| (f.name().clone(), f.data_type().to_string()))
                .collect(),
            classes: dataset.classes.clone(),
            labels,
            samples: samples(&dataset, n_samples).await?,
        })
    })
}

/// Counts the labels of a Parquet shard. Reads only that column.
async fn count_labels(
    shard: &Shard,
    label: &str,
    labels: &mut BTreeMap<Option<i64>, u64>,
) -> Result<SchemaRef> {
    let at = shard.location();
    let corrupt = |reason: String| Error::Corrupt {
        shard: at.url.clone(),
        reason,
    };
    let head = at.store.head(&at.prefix).await.map_err(|e| at.error(e))?;
    let reader = Ranges {
        at: at.clone(),
        size: head.size,
    };
    let builder = ParquetRecordBatchStreamBuilder::new(reader)
        .await
        .map_err(|error| corrupt(error.to_string()))?;
    let schema = builder.schema().clone();
    // A column of another type, for example a list, is not a label to the reader either.
    let index = schema.index_of(label).ok();
    let Some(index) = index.filter(|&at| is_label(schema.field(at).data_type())) else {
        *labels.entry(None).or_default() += shard.rows;
        return Ok(schema);
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
    let batches = builder
        .with_projection(mask)
        .build()
        .map_err(|e| corrupt(e.to_string()))?;
    let mut batches = std::pin::pin!(batches);
    while let Some(batch) = batches
        .try_next()
        .await
        .map_err(|e| corrupt(e.to_string()))?
    {
        // Strings that are not numbers become null, as there is no class list for them.
        let numbers =
            cast(batch.column(0), &DataType::Int64).map_err(|e| corrupt(e.to_string()))?;
        let numbers = numbers.as_primitive::<Int64Type>();
        for row in 0..numbers.len() {
            *labels
                .entry(numbers.is_valid(row).then(|| numbers.value(row)))
                .or_default() += 1;
        }
    }
    Ok(schema)
}

/// A shard for the `parquet` crate, which reads only the ranges of the projected columns.
struct Ranges {
    at: Location,
    size: u64,
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let read = async move { self.at.store.get_range(&self.at.prefix, range).await };
        read.map(|bytes| bytes.map_err(|error| ParquetError::External(Box::new(error))))
            .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let size = self.size;
        let read = ParquetMetaDataReader::new().load_and_finish(self, size);
        read.map(|metadata| metadata.map(Arc::new)).boxed()
    }
}

/// Counts the labels of an Arrow IPC shard. Reads all columns, which are stored together.
async fn count_by_groups(
    dataset: &Dataset,
    shard: usize,
    labels: &mut BTreeMap<Option<i64>, u64>,
) -> Result<()> {
    for group in 0..dataset.shards[shard].groups.len() {
        let rows = dataset.read_group(shard, group).await?;
        for row in 0..rows.len() {
            let label = if rows.is_labelled(row) {
                rows.label(row).unwrap_or(None)
            } else {
                None
            };
            *labels.entry(label).or_default() += 1;
        }
    }
    Ok(())
}

async fn samples(dataset: &Dataset, n_samples: usize) -> Result<Vec<String>> {
    let groups = dataset.shards.iter().enumerate();
    let first = groups
        .flat_map(|(s, shard)| {
            (shard.groups.iter().enumerate()).map(move |(g, group)| (s, g, group))
        })
        .find(|(_, _, group)| group.rows > 0);
    let Some((shard, group, _)) = first else {
        return Ok(Vec::new());
    };
    let rows = dataset.read_group(shard, group).await?;
    let describe = |row| {
        let path = match dataset.kind {
            Kind::Image | Kind::Audio => rows.path(row).unwrap_or("without a path").to_owned(),
            Kind::Text | Kind::Tokens => format!("row {row}"),
        };
        let bytes = rows.bytes(row).unwrap_or_default();
        let media = describe_media(dataset, &rows, row);
        let media = media.unwrap_or_else(|error| error.to_string());
        let label = match rows.is_labelled(row).then(|| rows.label(row)) {
            None | Some(Ok(None)) => String::new(),
            Some(Ok(Some(number))) => {
                let name = dataset
                    .classes
                    .as_ref()
                    .and_then(|names| names.get(number as usize));
                name.map_or(format!(", label {number}"), |name| {
                    format!(", label {number} ({name})")
                })
            }
            Some(Err(error)) => format!(", {error}"),
        };
        format!("{path}: {media}, {} bytes{label}", bytes.len())
    };
    Ok((0..rows.len().min(n_samples)).map(describe).collect())
}

/// Describes a row: size of an image, length of audio, first tokens or characters.
fn describe_media(dataset: &Dataset, rows: &Rows, row: usize) -> Result<String, SampleError> {
    let limits = Limits::default();
    let bytes = rows.bytes(row).unwrap_or_default();
    match (dataset.kind, &dataset.tokenizer) {
        (Kind::Image, _) => {
            let header = read_header(bytes, &limits)?;
            Ok(format!("{} × {}", header.width, header.height))
        }
        (Kind::Audio, _) => {
            let header = read_audio_header(bytes, &limits)?;
            let rate = header.sample_rate_hz;
            let length = match header.n_frames {
                Some(n) => format!("{:.2} s", n as f64 / f64::from(rate.max(1))),
                None => "unknown length".to_owned(),
            };
            let channels = header.n_channels;
            Ok(format!("{length}, {rate} Hz, {channels} channels"))
        }
        (Kind::Tokens, Some(info)) => {
            let tokens = unpadded_tokens(info, bytes, rows.n_tokens(row))?;
            let first = &tokens[..tokens.len().min(SHOWN_TOKENS)];
            Ok(format!("{} tokens, first {first:?}", tokens.len()))
        }
        (Kind::Text | Kind::Tokens, _) => {
            let text: String = text(bytes)?.chars().take(SHOWN_CHARS).collect();
            Ok(format!("{text:?}"))
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = match &self.schema {
            Some((name, version)) => format!("schema {name}, version {version}"),
            None => "no understudy schema".to_owned(),
        };
        let manifest = if self.has_manifest { "with" } else { "without" };
        writeln!(f, "{}: {schema}, {manifest} manifest", self.url)?;
        writeln!(
            f,
            "{} rows in {} shards and {} row groups, {:.1} MiB, {:.2} MiB per group",
            self.rows,
            self.shards,
            self.groups,
            self.bytes as f64 / f64::from(1 << 20),
            self.bytes as f64 / f64::from(1 << 20) / self.groups as f64
        )?;
        if !self.columns.is_empty() {
            writeln!(f, "columns")?;
        }
        for (name, data_type) in &self.columns {
            writeln!(f, "  {name}: {data_type}")?;
        }
        writeln!(f, "labels")?;
        for (label, rows) in &self.labels {
            match label {
                None => writeln!(f, "  none: {rows}")?,
                Some(number) => {
                    let names = self.classes.as_ref();
                    let name = names.and_then(|names| names.get(*number as usize));
                    writeln!(
                        f,
                        "  {number} {}: {rows}",
                        name.map_or("(no name)", String::as_str)
                    )?;
                }
            }
        }
        writeln!(f, "first samples")?;
        self.samples
            .iter()
            .try_for_each(|sample| writeln!(f, "  {sample}"))
    }
}
