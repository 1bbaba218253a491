//! Small corpora of synthetic images, audio and texts in common layouts, and readers for the rows of a
//! dataset.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file takes what it needs"
)]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test's own module"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, UInt64Type};
use image::{ExtendedColorType, ImageEncoder};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Width and height of [`jpeg`] in pixels.
pub const IMAGE_SIZE: (i32, i32) = (24, 18);

/// One row of an image dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub bytes: Vec<u8>,
    pub path: String,
    pub width: i32,
    pub height: i32,
    pub label: Option<i64>,
    pub xxh3: u64,
}

/// Returns `shards COMMAND`.
pub fn shards(command: &str) -> Command {
    let mut shards = Command::new(env!("CARGO_BIN_EXE_shards"));
    shards.arg(command);
    shards
}

/// Runs a command, checks its exit code, and returns its stdout and stderr.
pub fn run(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8(output_text).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}\n{output_text}"
    );
    output_text
}

pub fn text(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn pixels(width: u32, height: u32, seed: u32) -> Vec<u8> {
    (0..width * height * 3)
        .map(|i| (i.wrapping_mul(seed * 37 + 11) >> 3) as u8)
        .collect()
}

/// Returns an image that differs for each seed.
pub fn jpeg(seed: u32) -> Vec<u8> {
    let (width, height) = (IMAGE_SIZE.0 as u32, IMAGE_SIZE.1 as u32);
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(
            &pixels(width, height, seed),
            width,
            height,
            ExtendedColorType::Rgb8,
        )
        .unwrap();
    bytes
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(
            &pixels(width, height, 1),
            width,
            height,
            ExtendedColorType::Rgb8,
        )
        .unwrap();
    bytes
}

/// Writes `n` images to each of `root/<class>`.
pub fn class_folders(root: &Path, classes: &[&str], n: u32) {
    for (c, class) in classes.iter().enumerate() {
        fs::create_dir_all(root.join(class)).unwrap();
        for i in 0..n {
            fs::write(
                root.join(format!("{class}/{i:03}.jpg")),
                jpeg(1000 * c as u32 + i),
            )
            .unwrap();
        }
    }
}

pub fn tar(path: &Path, members: &[(&str, Vec<u8>)]) {
    fs::write(path, tar_bytes(members)).unwrap();
}

pub fn tar_gz(path: &Path, members: &[(&str, Vec<u8>)]) {
    let file = File::create(path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(&tar_bytes(members)).unwrap();
    gzip.finish().unwrap();
}

fn tar_bytes(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

/// Writes a file in Hugging Face's layout with the columns `img` and `fine` (classes zebra, ant):
/// Parquet or an Arrow stream, by the file extension.
pub fn hugging_face(path: &Path, images: &[Vec<u8>], labels: &[Option<i64>]) {
    let features = r#"{"info":{"features":{"img":{"_type":"Image"},
        "fine":{"_type":"ClassLabel","names":["zebra","ant"]}}}}"#;
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(images));
    let names: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; images.len()]));
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
        (Arc::new(Field::new("path", DataType::Utf8, true)), names),
    ]);
    let fields = vec![
        Field::new("other", DataType::Int64, true),
        Field::new("img", image.data_type().clone(), true),
        Field::new("fine", DataType::Int64, true),
    ];
    let metadata: HashMap<_, _> = [("huggingface".to_owned(), features.to_owned())].into();
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let labels: ArrayRef = Arc::new(Int64Array::from(labels.to_vec()));
    let columns = vec![labels.clone(), Arc::new(image) as ArrayRef, labels];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let file = File::create(path).unwrap();
    if path.extension().is_some_and(|end| end == "parquet") {
        let mut writer = ArrowWriter::try_new(file, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    } else {
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &schema).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
    }
}

