//! Arrow IPC shards, files and streams: a record batch is a row group.
//!
//! All columns of a batch are read, with one ranged read: compared with the media the others are small.

use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, MessageHeader, MetadataVersion, root_as_footer, root_as_message};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use understudy_schemas::Vocabulary;

use super::as_bytes;
use super::columns::{ColumnMap, Columns};
use super::fetch::{Fetched, MAX_GAP, Object, coalesce, n_requests};
use super::files::Group;
use super::rows::{Classes, ROW_BYTES, Rows};
use crate::Result;

const MAGIC: &[u8] = b"ARROW1";
/// Bytes after the footer of a file: its length and the magic.
const TAIL: u64 = 10;
/// Bytes of the first read of a message; the head of a batch is seldom longer.
const HEAD_BYTES: u64 = 4 << 10;
/// Maximum number of heads read at once in a file, whose footer has their offsets.
const HEADS_AT_ONCE: usize = 16;
/// A longer head than this is taken for damage.
const MAX_HEAD_BYTES: u64 = 64 << 20;

/// The footer of an Arrow shard.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) groups: Vec<Group>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) tokenizer: Option<Vocabulary>,
    schema: SchemaRef,
    version: MetadataVersion,
    columns: Columns,
    batches: Vec<Message>,
    /// Dictionaries that the mapped columns may need, with their bytes.
    dictionaries: Vec<(Message, Bytes)>,
    /// In a stream, a batch uses only the dictionaries before it.
    is_stream: bool,
}

/// One message of a file: its head at `start`, its body after it.
#[derive(Debug, Clone, Copy)]
struct Message {
    start: u64,
    head: u64,
    body: u64,
    kind: MessageHeader,
    rows: u64,
    /// Bytes of its buffers after decompression; 0 where they are not compressed.
    decompressed: u64,
}

impl Footer {
    /// Finds the record batches: from a file's footer, or by walking a stream's heads.
    pub(super) async fn read(object: &Object, map: &ColumnMap) -> Result<Self> {
        let is_stream = is_stream(object).await?;
        let (schema, version, messages) = if is_stream {
            walk_stream(object).await?
        } else {
            read_file_footer(object).await?
        };
        let columns = map.find(&schema, &object.location.url)?;
        let classes = map.classes(&schema);
        let tokenizer = map.tokenizer(&schema, columns, &object.location.url)?;
        let (batches, dictionaries): (Vec<Message>, Vec<Message>) = messages
            .into_iter()
            .partition(|message| message.kind == MessageHeader::RecordBatch);
        let needs_dictionaries = columns
            .indices()
            .into_iter()
            .any(|at| has_dictionary(schema.field(at).data_type()));
        let mut fetched = Vec::new();
        for message in dictionaries.into_iter().filter(|_| needs_dictionaries) {
            fetched.push((message, object.read(message.range()).await?));
        }
        let groups = batches.iter().map(Message::group).collect();
        let schema = Arc::new(as_bytes::of_arrow(&schema, map));
        let dictionaries = fetched;
        Ok(Self {
            groups,
            classes,
            tokenizer,
            schema,
            version,
            columns,
            batches,
            dictionaries,
            is_stream,
        })
    }

    /// Reads a record batch.
    pub(super) async fn read_group(
        &self,
        object: &Object,
        group: usize,
        classes: Option<Arc<Classes>>,
    ) -> Result<Rows> {
        let message = self.batches[group];
        let fetched = Fetched {
            ranges: vec![(message.start, object.read(message.range()).await?)],
        };
        let decoder = FileDecoder::new(self.schema.clone(), self.version)
            .with_projection(self.columns.indices());
        let known = |at: u64| !self.is_stream || at < message.start;
        let dictionaries: Vec<_> = self
            .dictionaries
            .iter()
            .filter(|(at, _)| known(at.start))
            .cloned()
            .collect();
        let columns = self.columns;
        let decode = move || decode(decoder, &dictionaries, message, &fetched, columns, classes);
        match tokio::task::spawn_blocking(decode).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(object.corrupt(format!("record batch {group}: {error}"))),
            Err(error) => Err(object.decode_error(&format!("record batch {group}"), error)),
        }
    }

    pub(super) fn memory(&self) -> usize {
        let dictionaries: usize = self.dictionaries.iter().map(|(_, bytes)| bytes.len()).sum();
        dictionaries + size_of_val(self.batches.as_slice())
    }
}

