//! `shards write` from class folders, tars and columnar files, through the binary.

mod corpus;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corpus::{IMAGE_SIZE, jpeg, png, rows, run, shards, text};
use understudy_pipelines::shard::{MANIFEST_NAME, Manifest};

fn manifest(set: &Path) -> Manifest {
    let json = fs::read(set.join(MANIFEST_NAME)).expect("a manifest");
    Manifest::from_json(&json, "manifest.json").expect("valid")
}

#[test]
fn class_folders_are_written_in_shuffled_order() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root, &["dog", "ant"], 20);
    fs::write(root.join("LICENSE"), "free").unwrap();
    fs::write(root.join("ant/.DS_Store"), "x").unwrap();
    let out = run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    assert!(out.contains("40 rows, 2 classes"), "{out}");
    assert!(out.contains("2 files ignored"), "{out}");
    let rows = rows(&to);
    let paths: Vec<_> = rows.iter().map(|row| row.path.as_str()).collect();
    let distinct: std::collections::BTreeSet<_> = paths.iter().collect();
    assert_eq!((paths.len(), distinct.len()), (40, 40));
    let ants = paths[..20]
        .iter()
        .filter(|path| path.starts_with("ant"))
        .count();
    assert!(
        (5..=15).contains(&ants),
        "{ants} of the first 20 are of one class"
    );
    assert!(
        rows.iter()
            .all(|row| row.label == Some(i64::from(row.path.starts_with("dog"))))
    );
    for row in &rows {
        assert_eq!(
            row.bytes,
            fs::read(root.join(&row.path)).unwrap(),
            "{}",
            row.path
        );
        assert_eq!((row.width, row.height), IMAGE_SIZE);
    }
    let manifest = manifest(&to);
    assert_eq!(
        (manifest.rows, manifest.classes),
        (40, Some(text(&["ant", "dog"])))
    );
    assert!(!to.join("quarantine.jsonl").exists());
    run(shards("verify").arg(&to), 0);
    let again = run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    assert!(again.contains("was complete already"), "{again}");

    // The order depends only on the files: other threads and shard sizes give the same one.
    let copy = folder.path().join("copy");
    let small = [
        "--shard-bytes",
        "64KiB",
        "--row-group-bytes",
        "64KiB",
        "--threads",
        "1",
    ];
    run(
        shards("write")
            .arg(&root)
            .arg("--to")
            .arg(&copy)
            .args(small),
        0,
    );
    let again: Vec<_> = corpus::rows(&copy)
        .into_iter()
        .map(|row| row.path)
        .collect();
    assert_eq!(again, paths);
}

/// Names in Latin-1, as in an old archive, which become equal when converted to UTF-8.
#[test]
fn non_utf8_file_names_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root, &["a"], 1);
    let named = |name: &[u8]| root.join("a").join(OsStr::from_bytes(name));
    let odd: [(&[u8], _); 3] = [
        (b"caf\xe9.jpg", 7),
        (b"caf\xe8.jpg", 8),
        (b"caf\xe7/x.jpg", 9),
    ];
    for (name, seed) in odd {
        corpus::put(&named(name), jpeg(seed));
    }
    let write = || {
        let mut write = shards("write");
        write.arg(&root).arg("--to").arg(&to);
        write
    };
    run(&mut write(), 0);
    let mut rows: Vec<_> = rows(&to)
        .into_iter()
        .map(|row| (row.path, row.bytes, row.label))
        .collect();
    let mut expected = [
        ("a/000.jpg", jpeg(0)),
        ("a/caf\u{fffd}.jpg", jpeg(7)),
        ("a/caf\u{fffd}.jpg", jpeg(8)),
        ("a/caf\u{fffd}/x.jpg", jpeg(9)),
    ]
    .map(|(path, bytes)| (path.to_owned(), bytes, Some(0)));
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);

    // Another name is another source, even if it is displayed the same.
    fs::rename(named(b"caf\xe9.jpg"), named(b"caf\xea.jpg")).unwrap();
    let error = run(&mut write(), 2);
    assert!(error.contains("settings differ: source"), "{error}");
}

