//! Parquet shards: two small reads for the footer, one ranged read per row group.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};

use understudy_schemas::Vocabulary;

use super::as_bytes;
use super::columns::{ColumnMap, Columns};
use super::fetch::{Fetched, MAX_GAP, Object, coalesce, n_requests};
use super::files::Group;
use super::rows::{Classes, ROW_BYTES, Rows};
use crate::Result;

/// Length of the footer's length and the magic after it.
const TAIL: u64 = 8;
/// Bytes of the first read: footers are rarely longer, so one read gets both.
const LIKELY_FOOTER: u64 = 64 << 10;
/// [`MAX_GAP`] for a small column alone: with a larger one, small row groups would be read in full.
const COLUMN_GAP: u64 = 64 << 10;
/// Bytes of a small column that are read at a time, gaps included.
const COLUMN_BYTES: u64 = 4 << 20;

/// The footer of a Parquet shard.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) groups: Vec<Group>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) tokenizer: Option<Vocabulary>,
    metadata: ArrowReaderMetadata,
    columns: Columns,
}

impl Footer {
    /// Reads the footer: first its length, then itself.
    pub(super) async fn read(object: &Object, map: &ColumnMap) -> Result<Self> {
        let of_file = read_metadata(object).await?;
        let schema = schema_of(object, of_file.clone())?;
        let columns = map.find(&schema, &object.location.url)?;
        let classes = map.classes(&schema);
        let tokenizer = map.tokenizer(&schema, columns, &object.location.url)?;
        let metadata = to_read(&of_file, &schema, map);
        let metadata = metadata.map_err(|error| unreadable(object, &error))?;
        let mask = mask(&metadata, columns.indices());
        let groups = metadata.metadata().row_groups().iter().enumerate();
        let groups = groups.map(|(at, group)| {
            let damaged = || object.corrupt(format!("its footer is damaged: row group {at}"));
            measured(group, &mask, object.bytes).ok_or_else(damaged)
        });
        let groups = groups.collect::<Result<_>>()?;
        Ok(Self {
            groups,
            classes,
            tokenizer,
            metadata,
            columns,
        })
    }

    /// Returns the indices of the mapped columns.
    pub(super) fn columns(&self) -> Columns {
        self.columns
    }

    /// Reads the mapped columns of a row group.
    pub(super) async fn read_group(
        &self,
        object: &Object,
        group: usize,
        classes: Option<Arc<Classes>>,
    ) -> Result<Rows> {
        let what = format!("row group {group}");
        let (batch, fetched) = self
            .read_batch(object, self.columns.indices(), vec![group], MAX_GAP, &what)
            .await?;
        Rows::new(&batch, self.columns.projected(), classes, &fetched)
            .map_err(|error| object.corrupt(format!("{what}: {error}")))
    }

    /// Reads small columns of all row groups, without the media, some row groups at a time.
    pub(super) async fn read_columns(
        &self,
        object: &Object,
        columns: &[usize],
    ) -> Result<Vec<RecordBatch>> {
        let mask = mask(&self.metadata, columns.to_vec());
        let (mut some, mut bytes) = (Vec::new(), 0);
        let mut batches = Vec::new();
        for group in 0..self.groups.len() {
            let ranges = coalesce(self.ranges(&mask, &[group]), COLUMN_GAP);
            some.push(group);
            bytes += ranges.iter().map(|r| r.end - r.start).sum::<u64>() + COLUMN_GAP;
            if bytes >= COLUMN_BYTES || group + 1 == self.groups.len() {
                let (groups, columns) = (std::mem::take(&mut some), columns.to_vec());
                let read = self.read_batch(object, columns, groups, COLUMN_GAP, "lengths");
                batches.push(read.await?.0);
                bytes = 0;
            }
        }
        Ok(batches)
    }

    /// Returns the byte ranges of the columns of row groups.
    fn ranges(&self, mask: &ProjectionMask, groups: &[usize]) -> Vec<Range<u64>> {
        let chunks = groups.iter().flat_map(|&group| {
            let columns = self.metadata.metadata().row_group(group).columns();
            columns.iter().enumerate()
        });
        chunks
            .filter(|(leaf, _)| mask.leaf_included(*leaf))
            .filter_map(|(_, column)| range_of(column))
            .collect()
    }

    /// Reads columns of row groups as one batch; returns also the fetched bytes.
    async fn read_batch(
        &self,
        object: &Object,
        columns: Vec<usize>,
        groups: Vec<usize>,
        max_gap: u64,
        what: &str,
    ) -> Result<(RecordBatch, Fetched)> {
        let mask = mask(&self.metadata, columns);
        let ranges = coalesce(self.ranges(&mask, &groups), max_gap);
        let fetched = object.read_all(ranges).await?;
        let source = Source {
            size: object.bytes,
            fetched: fetched.clone(),
        };
        let metadata = self.metadata.clone();
        // Decompression must not delay the reads of other groups; and a decoder that panics on a
        // damaged page is an error of this shard.
        let decode = move || decode(metadata, mask, groups, source);
        match tokio::task::spawn_blocking(decode).await {
            Ok(Ok(batch)) => Ok((batch, fetched)),
            Ok(Err(error)) => Err(object.corrupt(format!("{what}: {error}"))),
            Err(error) => Err(object.decode_error(what, error)),
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.metadata.metadata().memory_size()
    }
}

fn decode(
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    groups: Vec<usize>,
    source: Source,
) -> Result<RecordBatch, ParquetError> {
    let n_rows: usize = groups
        .iter()
        .map(|&group| metadata.metadata().row_group(group).num_rows() as usize)
        .sum();
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata)
        .with_projection(mask)
        .with_row_groups(groups)
        .with_batch_size(n_rows)
        .build()?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    // One batch, as asked for: then nothing is copied here.
    let batch = concat_batches(&schema, &batches)?;
    if batch.num_rows() != n_rows {
        let found = batch.num_rows();
        return Err(ParquetError::General(format!(
            "{found} rows where the footer says {n_rows}"
        )));
    }
    Ok(batch)
}

