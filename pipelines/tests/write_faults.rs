//! `shards write` when it is killed, stopped, raced, or out of disk space: no sample is lost or doubled.

mod corpus;
#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corpus::{jpeg, run, shards, until_killed};

/// Sizes so small that a few hundred images give many shards.
const SMALL: [&str; 4] = ["--shard-bytes", "128KiB", "--row-group-bytes", "64KiB"];
const N_IMAGES: u32 = 1200;

/// Writes images of some kilobytes and a few bad ones, so that the quarantine file is resumed too.
fn corpus(root: &Path) {
    corpus::class_folders(root, &["a", "b", "c"], N_IMAGES / 3);
    for (class, i) in [("a", 5), ("a", 300), ("b", 77), ("b", 78), ("c", 399)] {
        let path = root.join(format!("{class}/{i:03}.jpg"));
        fs::write(path, &jpeg(1)[..200]).expect("written");
    }
}

fn write(root: &Path, to: &Path) -> Command {
    let mut command = shards("write");
    command
        .arg(root)
        .arg("--to")
        .arg(to)
        .args(SMALL)
        .args(["--threads", "2"]);
    command
}

fn spawn(root: &Path, to: &Path) -> Child {
    write(root, to)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it works")
}

/// Reads every file of a dataset, without the journal.
fn files(set: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(set)
        .expect("it works")
        .map(|entry| entry.expect("it works").path())
        .filter(|path| path.is_file())
        .map(|path| {
            (
                path.strip_prefix(set).expect("it works").to_owned(),
                fs::read(&path).expect("it works"),
            )
        })
        .collect();
    files.sort();
    files
}

/// Writes a dataset without interruption.
fn uninterrupted(folder: &Path) -> (PathBuf, Vec<(PathBuf, Vec<u8>)>) {
    let root = folder.join("in");
    corpus(&root);
    let to = folder.join("uninterrupted");
    let out = run(&mut write(&root, &to), 0);
    assert!(
        out.contains("1195 rows") && out.contains("5 bad samples"),
        "{out}"
    );
    let files = files(&to);
    assert!(files.len() > 8, "several shards: {}", files.len());
    (root, files)
}

fn finished_shards(set: &Path) -> usize {
    if set.exists() {
        corpus::shard_files(set).len()
    } else {
        0
    }
}

#[test]
fn killed_and_resumed_image_dataset_is_identical() {
    let folder = tempfile::tempdir().unwrap();
    let (root, expected) = uninterrupted(folder.path());
    until_killed(2, |attempt| {
        let to = folder.path().join(format!("killed-{attempt}"));
        let mut kills = 0;
        // Each run is killed as soon as it has finished one more shard, until one ends by itself.
        for _ in 0..100 {
            let before = finished_shards(&to);
            let mut child = spawn(&root, &to);
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                if finished_shards(&to) > before {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
                std::thread::yield_now();
            };
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9));
            kills += 1;
            let refused = run(
                shards("verify").arg(&to),
                i32::from(!to.join("manifest.json").exists()),
            );
            assert!(
                refused.contains("not finished") || to.join("manifest.json").exists(),
                "{refused}"
            );
        }
        assert_eq!(files(&to), expected);
        run(shards("verify").arg(&to), 0);
        kills
    });
}

#[test]
fn interrupted_write_exits_130_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (root, expected) = uninterrupted(folder.path());
    until_killed(1, |attempt| {
        let to = folder.path().join(format!("stopped-{attempt}"));
        let mut stops = 0;
        for _ in 0..50 {
            let before = finished_shards(&to);
            let mut child = spawn(&root, &to);
            while child.try_wait().unwrap().is_none() && finished_shards(&to) == before {
                std::thread::yield_now();
            }
            Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .output()
                .unwrap();
            match child.wait().unwrap().code() {
                Some(0) => break,
                code => assert_eq!(code, Some(130)),
            }
            stops += 1;
        }
        assert_eq!(files(&to), expected);
        stops
    });
}

#[test]
fn resume_rejects_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    corpus::class_folders(&root, &["a"], 3);
    let to = folder.path().join("out");
    run(&mut write(&root, &to), 0);
    let error = run(write(&root, &to).args(["--resize-short", "8"]), 2);
    assert!(error.contains("settings differ: --resize-short"), "{error}");
    let error = run(write(&root, &to).args(["--columns", "label="]), 2);
    assert!(error.contains("settings differ: --columns"), "{error}");
    fs::write(root.join("a/new.jpg"), jpeg(9)).unwrap();
    let error = run(&mut write(&root, &to), 2);
    assert!(error.contains("settings differ: source"), "{error}");

    let foreign = folder.path().join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("x.parquet"), "x").unwrap();
    let error = run(&mut write(&root, &foreign), 2);
    assert!(error.contains("did not write"), "{error}");
}