#[test]
fn train_and_val_share_class_list_and_labels_option_reuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root.join("train"), &["a", "b"], 2);
    corpus::class_folders(&root.join("val"), &["b", "c"], 2);
    run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    let classes = Some(text(&["a", "b", "c"]));
    assert_eq!(manifest(&to.join("train")).classes, classes);
    assert_eq!(manifest(&to.join("val")).classes, classes);
    let mut labels: Vec<_> = rows(&to.join("val")).iter().map(|row| row.label).collect();
    labels.sort_unstable();
    assert_eq!(labels, [Some(1), Some(1), Some(2), Some(2)]);

    let more = folder.path().join("more");
    corpus::class_folders(&more, &["c"], 1);
    for (from, name) in [("train", "x"), ("train/train-00000.parquet", "y")] {
        let out = folder.path().join(name);
        let labels = to.join(from);
        run(
            shards("write")
                .arg(&more)
                .arg("--to")
                .arg(&out)
                .arg("--labels")
                .arg(labels),
            0,
        );
        assert_eq!(rows(&out)[0].label, Some(2));
        assert_eq!(manifest(&out).classes, classes);
    }
    fs::rename(more.join("c"), more.join("zebra")).unwrap();
    let out = folder.path().join("z");
    let labels = to.join("train");
    let error = run(
        shards("write")
            .arg(&more)
            .arg("--to")
            .arg(&out)
            .arg("--labels")
            .arg(labels),
        2,
    );
    assert!(error.contains("`zebra`"), "{error}");
    assert!(!out.exists());
}

