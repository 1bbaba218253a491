//! `shards write` to object stores: the dataset is identical to a local one, whatever fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod corpus;
#[path = "support/lab/mod.rs"]
mod lab;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use corpus::{jpeg, run, shards, until_killed};
use lab::inside::{in_azure, in_s3};
use understudy_pipelines::store::{Folder, StoreOptions};

/// Sizes so small that a few hundred images give many shards.
const SMALL: [&str; 4] = ["--shard-bytes", "128KiB", "--row-group-bytes", "64KiB"];
const N_IMAGES: u32 = 2400;

fn open(url: &str) -> Folder {
    Folder::open(url, &StoreOptions::default()).unwrap()
}

/// Returns `shards write` with its own temporary folder.
fn write(root: &Path, to: &str, scratch: &Path) -> Command {
    fs::create_dir_all(scratch).unwrap();
    let mut command = shards("write");
    command.arg(root).args(["--to", to]).args(SMALL);
    command.args(["--threads", "2"]).env("TMPDIR", scratch);
    command
}

/// Reads every file of a dataset, without the journal.
fn files(set: &str) -> Vec<(String, Vec<u8>)> {
    let set = open(set);
    let names = set.files().unwrap().into_iter().map(|(name, _)| name);
    let read = |name: String| {
        let bytes = set.read(&name).unwrap().unwrap();
        (name, bytes.to_vec())
    };
    names.map(read).collect()
}