#[test]
fn lost_shards_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (root, expected) = uninterrupted(folder.path());
    let complete = folder.path().join("uninterrupted");
    fs::remove_file(complete.join("shard-00001.parquet")).unwrap();
    let out = run(&mut write(&root, &complete), 0);
    assert!(
        out.contains("missing or changed: shard-00001.parquet"),
        "{out}"
    );
    assert_eq!(files(&complete), expected);

    // A shard or the quarantine file is damaged between two kills.
    for lost in ["shard-00002.parquet", "quarantine.jsonl"] {
        until_killed(2, |attempt| {
            let to = folder.path().join(format!("lost {lost} {attempt}"));
            let is_killed_at = |n_shards: usize| {
                let mut child = spawn(&root, &to);
                while child.try_wait().unwrap().is_none() && finished_shards(&to) < n_shards {
                    std::thread::yield_now();
                }
                child.kill().unwrap();
                child.wait().unwrap();
                !to.join("manifest.json").exists()
            };
            if !is_killed_at(4) {
                return 0;
            }
            fs::write(to.join(lost), "").unwrap();
            let kills = 1 + u32::from(is_killed_at(5));
            run(&mut write(&root, &to), 0);
            assert_eq!(files(&to), expected, "after {lost}");
            kills
        });
    }
}

#[test]
fn second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    corpus::class_folders(&root, &["a"], 3);
    let to = folder.path().join("out");
    fs::create_dir_all(to.join(".write")).unwrap();
    // The first writer, which has just started.
    let lease = fs::File::create(to.join(".write/lease.json")).unwrap();
    lease.lock().unwrap();
    let error = run(&mut write(&root, &to), 1);
    assert!(error.contains("another process is writing"), "{error}");
    assert!(corpus::shard_files(&to).is_empty());
    drop(lease);
    run(&mut write(&root, &to), 0);
}

#[test]
fn full_disk_is_reported_and_write_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (root, expected) = uninterrupted(folder.path());
    let disk = folder.path().join("disk");
    fs::create_dir_all(&disk).unwrap();
    let mount = |size: &str| {
        let options = ["-t", "tmpfs", "-o", size, "tmpfs"];
        Command::new("mount")
            .args(options)
            .arg(&disk)
            .stderr(Stdio::null())
            .status()
    };
    if !mount("size=400k").is_ok_and(|status| status.success()) {
        return limited_file_size(&root, folder.path(), &expected);
    }
    let to = disk.join("set");
    let error = run(&mut write(&root, &to), 1);
    let resized = mount("remount,size=64m");
    let shards_then = finished_shards(&to);
    let out = run(&mut write(&root, &to), 0);
    let found = files(&to);
    Command::new("umount").arg(&disk).status().unwrap();
    assert!(resized.is_ok_and(|status| status.success()));
    assert!(
        error.contains("No space left") && error.contains("free space"),
        "{error}"
    );
    assert!(
        shards_then >= 1 && out.contains("resumed after"),
        "{shards_then} {out}"
    );
    assert_eq!(found, expected);
}

/// Tests with a limit on the size of files where no disk can be mounted: writing fails as on a full
/// disk.
fn limited_file_size(root: &Path, folder: &Path, expected: &[(PathBuf, Vec<u8>)]) {
    let to = folder.join("limited");
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
    let mut limited = Command::new("sh");
    let inner = write(root, &to);
    limited
        .args(["-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let error = run(&mut limited, 1);
    assert!(
        error.contains("File too large") && error.contains("free space"),
        "{error}"
    );
    assert_eq!(finished_shards(&to), 0);
    run(&mut write(root, &to), 0);
    assert_eq!(files(&to), expected);
}

#[test]
fn memory_is_independent_of_corpus_size() {
    let status = Path::new("/proc/self/status");
    if !status.exists() {
        skip("proc", "no /proc to read a process's memory from");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one.png");
    // A megabyte of noise, hard-linked n times.
    let noise: Vec<u8> = (0..600 * 600 * 3u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (i.wrapping_mul(40_503) >> 7) as u8)
        .collect();
    image::save_buffer(&one, &noise, 600, 600, image::ExtendedColorType::Rgb8).unwrap();
    let peak = |n: usize| {
        let root = folder.path().join(format!("in{n}"));
        fs::create_dir_all(root.join("a")).unwrap();
        for i in 0..n {
            fs::hard_link(&one, root.join(format!("a/{i:04}.png"))).unwrap();
        }
        let to = folder.path().join(format!("out{n}"));
        let mut child = shards("write")
            .args([
                "--check",
                "header",
                "--shard-bytes",
                "32MiB",
                "--threads",
                "2",
            ])
            .arg(&root)
            .arg("--to")
            .arg(&to)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let status = status.unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kib.unwrap_or(0));
        }
        assert!(child.wait().unwrap().success());
        fs::remove_dir_all(&to).unwrap();
        peak / 1024
    };
    let size = fs::metadata(&one).unwrap().len() >> 10;
    let (small, large) = (peak(150), peak(600));
    println!("images of {size} KiB: 150 take {small} MiB, 600 take {large} MiB");
    // Holding the images of the larger corpus in memory would take some 450 MiB more.
    assert!(
        large < small + 100,
        "150 images take {small} MiB, 600 take {large} MiB"
    );
}
