//! Sets as people have them, and as they should not be.

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

use super::*;
use crate::SampleError;

const ROWS: usize = 10;
const MAP: [(&str, &str); 0] = [];

fn open(path: &Path, map: &[(&str, &str)]) -> Result<ShardSet> {
    let map: BTreeMap<String, String> = map
        .iter()
        .map(|&(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
        .collect();
    block_on(ShardSet::open(path.to_str().expect("UTF-8"), &map))
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

/// The bytes of picture `row`; row 3 has none.
fn picture(row: usize) -> Option<Vec<u8>> {
    (row != 3).then(|| vec![row as u8; 1000 + row])
}

fn pictures(rows: std::ops::Range<usize>) -> ArrayRef {
    Arc::new(BinaryArray::from_iter(rows.map(picture)))
}

/// Media as `struct<bytes, path>`, as Hugging Face and our own writer have it.
fn image_struct(rows: std::ops::Range<usize>) -> ArrayRef {
    let paths = StringArray::from_iter_values(rows.clone().map(|row| format!("{row}.jpg")));
    let fields = Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]);
    Arc::new(StructArray::new(
        fields,
        vec![pictures(rows), Arc::new(paths)],
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
    let hashes = (0..ROWS).map(|row| picture(row).map(|bytes| xxh3_64(&bytes)));
    batch(vec![
        ("image", image_struct(0..ROWS)),
        ("label", labels(0..ROWS)),
        ("bytes_xxh3", Arc::new(UInt64Array::from_iter(hashes))),
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

fn read_all(set: &ShardSet) -> Vec<ImageRows> {
    let groups = |shard: &Shard| shard.groups.len();
    let all = set
        .shards
        .iter()
        .enumerate()
        .flat_map(|(at, s)| (0..groups(s)).map(move |g| (at, g)));
    all.map(|(shard, group)| block_on(set.read_group(shard, group)).expect("readable"))
        .collect()
}

/// Every picture is there, in groups of four rows.
fn assert_pictures(set: &ShardSet) -> Vec<ImageRows> {
    let groups = read_all(set);
    assert_eq!(
        groups.iter().map(ImageRows::len).collect::<Vec<_>>(),
        [4, 4, 2]
    );
    for row in 0..ROWS {
        assert_eq!(
            groups[row / 4].bytes(row % 4),
            picture(row).as_deref(),
            "row {row}"
        );
    }
    groups
}

#[test]
fn our_own_parquet_is_read_without_a_copy() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(
        &path,
        &with_classes(&our_batch(), r#"["cat", "dog"]"#),
        Compression::UNCOMPRESSED,
    );
    let set = open(folder.path(), &MAP).expect("a set");
    assert_eq!((set.rows, set.shards[0].groups.len()), (10, 3));
    assert_eq!(set.classes, Some(vec!["cat".to_owned(), "dog".to_owned()]));
    let groups = assert_pictures(&set);
    for row in 0..ROWS {
        let group = &groups[row / 4];
        assert_eq!(
            group.xxh3(row % 4),
            picture(row).map(|bytes| xxh3_64(&bytes))
        );
        assert_eq!(group.label(row % 4), Ok(Some(row as i64 % 2)));
        assert_eq!(group.path(row % 4), Some(format!("{row}.jpg").as_str()));
    }
    // A copy of the media would double it.
    let (held, listed) = (groups[1].memory(), &set.shards[0].groups[1]);
    assert!(
        held >= 4 * 1000 && held < 2 * 4 * 1000,
        "{held} bytes for 4 pictures of 1 kB"
    );
    assert!(
        held <= listed.memory,
        "{held} bytes held, {} planned",
        listed.memory
    );
}

#[test]
fn other_codecs_and_types_are_read() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for compression in [
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
    ] {
        write_parquet(&path, &our_batch(), compression);
        let set = open(&path, &MAP).expect("a set");
        let groups = assert_pictures(&set);
        assert!(groups[0].memory() <= set.shards[0].groups[0].memory);
    }
    for data_type in [
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
    ] {
        let image = cast(&pictures(0..ROWS), &data_type).expect("a binary type");
        let batch = batch(vec![("image", image)]);
        write_parquet(&path, &batch, Compression::UNCOMPRESSED);
        let groups = assert_pictures(&open(&path, &MAP).expect("a set"));
        assert_eq!(groups[0].label(0), Ok(None));
        assert_eq!((groups[0].xxh3(0), groups[0].path(0)), (None, None));
        for stream in [false, true] {
            let path = folder.path().join("a.arrow");
            write_arrow(&path, &batch, stream, None);
            assert_pictures(&open(&path, &MAP).expect("a set"));
        }
    }
}

#[test]
fn arrow_files_and_streams_are_read() {
    let folder = folder();
    let path = folder.path().join("a.arrow");
    let batch = with_classes(&our_batch(), r#"["cat", "dog"]"#);
    for stream in [false, true] {
        for compression in [
            None,
            Some(CompressionType::LZ4_FRAME),
            Some(CompressionType::ZSTD),
        ] {
            write_arrow(&path, &batch, stream, compression);
            let set = open(&path, &MAP).expect("a set");
            assert_eq!(set.classes.as_ref().map(Vec::len), Some(2));
            let groups = assert_pictures(&set);
            assert_eq!(groups[2].label(1), Ok(Some(1)));
            assert_eq!(groups[2].path(1), Some("9.jpg"));
            if compression.is_none() {
                assert!(
                    groups[1].memory() < 2 * 4 * 1000,
                    "{} bytes",
                    groups[1].memory()
                );
            }
        }
    }
}

#[test]
fn dictionaries_are_read_also_where_a_stream_replaces_them() {
    let folder = folder();
    let dictionary =
        |names: [&str; 4]| -> ArrayRef { Arc::new(DictionaryArray::<Int32Type>::from_iter(names)) };
    let part = |from: usize, names: [&str; 4]| {
        batch(vec![
            ("image", pictures(from..from + 4)),
            ("label", dictionary(names)),
        ])
    };
    let parts = [
        part(4, ["cat", "dog", "cat", "dog"]),
        part(0, ["dog", "dog", "ant", "dog"]),
    ];
    let schema = with_classes(&parts[0], r#"["ant", "cat", "dog"]"#).schema();
    let path = folder.path().join("a.arrow");
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = StreamWriter::try_new(file, &schema).expect("a writer");
    parts
        .iter()
        .for_each(|part| writer.write(part).expect("written"));
    writer.finish().expect("finished");
    let groups = read_all(&open(&path, &MAP).expect("a set"));
    let labels: Vec<_> = groups
        .iter()
        .flat_map(|g| (0..4).map(|row| g.label(row)))
        .collect();
    assert_eq!(
        labels,
        [1, 2, 1, 2, 2, 2, 0, 2].map(|label| Ok(Some(label)))
    );

    let path = folder.path().join("a.parquet");
    let batch = with_classes(&parts[1], r#"["ant", "cat", "dog"]"#);
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let group = read_all(&open(&path, &MAP).expect("a set")).remove(0);
    assert_eq!(
        (0..4).map(|row| group.label(row)).collect::<Vec<_>>(),
        [2, 2, 0, 2].map(|n| Ok(Some(n)))
    );
    assert_eq!(group.bytes(1), picture(1).as_deref());
}

#[test]
fn labels_of_any_width_become_numbers_and_bad_ones_are_the_samples_fault() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for data_type in [
        DataType::UInt8,
        DataType::Int16,
        DataType::Int32,
        DataType::UInt64,
    ] {
        let label = cast(&labels(0..ROWS), &data_type).expect("a number");
        write_parquet(
            &path,
            &batch(vec![("image", pictures(0..ROWS)), ("y", label)]),
            Compression::SNAPPY,
        );
        let group = read_all(&open(&path, &[("label", "y")]).expect("a set")).remove(0);
        assert_eq!(group.label(1), Ok(Some(1)));
    }
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(2), Some(-1), None]));
    let labelled = batch(vec![("image", pictures(0..4)), ("label", numbers)]);
    write_parquet(
        &path,
        &with_classes(&labelled, r#"["cat", "dog"]"#),
        Compression::SNAPPY,
    );
    let group = read_all(&open(&path, &MAP).expect("a set")).remove(0);
    let label = |text: &str| Err(SampleError::Label(text.to_owned()));
    assert_eq!(group.label(0), Ok(Some(0)));
    assert_eq!(group.label(1), label("2 is not in the set's 2 classes"));
    assert_eq!(group.label(2), label("-1 is not in the set's 2 classes"));
    assert_eq!(group.label(3), label("is null"));

    let names: ArrayRef = Arc::new(StringArray::from(vec!["dog", "cow"]));
    let named = batch(vec![("image", pictures(0..2)), ("label", names)]);
    write_parquet(
        &path,
        &with_classes(&named, r#"["cat", "dog"]"#),
        Compression::SNAPPY,
    );
    let group = read_all(&open(&path, &MAP).expect("a set")).remove(0);
    assert_eq!(group.label(0), Ok(Some(1)));
    assert_eq!(
        group.label(1),
        label("`cow` is not one of the set's classes")
    );
    write_parquet(&path, &named, Compression::SNAPPY);
    let group = read_all(&open(&path, &MAP).expect("a set")).remove(0);
    assert_eq!(
        group.label(0),
        label("`dog` has no number: the set has no list of class names")
    );
}

#[test]
fn shards_are_sorted_and_a_pattern_chooses() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("more")).expect("a folder");
    for name in [
        "train-1.parquet",
        "train-0.parquet",
        "test-0.parquet",
        "more/train-2.parquet",
    ] {
        write_parquet(&folder.path().join(name), &our_batch(), Compression::SNAPPY);
    }
    std::fs::write(folder.path().join("README.md"), "not a shard").expect("written");
    let paths = |set: &ShardSet| {
        set.shards
            .iter()
            .map(|s| s.path.clone())
            .collect::<Vec<_>>()
    };
    let all = open(folder.path(), &MAP).expect("a set");
    assert_eq!(
        paths(&all),
        [
            "more/train-2.parquet",
            "test-0.parquet",
            "train-0.parquet",
            "train-1.parquet"
        ]
    );
    assert_eq!(
        all.shards.iter().map(|s| s.first_row).collect::<Vec<_>>(),
        [0, 10, 20, 30]
    );
    let train = open(&folder.path().join("train-*.parquet"), &MAP).expect("a set");
    assert_eq!(paths(&train), ["train-0.parquet", "train-1.parquet"]);
    let text = error(&folder.path().join("val-*"), &MAP);
    assert!(text.contains("matches `val-*`"), "{text}");
}

/// A manifest of the set in a folder, as the writer makes it.
fn write_manifest(folder: &Path, change: impl FnOnce(&mut Manifest)) {
    let set = open(folder, &MAP).expect("a set");
    let shards = set.shards.iter().map(|shard| ManifestShard {
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
    let mut manifest = Manifest::new("image", 1, set.classes.clone(), shards.collect());
    change(&mut manifest);
    std::fs::write(folder.join(MANIFEST_NAME), manifest.to_json()).expect("written");
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn the_fingerprint_is_that_of_the_rows_wherever_they_lie() {
    let (folder, elsewhere) = (folder(), folder());
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    write_parquet(
        &folder.path().join("b.parquet"),
        &our_batch(),
        Compression::SNAPPY,
    );
    let fingerprint = |path: &Path| open(path, &MAP).expect("a set").fingerprint();
    let first = fingerprint(folder.path());
    copy(folder.path(), elsewhere.path());
    assert_eq!(fingerprint(elsewhere.path()), first, "a copy");
    write_manifest(elsewhere.path(), |_| ());
    let listed = open(elsewhere.path(), &MAP).expect("a set");
    assert_eq!(listed.fingerprint(), first, "from a manifest");
    assert_eq!(read_all(&listed).len(), 6);
    let named = open(folder.path(), &[("image", "image")]).expect("a set");
    assert_eq!(named.fingerprint(), first, "the same columns by name");

    let mapped = open(folder.path(), &[("label", "bytes_xxh3")]).expect("a set");
    assert_ne!(mapped.fingerprint(), first, "other columns");
    write_parquet(&path, &our_batch().slice(0, 9), Compression::UNCOMPRESSED);
    assert_ne!(fingerprint(folder.path()), first, "a row less");
    write_parquet(&path, &our_batch(), Compression::SNAPPY);
    assert_ne!(
        fingerprint(folder.path()),
        first,
        "row groups of other sizes"
    );
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    assert_eq!(fingerprint(folder.path()), first, "as it was");
    std::fs::rename(&path, folder.path().join("c.parquet")).expect("renamed");
    assert_ne!(fingerprint(folder.path()), first, "another name");
}

#[test]
fn a_manifest_that_disagrees_with_its_files_is_refused() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    write_manifest(folder.path(), |manifest| {
        manifest.shards[0].path = "z.parquet".into()
    });
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("manifest.json") && text.contains("`z.parquet`, which is not there"),
        "{text}"
    );
    std::fs::remove_file(folder.path().join(MANIFEST_NAME)).expect("removed");
    write_manifest(folder.path(), |manifest| manifest.shards[0].bytes += 1);
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("`a.parquet` has") && text.contains("copy it again"),
        "{text}"
    );
    std::fs::remove_file(folder.path().join(MANIFEST_NAME)).expect("removed");
    write_manifest(folder.path(), |manifest| {
        manifest.shards[0].row_groups[0].bytes += 1
    });
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("a.parquet") && text.contains("row groups of other sizes"),
        "{text}"
    );
}

#[test]
fn a_shard_that_its_manifest_misdescribes_is_found_when_it_is_read() {
    let folder = folder();
    for name in ["a.parquet", "b.parquet"] {
        write_parquet(
            &folder.path().join(name),
            &our_batch(),
            Compression::UNCOMPRESSED,
        );
    }
    write_manifest(folder.path(), |manifest| {
        manifest.shards[1].row_groups[2].bytes -= 1
    });
    let set = open(folder.path(), &MAP).expect("its first shard agrees");
    let text = block_on(set.read_group(1, 0))
        .expect_err("disagrees")
        .to_string();
    assert!(
        text.contains("b.parquet") && text.contains("manifest.json says"),
        "{text}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let folder = folder();
    let text = error(&folder.path().join("nowhere"), &MAP);
    assert!(
        text.contains("nowhere: no shards here (no such file or folder)"),
        "{text}"
    );
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("no .parquet or .arrow file in the folder"),
        "{text}"
    );
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "1,2").expect("written");
    let text = error(&path, &MAP);
    assert!(
        text.contains("a.csv") && text.contains("ends neither in .parquet"),
        "{text}"
    );
    write_parquet(
        &folder.path().join("a.parquet"),
        &our_batch().slice(0, 0),
        Compression::SNAPPY,
    );
    let text = error(folder.path(), &MAP);
    assert!(text.contains("without a single row"), "{text}");
    let text = error(&PathBuf::from("s3://bucket/set"), &MAP);
    assert!(text.contains("`s3` is not supported"), "{text}");
}

#[test]
fn damaged_files_are_named() {
    let folder = folder();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let text = error(&path, &MAP);
        assert!(text.contains(name) && text.contains(expected), "{text}");
        std::fs::remove_file(&path).expect("removed");
    };
    let whole = |write: &dyn Fn(&Path)| {
        let path = folder.path().join("whole");
        write(&path);
        std::fs::read(&path).expect("readable")
    };
    check("a.parquet", b"", "0 bytes are too few");
    check("a.parquet", &[7; 1000], "not a Parquet file");
    let parquet = whole(&|path| write_parquet(path, &our_batch(), Compression::SNAPPY));
    check("a.parquet", &parquet[..parquet.len() - 100], "truncated");
    let mut flipped = parquet.clone();
    let at = flipped.len() - 200;
    flipped[at..at + 50].fill(0xff);
    check("a.parquet", &flipped, "its footer cannot be read");
    let mut long = parquet;
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    check("a.parquet", &long, "a footer of 4294967295 bytes");

    check("a.arrow", b"", "cut off");
    check("a.arrow", &[7; 1000], "not an Arrow message");
    check("a.arrow", b"ARROW1", "truncated");
    let file = whole(&|path| write_arrow(path, &our_batch(), false, None));
    check("a.arrow", &file[..file.len() - 100], "truncated");
    let stream = whole(&|path| write_arrow(path, &our_batch(), true, None));
    check("a.arrow", &stream[..stream.len() - 1000], "truncated");
}

#[test]
fn a_damaged_page_is_the_shards_error_and_never_a_panic() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        write_parquet(&path, &our_batch(), compression);
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[4..60].fill(0xff);
        std::fs::write(&path, bytes).expect("written");
        let set = open(&path, &MAP).expect("its footer is whole");
        let text = block_on(set.read_group(0, 0))
            .expect_err("damaged")
            .to_string();
        assert!(
            text.contains("a.parquet") && text.contains("row group 0"),
            "{text}"
        );
        assert_eq!(block_on(set.read_group(0, 1)).expect("whole").len(), 4);
    }
}

