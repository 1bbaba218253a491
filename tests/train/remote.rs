//! Runs, models and features in real S3 and Azure servers: the same as on this machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use understudy_pipelines::store::{Folder, StoreOptions};

use crate::lab::inside::{in_azure, in_s3};
use crate::support::{DEVICE, Outcome, Sandbox};

/// Many more checkpoints than [`N_KILLS`], as some are removed before they are seen.
const SET: [&str; 3] = ["steps=40", "train.save_every=2", "train.log_every=1"];
const LAST: &str = "checkpoints/step-000000040";
const N_KILLS: u64 = 6;
const WEIGHTS: [&str; 3] = ["student", "teacher", "optimizer"];

fn open(url: &str) -> Folder {
    Folder::open(url, &StoreOptions::default()).expect("a folder")
}

fn read(folder: &Folder, path: &str) -> Vec<u8> {
    let bytes = folder.read_large(path).expect("an answer");
    bytes
        .unwrap_or_else(|| panic!("no {}", folder.url_of(path)))
        .to_vec()
}

/// Returns the steps of the complete checkpoints of a run.
fn checkpoints(run: &Folder) -> Vec<u64> {
    let files = run.join("checkpoints").tree().expect("a listing");
    let steps = files
        .iter()
        .filter_map(|(path, _)| path.strip_suffix("/state.json"));
    steps
        .map(|name| name.trim_start_matches("step-").parse().expect("a step"))
        .collect()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_mins(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a new checkpoint. Returns false if the process ended before.
fn wait_for_another(run: &Folder, child: &mut Child, before: Option<u64>) -> bool {
    loop {
        if checkpoints(run).last().copied() > before {
            return true;
        }
        if child.try_wait().expect("a child's state").is_some() {
            return false;
        }
    }
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let outcome = Outcome::of(command.output().expect("the binary runs"));
    assert!(outcome.status.success(), "{command:?}\n{}", outcome.text);
    outcome.text
}

fn understudy(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.args(args).args(["--device", DEVICE]);
    command
}

/// A run that is stopped by a signal, then killed at random, and resumed each time with an empty disk
/// equals the uninterrupted run to the bit. No line of its metrics is lost or repeated.
#[test]
fn killed_run_in_s3_equals_an_uninterrupted_local_run() {
    let name = "remote::killed_run_in_s3_equals_an_uninterrupted_local_run";
    in_s3(name, |bucket| {
        let sandbox = Sandbox::with_images(96);
        let uninterrupted = sandbox.train("uninterrupted", DEVICE, &SET);
        assert!(uninterrupted.status.success(), "{}", uninterrupted.text);

        let url = format!("{bucket}/runs/broken");
        let run = open(&url);
        // A checkpoint of which a killed machine sent only some files.
        let half = "checkpoints/step-000000099/student.safetensors";
        run.write(half, "half").expect("written");
        let machine = |n: u64| {
            let scratch = sandbox.root().join(format!("tmp-{n}"));
            std::fs::create_dir_all(&scratch).expect("a folder");
            let mut command = sandbox.train_command(&url, DEVICE, &SET);
            command.env("TMPDIR", scratch);
            command
        };

        let mut child = machine(0).spawn().expect("started");
        assert!(wait_for_another(&run, &mut child, None), "it ended early");
        let stopped = Command::new("kill").arg(child.id().to_string()).status();
        assert!(stopped.expect("`kill` is there").success());
        assert_eq!(child.wait().expect("gone").code(), Some(130));
        assert_eq!(run.size(half).expect("an answer"), None, "it was removed");

        let mut kills = 0;
        loop {
            let before = checkpoints(&run).last().copied();
            let mut child = machine(1 + kills).spawn().expect("started");
            if kills == N_KILLS || !wait_for_another(&run, &mut child, before) {
                assert!(child.wait().expect("gone").success());
                break;
            }
            // In a step, or anywhere in the next checkpoint.
            let moment = kills.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
            std::thread::sleep(Duration::from_millis(moment));
            child.kill().expect("killed");
            if child.wait().expect("gone").success() {
                break;
            }
            kills += 1;
        }
        println!("{kills} kills");
        assert!(kills >= 3, "only {kills} kills");

        for file in WEIGHTS {
            let name = format!("{LAST}/{file}.safetensors");
            let here =
                std::fs::read(sandbox.run("uninterrupted").join(&name)).expect("a checkpoint");
            assert!(read(&run, &name) == here, "{file} differs");
        }
        // A machine that was killed between its last checkpoint and the removal of an old one leaves
        // one more.
        let kept = checkpoints(&run);
        assert!(kept.ends_with(&[38, 40]) && kept.len() <= 3, "{kept:?}");
        let pieces = run.join("metrics").files().expect("a listing");
        let lines: String = pieces
            .iter()
            .map(|(name, _)| String::from_utf8(read(&run.join("metrics"), name)).expect("text"))
            .collect();
        let steps = lines.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            line["step"].as_u64().expect("a step")
        });
        assert_eq!(steps.collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        assert_eq!(
            read(&run, "config.toml"),
            read(&run, &format!("{LAST}/config.toml"))
        );
    });
}

#[test]
fn run_in_s3_works_like_a_local_run() {
    in_s3(
        "remote::run_in_s3_works_like_a_local_run",
        works_like_a_local_run,
    );
}

#[test]
fn run_in_azure_works_like_a_local_run() {
    in_azure(
        "remote::run_in_azure_works_like_a_local_run",
        works_like_a_local_run,
    );
}

/// Evaluates, embeds and exports a run at a URL, and starts other runs from it.
fn works_like_a_local_run(bucket: &str) {
    let sandbox = Sandbox::with_images(300);
    let url = format!("{bucket}/run");
    let trained = sandbox.train(&url, DEVICE, &["steps=3"]);
    assert!(trained.status.success(), "{}", trained.text);
    let run = open(&url);
    let set = |name: &str| sandbox.root().join("set").join(name).display().to_string();

    let val = format!("data.val={}", set("val"));
    let table = succeeds(&mut understudy(&["evaluate", &url, "--set", &val]));
    assert!(
        table.contains("teacher") && table.contains("untrained"),
        "{table}"
    );
    read(&run, "evaluate-step-000000003-teacher.json");

    features_are_the_same(bucket, &sandbox, &url, &set("train"));

    let exported = sandbox.root().join("exported");
    let mut export = Command::new(env!("CARGO_BIN_EXE_understudy"));
    succeeds(export.args(["export", &url, "--to"]).arg(&exported));
    let exported = understudy::checkpoint::safetensors::read(&exported.join("model.safetensors"));
    let name = "checkpoints/step-000000003";
    let student =
        understudy::checkpoint::safetensors::read_in(&run.join(name), "student.safetensors");
    assert_eq!(exported.expect("tensors"), student.expect("tensors"));

    // A warm start with its student.
    let init = format!("init={url}");
    let warm = sandbox.train("warm", DEVICE, &[&init, "steps=3", "optim.lr=1e-30"]);
    assert!(warm.status.success(), "{}", warm.text);
    let name = "step-000000003/student.safetensors";
    let warm =
        understudy::checkpoint::safetensors::read(&sandbox.run("warm/checkpoints").join(name));
    let student_of_run = run.join("checkpoints/step-000000003");
    let student_of_run =
        understudy::checkpoint::safetensors::read_in(&student_of_run, "student.safetensors");
    let (warm, student_of_run) = (warm.expect("tensors"), student_of_run.expect("tensors"));
    let weight = "encoder.blocks.0.attn.qkv.weight";
    assert_eq!(warm[weight], student_of_run[weight]);

    // A local run resumes from its checkpoint, and its own config.toml resumes it there.
    let elsewhere = sandbox
        .command("here", DEVICE, &["steps=4"])
        .args(["--resume", &url, "--allow", "optim"])
        .output();
    let elsewhere = Outcome::of(elsewhere.expect("the binary runs"));
    assert!(
        elsewhere.text.contains("resuming from step 3"),
        "{}",
        elsewhere.text
    );
    let config = format!("{url}/config.toml");
    let further = ["train", &config, "--set", "steps=4", "--allow", "optim"];
    let further = succeeds(&mut understudy(&further));
    assert!(further.contains("resuming from step 3"), "{further}");
    for file in WEIGHTS {
        let name = format!("checkpoints/step-000000004/{file}.safetensors");
        let here = std::fs::read(sandbox.run("here").join(&name)).expect("a checkpoint");
        assert!(read(&run, &name) == here, "{file} differs");
    }

    // One process at a time, and never over checkpoints.
    let again = sandbox
        .command(&url, DEVICE, &[])
        .args(["--resume", "never"])
        .output();
    let again = Outcome::of(again.expect("the binary runs"));
    assert!(
        again.text.contains("already has checkpoints"),
        "{}",
        again.text
    );
    let other = run.lease("lock").expect("nobody trains it");
    let refused = sandbox.train(&url, DEVICE, &["steps=5"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.text.contains("another process is training"),
        "{}",
        refused.text
    );
    drop(other);
    lost_lease_ends_a_run(&sandbox, &format!("{bucket}/lost"));

    let missing = Outcome::of(
        understudy(&["evaluate", &format!("{bucket}/none")])
            .output()
            .expect("it runs"),
    );
    assert!(
        missing.text.contains("no checkpoint found"),
        "{}",
        missing.text
    );
}

/// Checks that a trainer saves nothing more after another process took its lease.
fn lost_lease_ends_a_run(sandbox: &Sandbox, url: &str) {
    let set = ["steps=100000", "train.save_every=1"];
    let log = sandbox.root().join("log");
    let errors = std::fs::File::create(&log).expect("a log file");
    let mut child = sandbox.command(url, DEVICE, &set);
    let child = child.stdout(Stdio::null()).stderr(errors);
    let mut child = child.spawn().expect("started");
    let run = open(url);
    wait_for("no checkpoint", || !checkpoints(&run).is_empty());
    let other = r#"{"host": "elsewhere", "pid": 7, "expires": 4000000000, "machine": "another",
        "taken_nanos": 1, "renewed_nanos": 1}"#;
    let start = Instant::now();
    let status = loop {
        // A renewal in progress may overwrite it; a released lease is empty.
        let lock = read(&run, "lock");
        if !lock.is_empty() && lock != other.as_bytes() {
            run.write("lock", other).expect("written");
        }
        if let Some(status) = child.try_wait().expect("a child's state") {
            break status;
        }
        if start.elapsed() > Duration::from_mins(5) {
            child.kill().expect("killed");
            break child.wait().expect("gone");
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let log = std::fs::read_to_string(log).expect("a log file");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("process 7 on elsewhere"), "{log}");
    assert_eq!(
        read(&run, "lock"),
        other.as_bytes(),
        "the lease of the other process was changed"
    );
}

/// Checks that features written to the store, with a kill, equal those written locally.
fn features_are_the_same(bucket: &str, sandbox: &Sandbox, model: &str, set: &str) {
    let here = sandbox.root().join("features").display().to_string();
    let there = format!("{bucket}/features");
    let embed = |to: &str| {
        let mut command = understudy(&["embed", model, set, "--to", to, "--shard-bytes", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    succeeds(&mut embed(&here));
    let mut child = embed(&there).spawn().expect("started");
    let first = open(&there);
    wait_for("no first shard", || {
        first
            .size("features-00000.parquet")
            .expect("an answer")
            .is_some()
    });
    child.kill().expect("killed");
    child.wait().expect("gone");
    succeeds(&mut embed(&there));
    let manifest = std::fs::read(Path::new(&here).join("manifest.json")).expect("a manifest");
    assert!(read(&first, "manifest.json") == manifest, "other hashes");
    let shard = std::fs::read(Path::new(&here).join("features-00001.parquet")).expect("a shard");
    assert!(read(&first, "features-00001.parquet") == shard);
}