/// Reads the schema of a file.
pub(super) async fn read_schema(object: &Object) -> Result<SchemaRef> {
    schema_of(object, read_metadata(object).await?)
}

fn schema_of(object: &Object, metadata: Arc<ParquetMetaData>) -> Result<SchemaRef> {
    let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())
        .map_err(|error| unreadable(object, &error))?;
    Ok(metadata.schema().clone())
}

async fn read_metadata(object: &Object) -> Result<Arc<ParquetMetaData>> {
    if object.bytes < TAIL + 4 {
        let reason = format!("{} bytes are too few for a Parquet file", object.bytes);
        return Err(object.corrupt(reason));
    }
    let end = object.bytes - TAIL;
    let likely = object.bytes.saturating_sub(LIKELY_FOOTER);
    let tail = object.read(likely..object.bytes).await?;
    let last = tail.slice((end - likely) as usize..);
    let Ok(Ok(last)) = last.as_ref().try_into().map(FooterTail::try_new) else {
        return Err(not_parquet(object).await?);
    };
    let length = last.metadata_length() as u64;
    if length > end {
        let reason = format!("a footer of {length} bytes in a file of {}", object.bytes);
        return Err(object.corrupt(reason));
    }
    let footer = match (end - length).checked_sub(likely) {
        Some(from) => tail.slice(from as usize..(end - likely) as usize),
        None => object.read(end - length..end).await?,
    };
    ParquetMetaDataReader::decode_metadata(&footer)
        .map(Arc::new)
        .map_err(|error| unreadable(object, &error))
}

fn unreadable(object: &Object, error: &ParquetError) -> crate::Error {
    object.corrupt(format!("cannot read its footer: {error}"))
}

/// Returns the error for a file that does not end as Parquet.
async fn not_parquet(object: &Object) -> Result<crate::Error> {
    let head = object.read(0..4).await?;
    Ok(object.corrupt(match head.as_ref() {
        b"PAR1" => {
            "begins as Parquet but does not end as Parquet, so it is truncated\nhint: copy it again"
                .to_owned()
        }
        _ => "not a Parquet file, despite its name".to_owned(),
    }))
}

/// Returns the metadata to read rows with: media columns are read as bytes.
fn to_read(
    metadata: &ParquetMetaData,
    schema: &Schema,
    map: &ColumnMap,
) -> Result<ArrowReaderMetadata, ParquetError> {
    let metadata = as_bytes::of_parquet(metadata, map)?;
    let schema = as_bytes::as_views(schema, map);
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(Arc::new(metadata), options)
}

fn mask(metadata: &ArrowReaderMetadata, columns: Vec<usize>) -> ProjectionMask {
    ProjectionMask::roots(metadata.parquet_schema(), columns)
}

/// Measures a row group; `None` if its footer cannot be that of a file of `file_bytes`.
fn measured(group: &RowGroupMetaData, mask: &ProjectionMask, file_bytes: u64) -> Option<Group> {
    let rows = u64::from(u32::try_from(group.num_rows()).ok()?);
    let (mut bytes, mut decoded_bytes) = (0, rows * ROW_BYTES);
    let mut ranges = Vec::new();
    for (leaf, column) in group.columns().iter().enumerate() {
        let range = range_of(column).filter(|range| range.end <= file_bytes)?;
        bytes += range.end - range.start;
        if mask.leaf_included(leaf) {
            // Fixed-size binary is copied out of its pages, other media are not.
            let is_fixed = column.column_type() == Type::FIXED_LEN_BYTE_ARRAY;
            if is_fixed || column.compression() != Compression::UNCOMPRESSED {
                let column_bytes = u64::try_from(column.uncompressed_size()).ok()?;
                decoded_bytes = column_bytes.checked_add(decoded_bytes)?;
            }
            ranges.push(range);
        }
    }
    // The bytes between two columns that are read as one are held too.
    let fetched = coalesce(ranges, MAX_GAP);
    let fetch_bytes: u64 = fetched.iter().map(|range| range.end - range.start).sum();
    Some(Group {
        rows,
        bytes,
        fetch_bytes,
        requests: n_requests(&fetched),
        memory: decoded_bytes.checked_add(fetch_bytes)?,
    })
}

/// Returns the byte range of a column's pages. (`byte_range` panics where a damaged footer has a
/// negative number.)
fn range_of(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = column.dictionary_page_offset();
    let start = u64::try_from(start.unwrap_or(column.data_page_offset())).ok()?;
    let length = u64::try_from(column.compressed_size()).ok()?;
    Some(start..start.checked_add(length)?)
}

/// A file of which some ranges were read.
struct Source {
    size: u64,
    fetched: Fetched,
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Source {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let outside = || ParquetError::EOF(format!("a page at {start}, outside its column chunk"));
        Ok(self.fetched.from(start).ok_or_else(outside)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self
            .fetched
            .from(start)
            .filter(|bytes| bytes.len() >= length);
        let bytes = bytes.ok_or_else(|| {
            ParquetError::EOF(format!(
                "a page of {length} bytes at {start}, outside its column"
            ))
        })?;
        Ok(bytes.slice(..length))
    }
}