#[test]
fn a_file_that_changes_while_it_is_open_is_noticed() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    let set = open(&path, &MAP).expect("a set");
    std::fs::remove_file(&path).expect("removed");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    let text = block_on(set.read_group(0, 0))
        .expect_err("another file")
        .to_string();
    assert!(text.contains("changed since the set was opened"), "{text}");
}

#[test]
fn columns_that_cannot_serve_are_named() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let others = batch(vec![("img", pictures(0..ROWS)), ("label", labels(0..ROWS))]);
    write_parquet(&path, &others, Compression::SNAPPY);
    let text = error(&path, &MAP);
    assert!(
        text.contains("column `image`: missing; the file has img, label"),
        "{text}"
    );
    assert_pictures(&open(&path, &[("image", "img")]).expect("a set"));
    let text = error(&path, &[("image", "label")]);
    assert!(
        text.contains("column `label`: is Int64, not binary"),
        "{text}"
    );
    let text = error(&path, &[("image", "img"), ("label", "img")]);
    assert!(
        text.contains("column `img`: is") && text.contains("not whole numbers"),
        "{text}"
    );
    let text = error(&path, &[("image", "img"), ("label", "class")]);
    assert!(text.contains("column `class`: missing"), "{text}");
    let text = error(&path, &[("image", "img"), ("bytes_xxh3", "label")]);
    assert!(
        text.contains("column `label`: is Int64, not UInt64"),
        "{text}"
    );
    let text = error(&path, &[("picture", "img")]);
    assert!(
        text.contains("data.columns.picture: no such column"),
        "{text}"
    );
}

