//! `shards write` from folders and files: splits of a corpus, class folders, odd files, and mistakes.

mod corpus;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use corpus::{class_folders, put, run, shards, text};
use understudy_pipelines::shard::{MANIFEST_NAME, Manifest};

fn manifest(set: &Path) -> Manifest {
    let json = fs::read(set.join(MANIFEST_NAME)).expect("a manifest");
    Manifest::from_json(&json, "manifest.json").expect("valid")
}

/// Writes `sources` and returns the output of the command.
fn write(sources: &[&Path], to: &Path, options: &[&str], code: i32) -> String {
    let mut write = shards("write");
    run(write.args(sources).arg("--to").arg(to).args(options), code)
}

fn n_rows(set: &Path) -> u64 {
    manifest(set).rows
}

fn classes(set: &Path) -> Option<Vec<String>> {
    manifest(set).classes
}

#[test]
fn splits_are_detected_in_any_case_and_in_nested_folders() {
    let folder = tempfile::tempdir().unwrap();
    for (i, (train, val)) in [
        ("Train", "Val"),
        ("TRAIN", "VALID"),
        ("training", "validation"),
        ("unzipped/dataset/train", "unzipped/dataset/Dev"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = folder.path().join(format!("in-{i}"));
        let to = folder.path().join(format!("out-{i}"));
        class_folders(&root.join(train), &["a", "b"], 2);
        class_folders(&root.join(val), &["a", "b"], 1);
        fs::write(root.join("list.csv"), "x").unwrap();
        write(&[&root], &to, &[], 0);
        for (set, n) in [("train", 4), ("val", 2)] {
            let manifest = manifest(&to.join(set));
            assert_eq!(
                (manifest.rows, manifest.classes),
                (n, Some(text(&["a", "b"])))
            );
        }
    }

    // Splits of several corpora would become classes, each with its validation data.
    let root = folder.path().join("two");
    for corpus in ["x/train", "x/val", "y/train", "y/val"] {
        class_folders(&root.join(corpus), &["a"], 1);
    }
    let to = folder.path().join("out");
    let error = write(&[&root], &to, &[], 1);
    assert!(
        error.contains("two/x: contains the splits of a corpus"),
        "{error}"
    );
    write(&[&root.join("x"), &root.join("y")], &to, &[], 0);
    assert_eq!((n_rows(&to.join("train")), n_rows(&to.join("val"))), (2, 2));
}

#[test]
fn sources_that_are_splits_become_datasets() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    let [train, val, extra] = ["train", "val", "extra"].map(|name| root.join(name));
    for (folder, n) in [(&train, 2), (&val, 1), (&extra, 1)] {
        class_folders(folder, &["a"], n);
    }
    let to = folder.path().join("out");
    let error = write(&[&train, &val, &extra], &to, &[], 1);
    assert!(
        error.contains("found the split `train` next to `extra`"),
        "{error}"
    );
    write(&[&train, &val], &to, &[], 0);
    assert_eq!((n_rows(&to.join("train")), n_rows(&to.join("val"))), (2, 1));
    let both = folder.path().join("both");
    write(&[&train, &extra], &both, &[], 0);
    assert_eq!(n_rows(&both), 3, "one split and another folder");
}

#[test]
fn text_splits_are_not_mixed_with_other_texts() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let texts = ["--schema", "text"];
    for (i, (names, other)) in [
        (["train.txt", "valid.txt", "vocab.txt"], "`vocab.txt`"),
        (["a.train.txt", "a.valid.txt", "notes/a.txt"], "`a.txt`"),
        (["TRAIN.txt", "b.txt", "c.txt"], "`b.txt`"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = folder.path().join(format!("in-{i}"));
        for name in names {
            put(&root.join(name), "A text.\n");
        }
        let error = write(&[&root], &to, &texts, 1);
        let expected = format!("next to {other}, which is not a split");
        assert!(error.contains(&expected), "{error}");
    }
    // A title is not a split.
    let root = folder.path().join("novels");
    for name in [
        "the-night-train.txt",
        "a-test-of-wills.txt",
        "persuasion.txt",
    ] {
        put(&root.join(name), "A text.\n");
    }
    write(&[&root], &to, &texts, 0);
    assert_eq!(n_rows(&to), 3);
    let unzipped = folder.path().join("unzipped");
    for split in ["train", "valid"] {
        put(
            &unzipped.join("corpus").join(split).join("a.txt"),
            "A text.\n",
        );
    }
    let to = folder.path().join("parts");
    write(&[&unzipped], &to, &texts, 0);
    assert_eq!((n_rows(&to.join("train")), n_rows(&to.join("val"))), (1, 1));
}

