//! Writes rows as one Parquet file: plain, uncompressed, in row groups of a few megabytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use xxhash_rust::xxh3::Xxh3;

use crate::shard::{ManifestGroup, ManifestShard};
use crate::write::encode::row::Row;
use crate::write::shards::column_builders::ColumnBuilders;
use crate::{Error, Result};

/// Maximum size of a row group in bytes; only a single larger sample exceeds it.
const MAX_GROUP_BYTES: u64 = 16 << 20;

/// Writes one shard, under a temporary name.
pub(crate) struct ShardWriter {
    path: PathBuf,
    arrow: ArrowWriter<HashingFile>,
    schema: SchemaRef,
    group: OpenGroup,
    group_bytes: u64,
}

impl ShardWriter {
    /// Creates a file at `path`, replacing one left by a killed run. `group_bytes` is the size at which
    /// a row group is closed; `media` are the columns of media, stored plain.
    pub(crate) fn create(
        path: &Path,
        schema: &SchemaRef,
        media: &[&str],
        group_bytes: u64,
    ) -> Result<Self> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let file = HashingFile {
            file: BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?),
            hash: Xxh3::new(),
            bytes: 0,
        };
        let arrow = ArrowWriter::try_new(file, schema.clone(), Some(properties(schema, media)))
            .map_err(|e| io_error(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            arrow,
            schema: schema.clone(),
            group: OpenGroup::default(),
            group_bytes,
        })
    }

    /// Closes the row group if `row` would exceed its limit. Returns true if it did: the shard may then
    /// end before this row.
    pub(crate) fn make_room(&mut self, row: &Row) -> Result<bool> {
        let is_over = self.group.rows > 0 && self.group.bytes + row.n_bytes() > MAX_GROUP_BYTES;
        if is_over {
            self.close_group()?;
        }
        Ok(is_over)
    }

    /// Adds a row, after [`make_room`](Self::make_room). Returns true if this closed a row group: the
    /// shard may then end after this row.
    pub(crate) fn push(&mut self, row: &Row) -> Result<bool> {
        self.group.push(row);
        let is_full = self.group.bytes >= self.group_bytes;
        if is_full {
            self.close_group()?;
        }
        Ok(is_full)
    }

    /// Writes rows as one row group.
    pub(crate) fn write_group(&mut self, rows: &RecordBatch) -> Result<()> {
        self.arrow
            .write(rows)
            .and_then(|()| self.arrow.flush())
            .map_err(|e| io_error(&self.path, e))
    }

    /// Returns the number of bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.arrow.inner().bytes
    }

    /// Closes and syncs the file, and returns its manifest entry under the name `name`.
    pub(crate) fn finish(mut self, name: &str) -> Result<ManifestShard> {
        if self.group.rows > 0 {
            self.close_group()?;
        }
        let footer = self.arrow.finish().map_err(|e| io_error(&self.path, e))?;
        let file = self.arrow.inner_mut();
        let io = |source| Error::Io {
            path: self.path.clone(),
            source,
        };
        file.file.flush().map_err(io)?;
        file.file.get_ref().sync_all().map_err(io)?;
        let row_groups: Vec<_> = footer
            .row_groups()
            .iter()
            .map(|g| ManifestGroup {
                rows: g.num_rows() as u64,
                bytes: g.compressed_size() as u64,
            })
            .collect();
        Ok(ManifestShard {
            path: name.to_owned(),
            rows: row_groups.iter().map(|g| g.rows).sum(),
            bytes: file.bytes,
            xxh3: format!("{:016x}", file.hash.digest()),
            row_groups,
        })
    }

    fn close_group(&mut self) -> Result<()> {
        let Some(columns) = std::mem::take(&mut self.group).columns else {
            return Ok(());
        };
        self.write_group(&columns.into_batch(&self.schema))
    }
}

/// The row group that is being filled.
#[derive(Default)]
struct OpenGroup {
    rows: usize,
    bytes: u64,
    columns: Option<ColumnBuilders>,
}