/// Returns the names of the journal's files.
fn journal(set: &str) -> Vec<String> {
    let files = open(set).join(".write").files().unwrap();
    files.into_iter().map(|(name, _)| name).collect()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Writes a corpus with a few bad images, and its dataset on this machine.
fn uninterrupted(folder: &Path) -> (PathBuf, Vec<(String, Vec<u8>)>) {
    let root = folder.join("in");
    corpus::class_folders(&root, &["a", "b", "c"], N_IMAGES / 3);
    for (class, i) in [("a", 5), ("a", 300), ("b", 77), ("b", 78), ("c", 399)] {
        let path = root.join(format!("{class}/{i:03}.jpg"));
        fs::write(path, &jpeg(1)[..200]).unwrap();
    }
    let to = folder.join("uninterrupted").display().to_string();
    let out = run(&mut write(&root, &to, &folder.join("tmp")), 0);
    assert!(out.contains("2395 rows") && out.contains("5 bad"), "{out}");
    let files = files(&to);
    assert!(files.len() > 8, "several shards: {}", files.len());
    (root, files)
}

fn is_identical_to_local(bucket: &str) {
    takes_large_files(bucket);
    let folder = tempfile::tempdir().unwrap();
    let (root, expected) = uninterrupted(folder.path());
    let (to, scratch) = (format!("{bucket}/deep/set"), folder.path().join("tmp"));
    let out = run(&mut write(&root, &to, &scratch), 0);
    assert!(out.contains(&format!("{to}: 2395 rows")), "{out}");
    assert!(out.contains(&format!("see {to}/quarantine.jsonl")), "{out}");
    // Manifest and quarantine are among the files, so hashes and reasons are the same too.
    assert!(files(&to) == expected);
    assert_eq!(journal(&to), ["job.json", "lease.json"]);
    assert!(is_empty(&scratch), "the temporary files are removed");

    let again = run(&mut write(&root, &to, &scratch), 0);
    assert!(again.contains("was complete already"), "{again}");
    run(shards("verify").arg(&to), 0);
    let error = run(write(&root, &to, &scratch).args(["--resize-short", "8"]), 2);
    assert!(error.contains("settings differ: --resize-short"), "{error}");

    // A lost shard is written again.
    open(&to)
        .remove(&["shard-00001.parquet".to_owned()])
        .unwrap();
    let out = run(&mut write(&root, &to, &scratch), 0);
    assert!(
        out.contains("missing or changed: shard-00001.parquet"),
        "{out}"
    );
    assert!(files(&to) == expected);

    // Files that this command did not write are not touched.
    let foreign = format!("{bucket}/foreign");
    open(&foreign).write("x.parquet", "x").unwrap();
    let error = run(&mut write(&root, &foreign, &scratch), 2);
    assert!(error.contains("did not write"), "{error}");
    assert_eq!(files(&foreign), [("x.parquet".to_owned(), b"x".to_vec())]);
}

/// Uploads and downloads a file in several requests, and compares it.
fn takes_large_files(bucket: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    let words = (0..(40 << 20) / 8_u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    fs::write(&file, &bytes).unwrap();
    let there = open(bucket).join("large files");
    there.take_file("large", &file).unwrap();
    assert!(!file.exists());
    assert_eq!(there.size("large").unwrap(), Some(40 << 20));
    assert!(there.read_large("large").unwrap().unwrap() == bytes);
    there
        .remove(&["large".to_owned(), "none".to_owned()])
        .unwrap();
    assert_eq!(there.files().unwrap(), []);
}

#[test]
fn dataset_in_s3_is_identical_to_local() {
    in_s3("dataset_in_s3_is_identical_to_local", is_identical_to_local);
}

#[test]
fn dataset_in_azure_is_identical_to_local() {
    in_azure(
        "dataset_in_azure_is_identical_to_local",
        is_identical_to_local,
    );
}

/// Each kill is followed by a run on another machine, without the files of the earlier one's disk.
#[test]
fn killed_write_resumes_on_another_machine() {
    let name = "killed_write_resumes_on_another_machine";
    in_s3(name, |bucket| {
        let folder = tempfile::tempdir().unwrap();
        let (root, expected) = uninterrupted(folder.path());
        let set_of = |attempt: usize| format!("{bucket}/set-{attempt}");
        let scratch_of = |attempt: usize, machine: u32| {
            let name = format!("tmp-{attempt}-{machine}");
            folder.path().join(name)
        };
        let last = until_killed(3, |attempt| {
            let to = set_of(attempt);
            let set = open(&to);
            let n_shards = || {
                let files = set.files().unwrap();
                let shards = files.iter().filter(|(name, _)| name.ends_with(".parquet"));
                shards.count()
            };
            let mut kills = 0_u32;
            loop {
                let mut child = write(&root, &to, &scratch_of(attempt, kills))
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                let before = n_shards();
                while child.try_wait().unwrap().is_none() && n_shards() == before {
                    std::thread::yield_now();
                }
                // Kill at any point after a shard: in the next one, its upload, or its journal entry.
                let moment = u64::from(kills).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
                std::thread::sleep(Duration::from_millis(moment / 4));
                child.kill().unwrap();
                let status = child.wait().unwrap();
                if status.success() {
                    break;
                }
                assert_eq!(status.signal(), Some(9));
                kills += 1;
            }
            println!("{kills} kills");
            assert!(files(&to) == expected);
            assert_eq!(journal(&to), ["job.json", "lease.json"]);
            run(shards("verify").arg(&to), 0);
            kills
        });
        // The next run on a machine removes the temporary files of killed runs.
        let (to, scratch) = (set_of(last), scratch_of(last, 0));
        assert!(!is_empty(&scratch));
        run(&mut write(&root, &to, &scratch), 0);
        assert!(is_empty(&scratch));
    });
}

#[test]
fn second_writer_of_dataset_in_store_is_refused() {
    in_s3("second_writer_of_dataset_in_store_is_refused", |bucket| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("in");
        corpus::class_folders(&root, &["a"], 3);
        let (to, scratch) = (format!("{bucket}/set"), folder.path().join("tmp"));
        let first = open(&to).lease(".write/lease.json").unwrap();
        let error = run(&mut write(&root, &to, &scratch), 1);
        let holder = format!("process {}", std::process::id());
        assert!(error.contains("another process is writing"), "{error}");
        assert!(
            error.contains(&holder) && error.contains("waiting up to 60 s"),
            "{error}"
        );
        assert!(files(&to).is_empty());
        first.check().unwrap();
        drop(first);
        run(&mut write(&root, &to, &scratch), 0);
    });
}

/// Two datasets with one class list, and the class list reused, all given as URLs.
#[test]
fn train_and_val_become_two_datasets_in_store() {
    in_s3("train_and_val_become_two_datasets_in_store", |bucket| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("in");
        for split in ["train", "val"] {
            corpus::class_folders(&root.join(split), &["x", "y"], 4);
        }
        let (to, scratch) = (format!("{bucket}/sets/"), folder.path().join("tmp"));
        let out = run(&mut write(&root, &to, &scratch), 0);
        let next = format!("data.train={bucket}/sets/train --set data.val={bucket}/sets/val");
        assert!(out.contains(&next), "{out}");
        // A class list comes from a URL, too.
        let (from, more) = (format!("{bucket}/sets/train"), format!("{bucket}/more"));
        corpus::class_folders(&folder.path().join("more"), &["y"], 4);
        let mut labelled = write(&folder.path().join("more"), &more, &scratch);
        let out = run(labelled.args(["--labels", &from]), 0);
        assert!(out.contains("2 classes"), "{out}");
        for split in ["train", "val"] {
            let set = format!("{bucket}/sets/{split}");
            let out = run(shards("inspect").arg(&set), 0);
            assert!(
                out.contains('8') && out.contains('x') && out.contains('y'),
                "{out}"
            );
        }
    });
}