#[test]
fn folders_without_samples_are_not_classes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    class_folders(&root, &["cat", "dog"], 1);
    fs::create_dir_all(root.join("empty/inside")).unwrap();
    fs::write(root.join("list.csv"), "x").unwrap();
    for left_by_systems in [
        "__MACOSX/cat/000.jpg",
        "@eaDir/cat.jpg",
        "cat/@eaDir/000.jpg",
    ] {
        put(&root.join(left_by_systems), "x");
    }
    let to = folder.path().join("out");
    let output = write(&[&root], &to, &[], 0);
    assert!(output.contains("1 files ignored"), "{output}");
    assert_eq!(
        (n_rows(&to), classes(&to)),
        (2, Some(text(&["cat", "dog"])))
    );

    // Images next to only empty folders are samples without labels.
    let flat = folder.path().join("flat");
    put(&flat.join("1.jpg"), corpus::jpeg(1));
    fs::create_dir(flat.join("empty")).unwrap();
    let to = folder.path().join("out-flat");
    write(&[&flat], &to, &[], 0);
    assert_eq!((n_rows(&to), classes(&to)), (1, None));

    let audio = folder.path().join("audio");
    put(&audio.join("yes/1.wav"), corpus::wav(1, 16_000, 100));
    put(&audio.join("notes/list.txt"), "x");
    let to = folder.path().join("out-audio");
    write(&[&audio], &to, &["--schema", "audio"], 0);
    assert_eq!(classes(&to), Some(text(&["yes"])));
}

#[test]
fn broken_or_circular_link_is_one_bad_sample() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    class_folders(&root, &["a"], 3);
    let lost = root.join("a/lost.jpg");
    symlink("nowhere", &lost).unwrap();
    symlink("nowhere", root.join("a/.hidden")).unwrap();
    symlink("..", root.join("a/up")).unwrap();
    symlink(".", root.join("around")).unwrap();
    let to = folder.path().join("out");
    for _ in 0..2 {
        let output = write(&[&root], &to, &[], 0);
        assert!(
            output.contains("3 rows, 1 classes")
                && output.contains("2 bad samples")
                && output.contains("2 files ignored"),
            "{output}"
        );
    }
    let bad = fs::read_to_string(to.join("quarantine.jsonl")).unwrap();
    for (name, reason) in [
        ("a/lost.jpg", "a link that cannot be followed: No such file"),
        ("a/up", "a link to a folder above it"),
    ] {
        let mut lines = bad.lines();
        assert!(
            lines.any(|line| line.contains(name) && line.contains(reason)),
            "{bad}"
        );
    }
    fs::remove_file(&lost).unwrap();
    fs::write(&lost, corpus::jpeg(9)).unwrap();
    let error = write(&[&root], &to, &[], 2);
    assert!(error.contains("settings differ: source"), "{error}");

    // A text file holds many samples.
    let texts = folder.path().join("texts");
    put(&texts.join("a.txt"), "A text.\n");
    symlink(".", texts.join("around")).unwrap();
    symlink("nowhere", texts.join("b.txt")).unwrap();
    let to = folder.path().join("out-texts");
    let error = write(&[&texts], &to, &["--schema", "text"], 1);
    assert!(error.contains("b.txt: a link that cannot"), "{error}");
    fs::remove_file(texts.join("b.txt")).unwrap();
    write(&[&texts], &to, &["--schema", "text"], 0);
    assert_eq!(n_rows(&to), 1);
}