impl OpenGroup {
    fn push(&mut self, row: &Row) {
        self.rows += 1;
        self.bytes += row.n_bytes();
        self.columns
            .get_or_insert_with(|| ColumnBuilders::for_rows_like(row))
            .push(row);
    }
}

fn properties(schema: &SchemaRef, media: &[&str]) -> WriterProperties {
    // Sorted: the same rows give the same file.
    let mut metadata: Vec<_> = schema.metadata().iter().collect();
    metadata.sort();
    let metadata = metadata
        .into_iter()
        .map(|(k, v)| KeyValue::new(k.clone(), v.clone()))
        .collect();
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("understudy {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::UNCOMPRESSED)
        .set_encoding(Encoding::PLAIN)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(metadata));
    for name in media {
        let fields = match schema.field_with_name(name).map(Field::data_type) {
            Ok(DataType::Struct(fields)) => fields.iter().map(|field| Some(field.name())).collect(),
            _ => vec![None],
        };
        for field in fields {
            let path = std::iter::once((*name).to_owned()).chain(field.cloned());
            let path = ColumnPath::new(path.collect());
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    builder.build()
}

/// Unwraps I/O errors, so that a full disk is not reported as an error of Parquet.
fn io_error(path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    };
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// Hashes and counts the bytes written to the file.
struct HashingFile {
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn row(i: u8, bytes: usize) -> Row {
        let bytes = vec![i; bytes];
        let xxh3 = xxh3_64(&bytes);
        Row::Image {
            bytes,
            path: Some(format!("{i}.jpg")),
            width: 3,
            height: 4,
            label: None,
            xxh3,
        }
    }

    fn write(rows: &[Row], group_bytes: u64) -> (tempfile::TempDir, PathBuf, ManifestShard) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let schema = Arc::new(understudy_schemas::IMAGE.arrow(Some(&["x".to_owned()])));
        let mut writer = ShardWriter::create(&path, &schema, &["image"], group_bytes).unwrap();
        for row in rows {
            writer.make_room(row).unwrap();
            writer.push(row).unwrap();
        }
        let shard = writer.finish("a.parquet").unwrap();
        (folder, path, shard)
    }

    #[test]
    fn manifest_entry_matches_file() {
        let rows: Vec<_> = (0..10).map(|i| row(i, 1000)).collect();
        let (_folder, path, shard) = write(&rows, 3000);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(shard.bytes, bytes.len() as u64);
        assert_eq!(shard.xxh3, format!("{:016x}", xxh3_64(&bytes)));
        let counts: Vec<_> = shard.row_groups.iter().map(|g| g.rows).collect();
        assert_eq!(counts, [3, 3, 3, 1]);
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        for (group, footer) in shard.row_groups.iter().zip(reader.metadata().row_groups()) {
            assert_eq!(group.bytes, footer.compressed_size() as u64);
        }
    }

    #[test]
    fn media_columns_are_plain_without_statistics() {
        let (_folder, path, _) = write(&[row(1, 5000), row(2, 5000)], 1 << 20);
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let group = reader.metadata().row_group(0);
        for column in group.columns() {
            let name = column.column_path().string();
            assert_eq!(column.compression(), Compression::UNCOMPRESSED, "{name}");
            assert_eq!(column.dictionary_page_offset(), None, "{name}");
            assert_eq!(
                column.statistics().is_none(),
                name.starts_with("image."),
                "{name}"
            );
        }
        let keys: Vec<_> = reader
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .unwrap()
            .iter()
            .map(|kv| kv.key.as_str())
            .collect();
        for key in [
            "huggingface",
            "understudy.schema",
            "understudy.schema_version",
        ] {
            assert_eq!(keys.iter().filter(|k| **k == key).count(), 1, "{keys:?}");
        }
    }

    #[test]
    fn large_images_do_not_exceed_row_group_limit() {
        let rows: Vec<_> = (0..4).map(|i| row(i, 7 << 20)).collect();
        let (_folder, _, shard) = write(&rows, 15 << 20);
        assert_eq!(
            shard.row_groups.iter().map(|g| g.rows).collect::<Vec<_>>(),
            [2, 2]
        );
    }
}
