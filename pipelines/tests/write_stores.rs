//! `shards write` to stores: the same set as on this machine, whatever happens on the way.
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

/// So small that a corpus of a few hundred pictures makes many shards.
const SMALL: [&str; 4] = ["--shard-bytes", "128KiB", "--row-group-bytes", "64KiB"];
const N_PICTURES: u32 = 2400;

fn open(url: &str) -> Folder {
    Folder::open(url, &StoreOptions::default()).unwrap()
}

/// `shards write`, with a temporary folder of its own.
fn write(root: &Path, to: &str, scratch: &Path) -> Command {
    fs::create_dir_all(scratch).unwrap();
    let mut command = shards("write");
    command.arg(root).args(["--to", to]).args(SMALL);
    command.args(["--threads", "2"]).env("TMPDIR", scratch);
    command
}

/// Every file of a set and its bytes, without the notes.
fn files(set: &str) -> Vec<(String, Vec<u8>)> {
    let set = open(set);
    let names = set.files().unwrap().into_iter().map(|(name, _)| name);
    let read = |name: String| {
        let bytes = set.read(&name).unwrap().unwrap();
        (name, bytes.to_vec())
    };
    names.map(read).collect()
}

/// Names of the notes that are left.
fn notes(set: &str) -> Vec<String> {
    let notes = open(set).join(".write").files().unwrap();
    notes.into_iter().map(|(name, _)| name).collect()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// A corpus with bad pictures here and there, and its set as written on this machine.
fn unbroken(folder: &Path) -> (PathBuf, Vec<(String, Vec<u8>)>) {
    let root = folder.join("in");
    corpus::class_folders(&root, &["a", "b", "c"], N_PICTURES / 3);
    for (class, i) in [("a", 5), ("a", 300), ("b", 77), ("b", 78), ("c", 399)] {
        let path = root.join(format!("{class}/{i:03}.jpg"));
        fs::write(path, &jpeg(1)[..200]).unwrap();
    }
    let to = folder.join("unbroken").display().to_string();
    let out = run(&mut write(&root, &to, &folder.join("tmp")), 0);
    assert!(out.contains("2395 rows") && out.contains("5 bad"), "{out}");
    let files = files(&to);
    assert!(files.len() > 8, "several shards: {}", files.len());
    (root, files)
}

fn is_the_local_set(bucket: &str) {
    takes_large_files(bucket);
    let folder = tempfile::tempdir().unwrap();
    let (root, expected) = unbroken(folder.path());
    let (to, scratch) = (format!("{bucket}/deep/set"), folder.path().join("tmp"));
    let out = run(&mut write(&root, &to, &scratch), 0);
    assert!(out.contains(&format!("{to}: 2395 rows")), "{out}");
    assert!(out.contains(&format!("see {to}/quarantine.jsonl")), "{out}");
    // Manifest and quarantine are among the files, so hashes and reasons are the same too.
    assert!(files(&to) == expected);
    assert_eq!(notes(&to), ["job.json", "lease.json"]);
    assert!(is_empty(&scratch), "what was on its way is gone");

    let again = run(&mut write(&root, &to, &scratch), 0);
    assert!(again.contains("was complete already"), "{again}");
    run(shards("verify").arg(&to), 0);
    let error = run(write(&root, &to, &scratch).args(["--resize-short", "8"]), 2);
    assert!(error.contains("another --resize-short"), "{error}");

    // What is lost of it is written again.
    open(&to)
        .remove(&["shard-00001.parquet".to_owned()])
        .unwrap();
    let out = run(&mut write(&root, &to, &scratch), 0);
    assert!(out.contains("written again"), "{out}");
    assert!(files(&to) == expected);

    // What this command did not write is left alone.
    let foreign = format!("{bucket}/foreign");
    open(&foreign).write("x.parquet", "x").unwrap();
    let error = run(&mut write(&root, &foreign, &scratch), 2);
    assert!(error.contains("did not write"), "{error}");
    assert_eq!(files(&foreign), [("x.parquet".to_owned(), b"x".to_vec())]);
}

/// Goes up and comes down in parts, and is the same.
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
fn a_set_in_s3_is_the_local_one() {
    in_s3("a_set_in_s3_is_the_local_one", is_the_local_set);
}

#[test]
fn a_set_in_azure_is_the_local_one() {
    in_azure("a_set_in_azure_is_the_local_one", is_the_local_set);
}

/// The machine changes with each kill, and nothing of the last one's disk is there.
#[test]
fn killed_at_any_moment_and_finished_elsewhere_it_is_the_unbroken_set() {
    let name = "killed_at_any_moment_and_finished_elsewhere_it_is_the_unbroken_set";
    in_s3(name, |bucket| {
        let folder = tempfile::tempdir().unwrap();
        let (root, expected) = unbroken(folder.path());
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
                // Anywhere in what comes after a shard: the next one, its upload, or a note.
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
            assert_eq!(notes(&to), ["job.json", "lease.json"]);
            run(shards("verify").arg(&to), 0);
            kills
        });
        // The next one on a machine removes what the dead left there.
        let (to, scratch) = (set_of(last), scratch_of(last, 0));
        assert!(!is_empty(&scratch));
        run(&mut write(&root, &to, &scratch), 0);
        assert!(is_empty(&scratch));
    });
}

#[test]
fn a_second_writer_of_a_set_in_a_store_is_refused() {
    in_s3("a_second_writer_of_a_set_in_a_store_is_refused", |bucket| {
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

/// A class list, and two sets with one of them, where nothing but URLs is given.
#[test]
fn train_and_val_become_two_sets() {
    in_s3("train_and_val_become_two_sets", |bucket| {
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