#[test]
fn shards_with_other_class_names_are_refused() {
    let folder = folder();
    let named = |name: &str, names| {
        write_parquet(
            &folder.path().join(name),
            &with_classes(&our_batch(), names),
            Compression::SNAPPY,
        );
    };
    named("a.parquet", r#"["cat", "dog"]"#);
    named("b.parquet", r#"["dog", "cat"]"#);
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("b.parquet") && text.contains("class names differ"),
        "{text}"
    );
}

#[test]
fn only_the_mapped_columns_are_fetched() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    // More than the gap over which reads are joined, and hard to compress.
    let noise = |row: u64| {
        (0..1_u64 << 17)
            .flat_map(|at| xxh3_64(&[row, at].map(u64::to_le_bytes).concat()).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let large: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..4).map(noise)));
    let wide = batch(vec![
        ("a", large.clone()),
        ("image", image_struct(0..4)),
        ("b", large),
        ("label", labels(0..4)),
    ]);
    write_parquet(&path, &wide, Compression::UNCOMPRESSED);
    let set = open(&path, &MAP).expect("a set");
    let group = &set.shards[0].groups[0];
    assert!(
        group.bytes > 8 << 20 && group.fetch_bytes < 10_000,
        "{group:?}"
    );
    let rows = read_all(&set).remove(0);
    assert!(
        rows.memory() <= group.memory && group.memory < 20_000,
        "{}",
        rows.memory()
    );
    assert_eq!(
        (rows.bytes(1), rows.label(1)),
        (picture(1).as_deref(), Ok(Some(1)))
    );
}

#[test]
fn footers_that_were_let_go_are_read_again() {
    let folder = folder();
    for name in ["a.parquet", "b.parquet", "c.parquet"] {
        write_parquet(
            &folder.path().join(name),
            &our_batch(),
            Compression::UNCOMPRESSED,
        );
    }
    let set = open(folder.path(), &MAP).expect("a set");
    let mut footers = set.footers.lock().expect("not poisoned");
    let size = footers.bytes / 3;
    footers.limit = 2 * size;
    footers.get(0);
    let again = block_on(Footer::read(&set.shards[1].object, &set.columns)).expect("a footer");
    footers.keep(1, Arc::new(again));
    // Shard 2 was used longest ago.
    assert_eq!(footers.kept.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(footers.bytes, 2 * size);
    drop(footers);
    assert_eq!(read_all(&set).len(), 9);
}