#[test]
fn other_schema_is_suggested_and_corrected_command_works() {
    let folder = tempfile::tempdir().unwrap();
    let audio = folder.path().join("audio");
    for i in 1..4 {
        put(
            &audio.join(format!("yes/{i}.wav")),
            corpus::wav(i, 16_000, 100),
        );
    }
    let to = folder.path().join("out");
    let error = write(&[&audio], &to, &[], 1);
    assert!(
        error.contains("no usable sample among 3; first error: ")
            && error.contains(".wav: unsupported")
            && error.contains("try --schema audio"),
        "{error}"
    );
    write(&[&audio], &to, &["--schema", "audio"], 0);
    assert_eq!(n_rows(&to), 3);
    assert!(!to.join("quarantine.jsonl").exists());
    let error = write(&[&audio], &to, &[], 2);
    assert!(error.contains("settings differ: schema"), "{error}");

    let images = folder.path().join("images");
    class_folders(&images, &["a"], 1);
    let error = write(&[&images], &to, &["--schema", "audio"], 1);
    assert!(
        error.contains("no samples") && error.contains("try --schema image"),
        "{error}"
    );
}

#[test]
fn unfinished_dataset_is_refused_as_source() {
    let folder = tempfile::tempdir().unwrap();
    let (root, sets) = (folder.path().join("in"), folder.path().join("sets"));
    for split in ["train", "val"] {
        class_folders(&root.join(split), &["a"], 1);
    }
    write(&[&root], &sets, &[], 0);
    let to = folder.path().join("out");
    write(&[&sets], &to, &[], 0);
    let half = sets.join("val");
    fs::remove_file(half.join(MANIFEST_NAME)).unwrap();
    let to = folder.path().join("half");
    for source in [&sets, &half] {
        let error = write(&[source], &to, &[], 1);
        assert!(error.contains("val: unfinished dataset"), "{error}");
    }
}

#[test]
fn quality_requires_images_that_are_encoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    class_folders(&root, &["a"], 1);
    let to = folder.path().join("out");
    for keep in [&[][..], &["--encode", "keep"]] {
        let options = [&["--quality", "50"], keep].concat();
        let error = write(&[&root], &to, &options, 2);
        assert!(
            error.contains("--quality: only for --resize-short and --encode jpeg"),
            "{error}"
        );
    }
    write(&[&root], &to, &["--quality", "50", "--encode", "jpeg"], 0);
}

#[test]
fn printed_next_commands_work() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    class_folders(&root.join("train"), &["a"], 1);
    class_folders(&root.join("val"), &["a"], 1);
    let to = folder.path().join("it's a $set %\u{e9}");
    let output = write(&[&root], &to, &[], 0);
    let next = output
        .lines()
        .filter_map(|line| line.strip_prefix("  shards verify "));
    let next: Vec<_> = next.collect();
    assert_eq!(next.len(), 2, "{output}");
    for set in next {
        let mut shell = Command::new("sh");
        let verify = format!("\"$SHARDS\" verify {set}");
        run(
            shell
                .env("SHARDS", shards("").get_program())
                .args(["-c", &verify]),
            0,
        );
    }
    let plain = folder.path().join("out");
    let output = write(&[&root], &plain, &[], 0);
    let sets = format!(
        "--set data.train={0}/train --set data.val={0}/val",
        plain.display()
    );
    assert!(output.contains(&sets), "{output}");
}

#[test]
fn folders_given_one_by_one_have_no_labels_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("pics");
    class_folders(&root, &["cat", "dog"], 1);
    let to = folder.path().join("out");
    let output = write(&[&root.join("cat"), &root.join("dog")], &to, &[], 0);
    let hint = format!("hint: give {} as the source", root.display());
    assert!(
        output.contains("no labels") && output.contains(&hint),
        "{output}"
    );
    assert_eq!(classes(&to), None);

    let speech = folder.path().join("speech");
    for name in ["train-clean-100", "train-clean-360"] {
        put(
            &speech.join(name).join("1/2/1-2-0.wav"),
            corpus::wav(1, 16_000, 100),
        );
        put(
            &speech.join(name).join("1/2/1-2.trans.txt"),
            "1-2-0 WORDS\n",
        );
    }
    let sources = [
        speech.join("train-clean-100"),
        speech.join("train-clean-360"),
    ];
    let to = folder.path().join("out-speech");
    let output = write(&[&sources[0], &sources[1]], &to, &["--schema", "audio"], 0);
    assert!(
        output.contains("2 rows") && !output.contains("no labels"),
        "{output}"
    );
}