/// Returns 16-bit mono WAV audio that differs for each seed.
pub fn wav(seed: u32, sample_rate_hz: u32, n_frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let data_bytes = n_frames * 2;
    bytes.extend(b"RIFF");
    bytes.extend((36 + data_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes()); // PCM
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(sample_rate_hz.to_le_bytes());
    bytes.extend((sample_rate_hz * 2).to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(16_u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    for i in 0..n_frames {
        let value = (i.wrapping_mul(seed.wrapping_mul(97) + 31) >> 2) as i16;
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

/// Writes a file, and creates its folders.
pub fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes a byte-level vocabulary without merges to `folder`: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, byte
/// b is 4 + b, `<mask>` 260.
pub fn byte_vocabulary(folder: &Path) {
    let mut names = vec![
        "<s>".to_owned(),
        "<pad>".into(),
        "</s>".into(),
        "<unk>".into(),
    ];
    // GPT-2's characters for bytes: printable ones map to themselves, the others to U+0100 and up.
    let mut next = 256;
    for byte in 0..256_u32 {
        let itself = (33..=126).contains(&byte) || (161..=172).contains(&byte) || byte >= 174;
        let character = if itself {
            byte
        } else {
            next += 1;
            next - 1
        };
        names.push(char::from_u32(character).unwrap().to_string());
    }
    names.push("<mask>".into());
    let vocab: serde_json::Map<_, _> = names
        .into_iter()
        .enumerate()
        .map(|(i, name)| (name, i.into()))
        .collect();
    put(
        &folder.join("vocab.json"),
        serde_json::to_vec(&vocab).unwrap(),
    );
    put(&folder.join("merges.txt"), "#version: 0.2\n");
}

/// Reads all rows of a dataset as record batches, with `parquet` only.
pub fn batches(dataset: &Path) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for file in shard_files(dataset) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
        batches.extend(builder.build().unwrap().map(Result::unwrap));
    }
    batches
}

/// Reads a column of strings or numbers as strings.
pub fn column(dataset: &Path, name: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for batch in batches(dataset) {
        let column = batch.column_by_name(name).expect(name);
        let column = arrow::compute::cast(column, &DataType::Utf8).unwrap();
        values.extend(
            column
                .as_string::<i32>()
                .iter()
                .map(|v| v.map(str::to_owned)),
        );
    }
    values
}

/// Reads bytes and names of a dataset's media column.
pub fn media(dataset: &Path, name: &str) -> Vec<(Vec<u8>, String)> {
    let mut media = Vec::new();
    for batch in batches(dataset) {
        let column = batch.column_by_name(name).expect(name).as_struct().clone();
        let bytes = column
            .column_by_name("bytes")
            .unwrap()
            .as_binary::<i32>()
            .clone();
        let path = column
            .column_by_name("path")
            .unwrap()
            .as_string::<i32>()
            .clone();
        media.extend(
            (0..batch.num_rows()).map(|i| (bytes.value(i).to_vec(), path.value(i).to_owned())),
        );
    }
    media
}

/// Reads every file of a dataset, without the journal.
pub fn files(dataset: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dataset)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.is_file())
        .map(|path| {
            (
                path.strip_prefix(dataset).unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// Calls `attempt` with its number, up to five times, until one has killed at least `n` writers: on a
/// busy machine they may end before they are killed. Returns the number of the last attempt.
pub fn until_killed(n: u32, mut attempt: impl FnMut(usize) -> u32) -> usize {
    let mut kills = Vec::new();
    for i in 0..5 {
        kills.push(attempt(i));
        if kills[i] >= n {
            return i;
        }
    }
    panic!("{kills:?} kills: fewer than {n} each time");
}

/// Runs `command` repeatedly, and kills it as soon as it has finished one more shard of `dataset`, until
/// one run ends by itself. Returns the number of kills.
pub fn kill_until_done(dataset: &Path, command: impl Fn() -> Command) -> u32 {
    let finished = || {
        if dataset.exists() {
            shard_files(dataset).len()
        } else {
            0
        }
    };
    for kills in 0..100 {
        let before = finished();
        let mut child = command()
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if finished() > before {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            std::thread::yield_now();
        };
        if status.success() {
            return kills;
        }
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
    }
    panic!("no run ended by itself");
}

/// Returns the dataset's shards, sorted.
pub fn shard_files(dataset: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dataset)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
        .collect();
    files.sort();
    files
}

/// Reads all rows of an image dataset, with `parquet` only.
pub fn rows(dataset: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in shard_files(dataset) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
        for batch in builder.build().unwrap() {
            rows.extend(rows_of(&batch.unwrap()));
        }
    }
    rows
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let image = batch.column_by_name("image").unwrap().as_struct();
    let bytes = image.column_by_name("bytes").unwrap().as_binary::<i32>();
    let path = image.column_by_name("path").unwrap().as_string::<i32>();
    let width = batch
        .column_by_name("width")
        .unwrap()
        .as_primitive::<Int32Type>();
    let height = batch
        .column_by_name("height")
        .unwrap()
        .as_primitive::<Int32Type>();
    let label = batch
        .column_by_name("label")
        .unwrap()
        .as_primitive::<Int64Type>();
    let xxh3 = batch
        .column_by_name("bytes_xxh3")
        .unwrap()
        .as_primitive::<UInt64Type>();
    let row = |i| Row {
        bytes: bytes.value(i).to_vec(),
        path: path.value(i).to_owned(),
        width: width.value(i),
        height: height.value(i),
        label: label.is_valid(i).then(|| label.value(i)),
        xxh3: xxh3.value(i),
    };
    (0..batch.num_rows()).map(row).collect()
}