fn decode(
    mut decoder: FileDecoder,
    dictionaries: &[(Message, Bytes)],
    message: Message,
    fetched: &Fetched,
    columns: Columns,
    classes: Option<Arc<Classes>>,
) -> Result<Rows, ArrowError> {
    for (dictionary, bytes) in dictionaries {
        decoder.read_dictionary(&dictionary.block(), &Buffer::from(bytes.clone()))?;
    }
    let bytes = fetched.from(message.start).unwrap_or_default();
    let batch = decoder.read_record_batch(&message.block(), &Buffer::from(bytes))?;
    let batch = batch.ok_or_else(|| ArrowError::IpcError("no record batch here".into()))?;
    Rows::new(&batch, columns.projected(), classes, fetched)
}

/// Reads the schema of a file or stream.
pub(super) async fn read_schema(object: &Object) -> Result<SchemaRef> {
    let (schema, ..) = if is_stream(object).await? {
        walk_stream(object).await?
    } else {
        read_file_footer(object).await?
    };
    Ok(schema)
}

async fn is_stream(object: &Object) -> Result<bool> {
    let start = object.read(0..object.bytes.min(MAGIC.len() as u64)).await?;
    Ok(start != MAGIC)
}

async fn read_file_footer(object: &Object) -> Result<(SchemaRef, MetadataVersion, Vec<Message>)> {
    let truncated = || {
        object.corrupt(
            "begins as an Arrow file but does not end as one, so it is truncated\nhint: copy it again"
                .into(),
        )
    };
    let end = object.bytes.checked_sub(TAIL).ok_or_else(truncated)?;
    let tail = object.read(end..object.bytes).await?;
    let length = tail
        .as_ref()
        .try_into()
        .ok()
        .and_then(|tail| read_footer_length(tail).ok());
    let from = length
        .and_then(|length| end.checked_sub(length as u64))
        .ok_or_else(truncated)?;
    let footer = object.read(from..end).await?;
    let unreadable = |error: String| object.corrupt(format!("cannot read its footer: {error}"));
    let footer = root_as_footer(&footer).map_err(|error| unreadable(error.to_string()))?;
    let schema = footer
        .schema()
        .ok_or_else(|| unreadable("no schema".into()))?;
    let schema = try_fb_to_schema(schema).map_err(|error| unreadable(error.to_string()))?;
    let starts: Vec<u64> = footer
        .dictionaries()
        .iter()
        .flatten()
        .chain(footer.recordBatches().iter().flatten())
        .map(|block| block.offset() as u64)
        .collect();
    let version = footer.version();
    let heads = starts.into_iter().map(|start| read_head(object, start));
    let heads: Vec<_> = futures::stream::iter(heads)
        .buffered(HEADS_AT_ONCE)
        .try_collect()
        .await?;
    let messages = heads
        .into_iter()
        .flatten()
        .map(|(message, _)| message)
        .collect();
    Ok((Arc::new(schema), version, messages))
}

async fn walk_stream(object: &Object) -> Result<(SchemaRef, MetadataVersion, Vec<Message>)> {
    let Some((first, head)) = read_head(object, 0).await? else {
        return Err(object.corrupt("empty Arrow stream, without a schema".to_owned()));
    };
    let schema = root_as_message(&head).ok().and_then(|message| {
        Some((
            try_fb_to_schema(message.header_as_schema()?).ok()?,
            message.version(),
        ))
    });
    let Some((schema, version)) = schema else {
        return Err(object.corrupt("not an Arrow file or stream, despite its name".to_owned()));
    };
    let mut messages = Vec::new();
    let mut at = first.range().end;
    while at < object.bytes {
        let Some((message, _)) = read_head(object, at).await? else {
            break;
        };
        at = message.range().end;
        if at > object.bytes {
            return Err(object.corrupt(format!(
                "its record batch {} ends at byte {at}, the file at {}, so it is truncated\n\
                 hint: copy it again",
                messages.len(),
                object.bytes
            )));
        }
        messages.push(message);
    }
    Ok((Arc::new(schema), version, messages))
}

