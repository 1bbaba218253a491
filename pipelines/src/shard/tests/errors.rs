//! Errors name the file, the problem and the fix.

use super::*;

#[test]
fn open_rejects_a_manifest_that_disagrees_with_its_files() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    write_manifest(folder.path(), |manifest| {
        manifest.shards[0].path = "z.parquet".into();
    });
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("manifest.json") && text.contains("`z.parquet`, which was not found"),
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
        manifest.shards[0].row_groups[0].bytes += 1;
    });
    let text = error(folder.path(), &MAP);
    assert!(
        text.contains("a.parquet") && text.contains("row groups of other sizes"),
        "{text}"
    );
}

#[test]
fn read_group_rejects_a_shard_that_differs_from_its_manifest() {
    let folder = folder();
    for name in ["a.parquet", "b.parquet"] {
        write_parquet(
            &folder.path().join(name),
            &our_batch(),
            Compression::UNCOMPRESSED,
        );
    }
    write_manifest(folder.path(), |manifest| {
        manifest.shards[1].row_groups[2].bytes -= 1;
    });
    let dataset = open(folder.path(), &MAP).expect("its first shard agrees");
    let text = block_on(dataset.read_group(1, 0))
        .expect_err("disagrees")
        .to_string();
    assert!(
        text.contains("b.parquet") && text.contains("manifest.json says"),
        "{text}"
    );
}

#[test]
fn open_names_missing_and_empty_datasets() {
    let folder = folder();
    let text = error(&folder.path().join("nowhere"), &MAP);
    assert!(
        text.starts_with("no shards found: ")
            && text.contains("nowhere: no such file or folder: /"),
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
    assert!(text.contains("no rows in 1 files"), "{text}");
    let text = error(&PathBuf::from("ftp://host/dataset"), &MAP);
    assert!(text.contains("unsupported scheme `ftp`"), "{text}");
}

#[test]
fn open_names_damaged_files() {
    let folder = folder();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let text = error(&path, &MAP);
        assert!(text.contains(name) && text.contains(expected), "{text}");
        std::fs::remove_file(&path).expect("removed");
    };
    let bytes_of = |write: &dyn Fn(&Path)| {
        let path = folder.path().join("complete");
        write(&path);
        std::fs::read(&path).expect("readable")
    };
    check("a.parquet", b"", "0 bytes are too few");
    check("a.parquet", &[7; 1000], "not a Parquet file");
    let parquet = bytes_of(&|path| write_parquet(path, &our_batch(), Compression::SNAPPY));
    check("a.parquet", &parquet[..parquet.len() - 100], "truncated");
    let mut flipped = parquet.clone();
    let at = flipped.len() - 200;
    flipped[at..at + 50].fill(0xff);
    check("a.parquet", &flipped, "cannot read its footer");
    // Whatever one byte of a footer becomes: an error, or a dataset that can be read or not.
    for at in parquet.len() - 600..parquet.len() - 8 {
        for value in [0x01, 0x7f, 0xff] {
            let mut damaged = parquet.clone();
            damaged[at] ^= value;
            let path = folder.path().join("a.parquet");
            std::fs::write(&path, damaged).expect("written");
            if let Ok(dataset) = open(&path, &MAP) {
                for group in 0..dataset.shards[0].groups.len() {
                    let _read = block_on(dataset.read_group(0, group));
                }
            }
            std::fs::remove_file(&path).expect("removed");
        }
    }
    let mut long = parquet;
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    check("a.parquet", &long, "a footer of 4294967295 bytes");

    check("a.arrow", b"", "cut off");
    check("a.arrow", &[7; 1000], "not an Arrow message");
    check("a.arrow", b"ARROW1", "truncated");
    let file = bytes_of(&|path| write_arrow(path, &our_batch(), false, None));
    check("a.arrow", &file[..file.len() - 100], "truncated");
    let stream = bytes_of(&|path| write_arrow(path, &our_batch(), true, None));
    check("a.arrow", &stream[..stream.len() - 1000], "truncated");
}

#[test]
fn open_rejects_a_folder_of_datasets_and_an_unfinished_dataset() {
    let folder = folder();
    for name in ["train", "val"] {
        let dataset = folder.path().join(name);
        std::fs::create_dir(&dataset).expect("a folder");
        write_parquet(
            &dataset.join("a.parquet"),
            &our_batch(),
            Compression::UNCOMPRESSED,
        );
        write_manifest(&dataset, |_| ());
    }
    let text = error(folder.path(), &MAP);
    assert!(text.contains("name one of train, val"), "{text}");

    let train = folder.path().join("train");
    std::fs::remove_file(train.join(MANIFEST_NAME)).expect("removed");
    std::fs::create_dir(train.join(".write")).expect("a folder");
    std::fs::write(train.join(".write/job.json"), "{}").expect("written");
    for url in [train.clone(), train.join("*.parquet")] {
        let text = error(&url, &MAP);
        assert!(text.contains("not finished"), "{text}");
    }
    let text = error(folder.path(), &MAP);
    assert!(text.contains("name one of train, val"), "{text}");
}

#[test]
fn a_damaged_page_is_an_error_of_its_shard_not_a_panic() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        write_parquet(&path, &our_batch(), compression);
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[4..60].fill(0xff);
        std::fs::write(&path, bytes).expect("written");
        let dataset = open(&path, &MAP).expect("its footer is intact");
        let text = block_on(dataset.read_group(0, 0))
            .expect_err("damaged")
            .to_string();
        assert!(
            text.contains("a.parquet") && text.contains("row group 0"),
            "{text}"
        );
        assert_eq!(block_on(dataset.read_group(0, 1)).expect("intact").len(), 4);
    }
}

#[test]
fn read_group_rejects_a_file_that_changed_after_open() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    let dataset = open(&path, &MAP).expect("a dataset");
    std::fs::remove_file(&path).expect("removed");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    let text = block_on(dataset.read_group(0, 0))
        .expect_err("another file")
        .to_string();
    assert!(
        text.contains("changed since the dataset was opened"),
        "{text}"
    );
}

#[test]
fn open_names_missing_columns_and_wrong_types() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let others = batch(vec![("img", images(0..ROWS)), ("label", labels(0..ROWS))]);
    write_parquet(&path, &others, Compression::SNAPPY);
    let text = error(&path, &MAP);
    assert!(
        text.contains("column `image`: missing; the file has img, label"),
        "{text}"
    );
    assert_images(&open(&path, &[("image", "img")]).expect("a dataset"));
    let text = error(&path, &[("image", "label")]);
    assert!(
        text.contains("column `label`: is Int64, not binary"),
        "{text}"
    );
    let text = error(&path, &[("image", "img"), ("label", "img")]);
    assert!(
        text.contains("column `img`: is") && text.contains("not integers"),
        "{text}"
    );
    let text = error(&path, &[("image", "img"), ("label", "class")]);
    assert!(text.contains("column `class`: missing"), "{text}");
    let text = error(&path, &[("image", "img"), ("bytes_xxh3", "label")]);
    assert!(
        text.contains("column `label`: is Int64, not UInt64"),
        "{text}"
    );
    let text = error(&path, &[("thumbnail", "img")]);
    assert!(
        text.contains("data.columns.thumbnail: no such column"),
        "{text}"
    );
}

#[test]
fn open_rejects_shards_with_other_class_names() {
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