#[test]
fn bad_images_are_quarantined_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root, &["a"], 3);
    fs::write(root.join("a/empty.jpg"), "").unwrap();
    fs::write(root.join("a/text.jpg"), "not an image at all").unwrap();
    let whole = jpeg(7);
    fs::write(root.join("a/short.jpg"), &whole[..whole.len() / 2]).unwrap();
    let out = run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    assert!(out.contains("3 bad samples skipped"), "{out}");
    let lines = fs::read_to_string(to.join("quarantine.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut names: Vec<_> = lines
        .iter()
        .map(|line| line["sample"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    for (name, end) in names.iter().zip(["empty.jpg", "short.jpg", "text.jpg"]) {
        assert!(name.ends_with(end), "{names:?}");
    }
    assert!(
        lines
            .iter()
            .all(|line| !line["reason"].as_str().unwrap().is_empty())
    );
    assert_eq!(rows(&to).len(), 3);
    let again = run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    assert!(again.contains("3 bad samples skipped"), "{again}");

    // A corpus without a good image gives no dataset.
    for i in 0..3 {
        fs::remove_file(root.join(format!("a/{i:03}.jpg"))).unwrap();
    }
    let none = folder.path().join("none");
    let error = run(shards("write").arg(&root).arg("--to").arg(&none), 1);
    assert!(error.contains("no usable sample among 3"), "{error}");
    assert!(!none.join(MANIFEST_NAME).exists());
}

#[test]
fn images_are_resized_and_encoded_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    fs::create_dir_all(root.join("a")).unwrap();
    fs::write(root.join("a/big.png"), png(64, 48)).unwrap();
    fs::write(root.join("a/big.jpg"), png(64, 48)).unwrap();
    fs::write(root.join("a/small.png"), png(20, 16)).unwrap();
    let to = folder.path().join("resized");
    run(
        shards("write")
            .arg(&root)
            .arg("--to")
            .arg(&to)
            .args(["--resize-short", "24"]),
        0,
    );
    let mut resized = rows(&to);
    resized.sort_by(|a, b| a.path.cmp(&b.path));
    for (row, name) in resized.iter().zip(["a/big.jpg", "a/big.png"]) {
        assert_eq!((row.path.as_str(), row.width, row.height), (name, 32, 24));
        assert!(row.bytes.starts_with(&[0xff, 0xd8]));
    }
    assert_eq!(resized[2].bytes, png(20, 16), "a small one keeps its bytes");
    run(shards("verify").arg(&to), 0);
    let to = folder.path().join("encoded");
    run(
        shards("write")
            .arg(&root)
            .arg("--to")
            .arg(&to)
            .args(["--encode", "jpeg"]),
        0,
    );
    assert!(
        rows(&to)
            .iter()
            .all(|row| row.bytes.starts_with(&[0xff, 0xd8]))
    );
}

#[test]
fn tar_members_are_grouped_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    fs::create_dir_all(&root).unwrap();
    let first = [
        ("d/0.jpg", jpeg(0)),
        ("d/0.cls", b"cat".to_vec()),
        ("d/1.json", br#"{"label": "dog"}"#.to_vec()),
        ("d/1.jpg", jpeg(1)),
        ("d/2.cls", b"cat".to_vec()),
    ];
    let second = [
        ("d/3.dat", jpeg(3)),
        ("d/3.txt", b"ant\n".to_vec()),
        ("d/4.jpg", jpeg(4)),
    ];
    corpus::tar(&root.join("0.tar"), &first);
    corpus::tar_gz(&root.join("1.tar.gz"), &second);
    let to = folder.path().join("out");
    let out = run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    assert!(out.contains("1 bad samples"), "{out}");
    let rows = rows(&to);
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.path.as_str(), row.label))
        .collect();
    let expected = [
        ("d/0.jpg", Some(1)),
        ("d/1.jpg", Some(2)),
        ("d/3.dat", Some(0)),
        ("d/4.jpg", None),
    ];
    assert_eq!(found, expected);
    assert_eq!(rows[2].bytes, jpeg(3));
    assert_eq!(manifest(&to).classes, Some(text(&["ant", "cat", "dog"])));

    // A truncated tar is an error, not a shorter tar.
    let whole = fs::read(root.join("0.tar")).unwrap();
    fs::write(root.join("0.tar"), &whole[..1024]).unwrap();
    let cut = folder.path().join("cut");
    let error = run(shards("write").arg(&root).arg("--to").arg(&cut), 1);
    assert!(
        error.contains("damaged file: ") && error.contains("0.tar: "),
        "{error}"
    );
}

#[test]
fn columns_option_maps_foreign_columns() {
    let folder = tempfile::tempdir().unwrap();
    let images = [jpeg(0), jpeg(1), jpeg(2)];
    let source = folder.path().join("in");
    fs::create_dir_all(&source).unwrap();
    for name in ["train-0.parquet", "validation-0.arrow"] {
        corpus::hugging_face(&source.join(name), &images, &[Some(1), None, Some(5)]);
    }
    let to = folder.path().join("out");
    let error = run(shards("write").arg(&source).arg("--to").arg(&to), 1);
    assert!(
        error.contains("`img`") && error.contains("--columns image="),
        "{error}"
    );
    let map = "image=img,label=fine";
    let out = run(
        shards("write")
            .arg(&source)
            .arg("--to")
            .arg(&to)
            .args(["--columns", map]),
        0,
    );
    assert!(out.contains("1 bad samples"), "{out}");
    for set in ["train", "val"] {
        let set = to.join(set);
        let found: Vec<_> = rows(&set)
            .into_iter()
            .map(|row| (row.bytes, row.label))
            .collect();
        assert_eq!(found, [(jpeg(0), Some(1)), (jpeg(1), None)]);
        assert_eq!(
            manifest(&set).classes,
            Some(text(&["zebra", "ant"])),
            "the list keeps its order"
        );
        let bad = fs::read_to_string(set.join("quarantine.jsonl")).unwrap();
        assert!(
            bad.contains("#2") && bad.contains("5 is out of range"),
            "{bad}"
        );
    }
}

