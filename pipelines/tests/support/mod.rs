//! Small datasets of images, written directly to Parquet.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of this"
)]

pub(crate) mod datasets;
pub(crate) mod mixtures;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use image::{ImageFormat, RgbImage};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::config::{Filter, ImageConfig, Limits, MaskConfig};
use understudy_pipelines::mask::InverseBlock;
use understudy_pipelines::pipeline::{Options, Pipeline};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// One row of a dataset of images.
#[derive(Clone)]
pub(crate) struct Row {
    /// The encoded image; `None` is a null.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) label: Option<i64>,
    /// Hash in the row, which may be wrong on purpose.
    pub(crate) xxh3: Option<u64>,
}

impl Row {
    pub(crate) fn new(bytes: Vec<u8>, label: i64) -> Self {
        let xxh3 = Some(xxh3_64(&bytes));
        Self {
            bytes: Some(bytes),
            label: Some(label),
            xxh3,
        }
    }
}

/// Returns `n` rows with different images, 24×20 and larger.
pub(crate) fn rows(n: usize) -> Vec<Row> {
    (0..n)
        .map(|i| Row::new(jpeg(i as u32, 24 + i as u32 % 5, 20), i as i64 % 3))
        .collect()
}

/// Returns a JPEG with colours that depend on `seed`.
pub(crate) fn jpeg(seed: u32, width: u32, height: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let channel = |a: u32| (seed.wrapping_mul(37).wrapping_add(a * 11) % 256) as u8;
        image::Rgb([channel(x), channel(y), channel(x + 2 * y)])
    };
    let image = RgbImage::from_fn(width, height, pixel);
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Jpeg)
        .expect("an encoder for JPEG");
    bytes.into_inner()
}

/// Writes shards of `groups_per_shard` row groups of `group_rows` rows; the last ones may be shorter.
pub(crate) fn write_dataset(
    folder: &Path,
    rows: &[Row],
    group_rows: usize,
    groups_per_shard: usize,
) {
    std::fs::create_dir_all(folder).expect("a folder");
    for (i, shard) in rows.chunks(group_rows * groups_per_shard).enumerate() {
        let file = std::fs::File::create(folder.join(format!("train-{i:05}.parquet")));
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .build();
        let schema = record_batch(&[]).schema();
        let mut writer = ArrowWriter::try_new(file.expect("a file"), schema, Some(properties))
            .expect("a writer");
        for group in shard.chunks(group_rows) {
            writer.write(&record_batch(group)).expect("rows");
            writer.flush().expect("a row group");
        }
        writer.close().expect("a footer");
    }
}

fn record_batch(rows: &[Row]) -> RecordBatch {
    let bytes: BinaryArray = rows.iter().map(|row| row.bytes.as_deref()).collect();
    let paths: StringArray = rows.iter().map(|_| Some("a.jpg")).collect();
    let image = StructArray::from(vec![
        (
            Arc::new(Field::new("bytes", DataType::Binary, true)),
            Arc::new(bytes) as ArrayRef,
        ),
        (
            Arc::new(Field::new("path", DataType::Utf8, true)),
            Arc::new(paths) as ArrayRef,
        ),
    ]);
    let labels: Int64Array = rows.iter().map(|row| row.label).collect();
    let hashes: UInt64Array = rows.iter().map(|row| row.xxh3).collect();
    let of_label = |row: &Row| {
        let bytes = row.label.map(i64::to_le_bytes);
        let bytes = bytes.as_ref().map_or(&[][..], |bytes| bytes);
        row.xxh3.map(|seed| xxh3_64_with_seed(bytes, seed))
    };
    let label_hashes: UInt64Array = rows.iter().map(of_label).collect();
    let schema = Schema::new(vec![
        Field::new("image", image.data_type().clone(), true),
        Field::new("label", DataType::Int64, true),
        Field::new("bytes_xxh3", DataType::UInt64, true),
        Field::new("label_xxh3", DataType::UInt64, true),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(image),
            Arc::new(labels),
            Arc::new(hashes),
            Arc::new(label_hashes),
        ],
    )
    .expect("columns of one length")
}

/// Small crops and masks from the set in `folder`: 8 samples a step in 4 lanes.
pub(crate) fn config(folder: &Path) -> DataConfig {
    DataConfig {
        train: folder.display().to_string().into(),
        val: None,
        columns: BTreeMap::new(),
        seed: 7,
        batch: Some(8),
        batch_seconds: None,
        batch_tokens: None,
        lanes: 4,
        window_chunks: 2,
        memory: "64MiB".into(),
        retry_for: "15min".into(),
        cache: None,
        max_bad_fraction: 0.1,
        limits: Limits::default(),
        image: Some(ImageConfig {
            size: 16,
            crop_scale: [0.3, 1.0],
            crop_ratio: [0.75, 4.0 / 3.0],
            filter: Filter::Bicubic,
            flip_prob: 0.5,
            color_jitter: 0.2,
            eval_resize: 18,
            mean: [0.5; 3],
            std: [0.25; 3],
        }),
        audio: None,
        text: None,
        mask: MaskConfig::InverseBlock(InverseBlock {
            grid: 4,
            n_masks: 2,
            mask_prob: 0.5,
            mask_prob_adjust: 0.1,
            block: 2,
        }),
    }
}

/// Returns the options of rank `rank` of `world`.
pub(crate) fn options(rank: usize, world: usize) -> Options {
    Options {
        rank,
        world,
        threads: 2,
        ..Options::default()
    }
}

/// Returns the first `n` micro-batches of a training stream.
pub(crate) fn train(config: &DataConfig, options: &Options, n: usize) -> Vec<Batch> {
    let pipeline = Pipeline::train(config, options).expect("a pipeline");
    pipeline
        .take(n)
        .map(|batch| batch.expect("a batch"))
        .collect()
}

/// Checks that two streams are equal byte for byte; the message names the first difference.
pub(crate) fn assert_same(found: &[Batch], expected: &[Batch], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: number of batches");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            found.samples, expected.samples,
            "{what}: samples of step {}",
            expected.step
        );
        assert!(
            found == expected,
            "{what}: bytes of step {} micro-batch {}",
            expected.step,
            expected.micro_batch
        );
    }
}

/// Returns the pixels of a batch of images.
pub(crate) fn pixels(batch: &Batch) -> &[u8] {
    match &batch.media {
        Media::Images { pixels, .. } => pixels,
        _ => panic!("not a batch of images"),
    }
}
