//! Datasets in every layout that readers accept, and in those that they reject.

mod errors;
mod kinds;
mod listing;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, Int64Array, RecordBatch, StringArray, StructArray,
    UInt64Array,
};
use ::arrow::compute::cast;
use ::arrow::datatypes::{DataType, Field, Fields, Int32Type};
use ::arrow::ipc::CompressionType;
use ::arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use xxhash_rust::xxh3::xxh3_64;

use super::footer::Footer;
use super::*;
use crate::{Result, SampleError};

const ROWS: usize = 10;
const MAP: [(&str, &str); 0] = [];

fn open(path: &Path, map: &[(&str, &str)]) -> Result<Dataset> {
    let map: BTreeMap<String, String> = map
        .iter()
        .map(|&(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
        .collect();
    block_on(Dataset::open(
        path.to_str().expect("UTF-8"),
        &[Kind::Image],
        &map,
    ))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn error(path: &Path, map: &[(&str, &str)]) -> String {
    open(path, map).expect_err("should not open").to_string()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Returns the bytes of the image in `row`; row 3 has none.
fn image_bytes(row: usize) -> Option<Vec<u8>> {
    (row != 3).then(|| vec![row as u8; 1000 + row])
}

fn images(rows: std::ops::Range<usize>) -> ArrayRef {
    Arc::new(rows.map(image_bytes).collect::<BinaryArray>())
}

/// Returns media as `struct<bytes, path>`, the layout of Hugging Face and of our writer.
fn image_struct(rows: std::ops::Range<usize>) -> ArrayRef {
    let paths = StringArray::from_iter_values(rows.clone().map(|row| format!("{row}.jpg")));
    let fields = Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]);
    Arc::new(StructArray::new(
        fields,
        vec![images(rows), Arc::new(paths)],
        None,
    ))
}

fn labels(rows: std::ops::Range<usize>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64 % 2)))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .expect("columns of one length")
}

fn our_batch() -> RecordBatch {
    let hashes = (0..ROWS).map(|row| image_bytes(row).map(|bytes| xxh3_64(&bytes)));
    batch(vec![
        ("image", image_struct(0..ROWS)),
        ("label", labels(0..ROWS)),
        ("bytes_xxh3", Arc::new(hashes.collect::<UInt64Array>())),
    ])
}

fn with_classes(batch: &RecordBatch, names: &str) -> RecordBatch {
    let metadata = format!(
        r#"{{"info": {{"features": {{"label": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}"#
    );
    let metadata = std::collections::HashMap::from([("huggingface".to_owned(), metadata)]);
    let schema = batch.schema().as_ref().clone().with_metadata(metadata);
    batch
        .clone()
        .with_schema(Arc::new(schema))
        .expect("the same columns")
}

/// Writes row groups of four rows.
fn write_parquet(path: &Path, batch: &RecordBatch, compression: Compression) {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(4));
    let file = std::fs::File::create(path).expect("a file");
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).expect("a writer");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
}

/// Writes record batches of four rows, as a file or as a stream.
fn write_arrow(
    path: &Path,
    batch: &RecordBatch,
    stream: bool,
    compression: Option<CompressionType>,
) {
    let file = std::fs::File::create(path).expect("a file");
    let options = IpcWriteOptions::default()
        .try_with_compression(compression)
        .expect("options");
    let parts = (0..batch.num_rows()).step_by(4);
    let parts = parts.map(|at| batch.slice(at, 4.min(batch.num_rows() - at)));
    if stream {
        let writer = StreamWriter::try_new_with_options(file, &batch.schema(), options);
        let mut writer = writer.expect("a writer");
        parts.for_each(|part| writer.write(&part).expect("written"));
        writer.finish().expect("finished");
    } else {
        let writer = FileWriter::try_new_with_options(file, &batch.schema(), options);
        let mut writer = writer.expect("a writer");
        parts.for_each(|part| writer.write(&part).expect("written"));
        writer.finish().expect("finished");
    }
}

fn read_all(dataset: &Dataset) -> Vec<Rows> {
    let groups = |shard: &Shard| shard.groups.len();
    let all = dataset
        .shards
        .iter()
        .enumerate()
        .flat_map(|(at, s)| (0..groups(s)).map(move |g| (at, g)));
    all.map(|(shard, group)| block_on(dataset.read_group(shard, group)).expect("readable"))
        .collect()
}

/// Asserts that every image is there, in groups of four rows.
fn assert_images(dataset: &Dataset) -> Vec<Rows> {
    let groups = read_all(dataset);
    assert_eq!(groups.iter().map(Rows::len).collect::<Vec<_>>(), [4, 4, 2]);
    for row in 0..ROWS {
        assert_eq!(
            groups[row / 4].bytes(row % 4),
            image_bytes(row).as_deref(),
            "row {row}"
        );
    }
    groups
}

/// Writes a manifest of the dataset in a folder, as the writer makes it, with a change.
fn write_manifest(folder: &Path, change: impl FnOnce(&mut Manifest)) {
    write_manifest_of(folder, &[Kind::Image], change);
}

fn write_manifest_of(folder: &Path, kinds: &[Kind], change: impl FnOnce(&mut Manifest)) {
    let url = folder.to_str().expect("UTF-8");
    let dataset = block_on(Dataset::open(url, kinds, &BTreeMap::new())).expect("a dataset");
    let shards = dataset.shards.iter().map(|shard| ManifestShard {
        path: shard.path.clone(),
        rows: shard.rows,
        bytes: shard.object.bytes,
        xxh3: String::new(),
        row_groups: shard
            .groups
            .iter()
            .map(|g| ManifestGroup {
                rows: g.rows,
                bytes: g.bytes,
            })
            .collect(),
    });
    let mut manifest = Manifest::new("image", 1, dataset.classes.clone(), shards.collect());
    change(&mut manifest);
    std::fs::write(folder.join(MANIFEST_NAME), manifest.to_json()).expect("written");
}