/// Reads a message's head: its place in the file, and its flatbuffer. `None` at the end of the stream.
async fn read_head(object: &Object, start: u64) -> Result<Option<(Message, Bytes)>> {
    let damaged = |what: &str| object.corrupt(format!("the message at byte {start}: {what}"));
    let first = object
        .read(start..object.bytes.min(start + HEAD_BYTES))
        .await?;
    let word = |at: usize| {
        let bytes = first.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    // Streams of before 2019 have no marker before the length.
    let (prefix, length) = match word(0) {
        Some(u32::MAX) => (8, word(4)),
        length => (4, length),
    };
    let length = u64::from(length.ok_or_else(|| damaged("cut off\nhint: copy the file again"))?);
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_HEAD_BYTES {
        return Err(damaged(
            "not an Arrow message; is this an Arrow file or stream?",
        ));
    }
    let head = prefix + length;
    let bytes = if head <= first.len() as u64 {
        first.slice(..head as usize)
    } else {
        object.read(start..start + head).await?
    };
    let flatbuffer = bytes.slice(prefix as usize..);
    let message = root_as_message(&flatbuffer)
        .map_err(|_| damaged("not an Arrow message; is this an Arrow file or stream?"))?;
    let body =
        u64::try_from(message.bodyLength()).map_err(|_| damaged("negative length of its body"))?;
    let rows = message
        .header_as_record_batch()
        .map_or(Ok(0), |batch| u32::try_from(batch.length()).map(u64::from))
        .map_err(|_| damaged("invalid number of rows"))?;
    let kind = message.header_type();
    let buffers: Vec<(i64, i64)> = message
        .header_as_record_batch()
        .filter(|batch| batch.compression().is_some())
        .and_then(|batch| batch.buffers())
        .map(|buffers| buffers.iter().map(|b| (b.offset(), b.length())).collect())
        .unwrap_or_default();
    let decompressed = decompressed_bytes(object, start + head, body, buffers)
        .await?
        .ok_or_else(|| damaged("compressed buffers outside its body"))?;
    let message = Message {
        start,
        head,
        body,
        kind,
        rows,
        decompressed,
    };
    Ok(Some((message, flatbuffer)))
}

/// Sums the decompressed bytes of the compressed buffers of a body at `start`: each begins with its
/// uncompressed length, or −1 if it is not compressed. `None` where buffers are outside the body.
async fn decompressed_bytes(
    object: &Object,
    start: u64,
    body: u64,
    buffers: Vec<(i64, i64)>,
) -> Result<Option<u64>> {
    const PREFIX: u64 = 8;
    let mut prefixes = Vec::new();
    for (offset, length) in buffers {
        let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Ok(None);
        };
        if offset.checked_add(length).is_none_or(|end| end > body) {
            return Ok(None);
        }
        if length >= PREFIX {
            prefixes.push(start + offset..start + offset + PREFIX);
        }
    }
    let fetched = object.read_all(coalesce(prefixes.clone(), MAX_GAP)).await?;
    let mut lengths = prefixes.into_iter().map(|prefix| {
        let bytes = fetched.from(prefix.start)?;
        let length = i64::from_le_bytes(bytes.get(..PREFIX as usize)?.try_into().ok()?);
        Some(u64::try_from(length).unwrap_or(0))
    });
    Ok(lengths.try_fold(0_u64, |sum, length| sum.checked_add(length?)))
}

impl Message {
    fn range(&self) -> std::ops::Range<u64> {
        self.start
            ..self
                .start
                .saturating_add(self.head)
                .saturating_add(self.body)
    }

    fn block(&self) -> Block {
        Block::new(self.start as i64, self.head as i32, self.body as i64)
    }

    fn group(&self) -> Group {
        let bytes = self.head.saturating_add(self.body);
        Group {
            rows: self.rows,
            bytes,
            fetch_bytes: bytes,
            requests: n_requests(&[self.range()]),
            memory: bytes
                .saturating_add(self.decompressed)
                .saturating_add(self.rows.saturating_mul(ROW_BYTES)),
        }
    }
}

fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::Struct(parts) => parts
            .iter()
            .any(|message| has_dictionary(message.data_type())),
        _ => false,
    }
}