#[test]
fn files_next_to_shards_are_counted_and_compressed_shards_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    for split in ["train", "val"] {
        let split = root.join(split);
        fs::create_dir_all(&split).unwrap();
        corpus::tar(&split.join("0.tar"), &[("0.jpg", jpeg(0))]);
        fs::write(split.join("list.txt"), "x").unwrap();
    }
    fs::write(root.join("README.md"), "x").unwrap();
    let out = run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    assert!(out.contains("3 files ignored"), "{out}");

    fs::write(root.join("val/1.tar.zst"), "x").unwrap();
    let other = folder.path().join("other");
    let error = run(shards("write").arg(&root).arg("--to").arg(&other), 1);
    assert!(
        error.contains("val: compressed files are not supported") && error.contains("1.tar.zst"),
        "{error}"
    );
    assert!(!other.exists());
}

#[test]
fn unusable_sources_are_named_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let nowhere = folder.path().join("nowhere");
    let error = run(shards("write").arg(&nowhere).arg("--to").arg(&to), 1);
    assert!(error.contains("nowhere: no such file or folder"), "{error}");

    let empty = folder.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let error = run(shards("write").arg(&empty).arg("--to").arg(&to), 1);
    assert!(error.contains("empty: empty folder"), "{error}");

    fs::create_dir_all(empty.join("a")).unwrap();
    let error = run(shards("write").arg(&empty).arg("--to").arg(&to), 1);
    assert!(error.contains("no samples"), "{error}");

    let half = folder.path().join("half");
    corpus::class_folders(&half.join("train"), &["a"], 1);
    fs::create_dir_all(half.join("val")).unwrap();
    let error = run(shards("write").arg(&half).arg("--to").arg(&to), 1);
    assert!(error.contains("half/val: no samples found"), "{error}");

    let text = folder.path().join("a.txt");
    fs::write(&text, "text").unwrap();
    let error = run(shards("write").arg(&text).arg("--to").arg(&to), 1);
    assert!(
        error.contains("not a tar, Parquet or Arrow file"),
        "{error}"
    );
    assert!(!to.exists());

    let root = folder.path().join("in");
    corpus::class_folders(&root, &["a"], 1);
    let error = run(
        shards("write")
            .arg(&root)
            .arg("--to")
            .arg(root.join("shards")),
        2,
    );
    assert!(error.contains("is inside the source"), "{error}");
    // Ambiguous layouts.
    let mixed = folder.path().join("mixed");
    corpus::class_folders(&mixed, &["train", "extra"], 1);
    let error = run(shards("write").arg(&mixed).arg("--to").arg(&to), 1);
    assert!(
        error.contains("found the split `train` next to `extra`"),
        "{error}"
    );
    let both = folder.path().join("both");
    corpus::class_folders(&both, &["cat", "dog"], 1);
    corpus::tar(&both.join("download.tar"), &[("1.jpg", jpeg(1))]);
    let error = run(shards("write").arg(&both).arg("--to").arg(&to), 1);
    assert!(
        error.contains("both `download.tar` and `cat/000.jpg`"),
        "{error}"
    );

    // Tars whose samples would be lost silently.
    let linked = folder.path().join("linked.tar");
    let mut tar = tar::Builder::new(fs::File::create(&linked).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    tar.append_link(&mut header, "2.jpg", "1.jpg").unwrap();
    tar.finish().unwrap();
    let error = run(shards("write").arg(&linked).arg("--to").arg(&to), 1);
    assert!(error.contains("`2.jpg` is a link"), "{error}");
    let plain = folder.path().join("plain.tar");
    corpus::tar(&plain, &[("1.jpg", jpeg(1)), ("1.cls", b"3".to_vec())]);
    let error = run(
        shards("write")
            .arg(&plain)
            .args(["--columns", "label=kind", "--to"])
            .arg(&to),
        1,
    );
    assert!(error.contains("no member ends in .kind"), "{error}");

    let error = run(
        shards("write").arg(&root).args(["--to", "s3://bucket/x"]),
        2,
    );
    assert!(error.contains("s3://"), "{error}");
}
