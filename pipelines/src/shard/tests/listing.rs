//! The files that make a dataset, and its fingerprint.

use super::*;

#[test]
fn shards_are_sorted_and_a_pattern_selects_some() {
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
    let paths = |dataset: &Dataset| {
        dataset
            .shards
            .iter()
            .map(|s| s.path.clone())
            .collect::<Vec<_>>()
    };
    let all = open(folder.path(), &MAP).expect("a dataset");
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
    let train = open(&folder.path().join("train-*.parquet"), &MAP).expect("a dataset");
    assert_eq!(paths(&train), ["train-0.parquet", "train-1.parquet"]);
    let text = error(&folder.path().join("val-*"), &MAP);
    assert!(text.contains("matches `val-*`"), "{text}");
}

#[test]
fn hidden_files_and_foreign_manifests_are_ignored() {
    let folder = folder();
    write_parquet(
        &folder.path().join("a.parquet"),
        &our_batch(),
        Compression::SNAPPY,
    );
    let alone = open(folder.path(), &MAP).expect("a dataset");
    std::fs::write(folder.path().join("._a.parquet"), "a Mac's").expect("written");
    std::fs::create_dir(folder.path().join(".trash")).expect("a folder");
    std::fs::write(folder.path().join(".trash/b.parquet"), "gone").expect("written");
    for spark in ["_temporary/0", "_delta_log"] {
        let spark = folder.path().join(spark);
        std::fs::create_dir_all(&spark).expect("a folder");
        write_parquet(&spark.join("a.parquet"), &our_batch(), Compression::SNAPPY);
    }
    write_parquet(
        &folder.path().join("_a.parquet"),
        &our_batch(),
        Compression::SNAPPY,
    );
    std::fs::write(folder.path().join(".trash").join(MANIFEST_NAME), "{}").expect("written");
    let manifest = folder.path().join(MANIFEST_NAME);
    for foreign in [r#"{"files": []}"#, "[]"] {
        std::fs::write(&manifest, foreign).expect("written");
        let found = open(folder.path(), &MAP).expect("a dataset");
        assert_eq!(found.shards.len(), 1);
        assert_eq!(found.fingerprint(), alone.fingerprint());
    }
    // Ours, and damaged.
    std::fs::write(&manifest, r#"{"format": "understudy-shards"}"#).expect("written");
    let text = error(folder.path(), &MAP);
    assert!(text.contains("not a manifest of shards"), "{text}");
}

#[cfg(unix)]
#[test]
fn finished_dataset_opens_next_to_files_that_cannot_be_listed() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let shard = "a#b~c?d%e%20é.parquet";
    write_parquet(
        &folder.path().join(shard),
        &our_batch(),
        Compression::UNCOMPRESSED,
    );
    write_manifest(folder.path(), |_| ());
    let stray = std::ffi::OsStr::from_bytes(b"b\xff.parquet");
    std::fs::write(folder.path().join(stray), "not UTF-8").expect("written");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).expect("a link");
    std::os::unix::fs::symlink("nowhere", folder.path().join("c.parquet")).expect("a link");
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).expect("a folder");
    let none = std::os::unix::fs::PermissionsExt::from_mode(0o0);
    std::fs::set_permissions(&closed, none).expect("closed");
    let dataset = open(folder.path(), &MAP).expect("a dataset");
    assert_eq!(dataset.shards[0].path, shard);
    assert_eq!(dataset.shards.len(), 1);
    assert_images(&dataset);
    // Without the manifest the folder must be listed.
    std::fs::remove_file(folder.path().join(MANIFEST_NAME)).expect("removed");
    open(folder.path(), &MAP).expect_err("a name that is not UTF-8");
}

#[cfg(unix)]
#[test]
fn the_name_of_a_link_decides_the_format() {
    let folder = folder();
    let blob = folder.path().join("0a1b2c");
    write_parquet(&blob, &our_batch(), Compression::SNAPPY);
    let link = folder.path().join("train.parquet");
    std::os::unix::fs::symlink(&blob, &link).expect("a link");
    let dataset = open(&link, &MAP).expect("a dataset");
    assert_eq!(
        (dataset.rows, dataset.shards[0].path.as_str()),
        (10, "train.parquet")
    );
}

#[test]
fn fingerprint_depends_on_rows_and_columns_not_on_place() {
    let (folder, elsewhere) = (folder(), folder());
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &our_batch(), Compression::UNCOMPRESSED);
    write_parquet(
        &folder.path().join("b.parquet"),
        &our_batch(),
        Compression::SNAPPY,
    );
    let fingerprint = |path: &Path| open(path, &MAP).expect("a dataset").fingerprint();
    let first = fingerprint(folder.path());
    copy(folder.path(), elsewhere.path());
    assert_eq!(fingerprint(elsewhere.path()), first, "a copy");
    write_manifest(elsewhere.path(), |_| ());
    let listed = open(elsewhere.path(), &MAP).expect("a dataset");
    assert_eq!(listed.fingerprint(), first, "from a manifest");
    assert_eq!(read_all(&listed).len(), 6);
    let named = open(folder.path(), &[("image", "image")]).expect("a dataset");
    assert_eq!(named.fingerprint(), first, "the same columns by name");

    let mut regrouped = open(folder.path(), &MAP).expect("a dataset");
    regrouped.shards[0].groups[0].rows -= 1;
    regrouped.shards[0].groups[1].rows += 1;
    assert_ne!(
        regrouped.fingerprint(),
        first,
        "a row in another group of the same size"
    );
    let mapped = open(folder.path(), &[("label", "bytes_xxh3")]).expect("a dataset");
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
fn dropped_footers_are_read_again() {
    let folder = folder();
    for name in ["a.parquet", "b.parquet", "c.parquet"] {
        write_parquet(
            &folder.path().join(name),
            &our_batch(),
            Compression::UNCOMPRESSED,
        );
    }
    let dataset = open(folder.path(), &MAP).expect("a dataset");
    let mut footers = dataset.footers.lock().expect("not poisoned");
    let size = footers.bytes / 3;
    footers.limit = 2 * size;
    footers.get(0);
    let again =
        block_on(Footer::read(&dataset.shards[1].object, &dataset.columns)).expect("a footer");
    footers.keep(1, Arc::new(again));
    // Shard 2 was used longest ago.
    assert_eq!(footers.kept.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(footers.bytes, 2 * size);
    drop(footers);
    assert_eq!(read_all(&dataset).len(), 9);
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}
