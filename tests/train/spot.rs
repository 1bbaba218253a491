//! Spot machines that are killed, and stores with outages.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use understudy_pipelines::write::{
    Check, Encode, EncodeOptions, ImageOptions, WriteOptions, write,
};

use crate::server::Server;
use crate::support::{DEVICE, Outcome, Sandbox, run_lines, wait_for_steps};

/// Six batches.
const N_IMAGES: usize = 96;
const N_KILLS: usize = 20;
const N_STEPS: usize = 63;
const SET: [&str; 4] = [
    "steps=63",
    "train.log_every=1",
    "train.save_every=2",
    "data.max_bad_fraction=0.5",
];

/// Kills a run twenty times at random moments. Its parameters at the end equal those of an
/// uninterrupted run to the bit, over ten epochs with one damaged image.
#[test]
fn killed_run_equals_an_uninterrupted_run() {
    let sandbox = Sandbox::with_images(N_IMAGES);
    sandbox.flip_a_bit(7);
    let uninterrupted = sandbox.train("uninterrupted", DEVICE, &SET);
    assert!(uninterrupted.status.success(), "{}", uninterrupted.text);

    let seed = RandomState::new();
    for i in 0..N_KILLS {
        let mut child = sandbox
            .train_command("broken", DEVICE, &SET)
            .spawn()
            .expect("started");
        let draw = seed.hash_one(i);
        // Some steps are left after the last kill: a busy machine does some before the kill arrives.
        let after_step = 1 + i * (N_STEPS - 13) / N_KILLS + (draw % 3) as usize;
        println!("kill {i} at step {after_step} or later");
        wait_for_steps(&sandbox.run("broken"), after_step);
        // Somewhere in a step, a log line or a checkpoint.
        std::thread::sleep(Duration::from_micros((draw >> 8) % 40_000));
        child.kill().expect("killed");
        let status = child.wait().expect("gone");
        assert_eq!(status.code(), None, "it ended before kill {i}");
    }
    let last = sandbox.train("broken", DEVICE, &SET);
    assert!(last.status.success(), "{}", last.text);

    for file in ["student", "teacher", "optimizer"] {
        let name = format!("checkpoints/step-000000063/{file}.safetensors");
        let [a, b] = ["uninterrupted", "broken"]
            .map(|run| std::fs::read(sandbox.run(run).join(&name)).expect("a last checkpoint"));
        assert!(a == b, "{file} differs after {N_KILLS} kills");
    }
    let [a, b] = ["uninterrupted", "broken"].map(|run| run_lines(&sandbox.run(run)));
    assert_eq!(a.len(), N_STEPS);
    for (step, (a, b)) in a.iter().zip(&b).enumerate() {
        let mut keys = vec!["step", "train/loss"];
        // Batches are made ahead of the steps, and a line counts the bad samples known so far: the
        // count is final after an epoch.
        if step >= N_IMAGES / 16 {
            keys.push("data/bad_samples");
        }
        for key in keys {
            assert_eq!(a[key], b[key], "{key} of line {step}");
        }
    }
    assert_eq!(a.len(), b.len(), "a line for each step");
}

/// A signal ends a run at once while it waits for a store that does not answer, and the run resumes
/// from its last step.
#[test]
fn signal_ends_a_run_that_waits_for_data() {
    let sandbox = Sandbox::with_images(96);
    let server = Server::start(sandbox.root());
    write_small_groups(&sandbox);
    let data = format!("data.train={}/groups/train", server.url());
    let set = [
        "train.log_every=1",
        "steps=100000",
        "data.window_chunks=1",
        &data,
    ];
    let child = sandbox
        .train_command("run", DEVICE, &set)
        .spawn()
        .expect("started");
    wait_for_steps(&sandbox.run("run"), 2);
    server.stall();
    wait_for_a_halt(&sandbox);
    assert!(
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .is_ok_and(|status| status.success())
    );
    let ended = child.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(130));
    let done = run_lines(&sandbox.run("run")).len();
    server.answer();
    let more = format!("steps={}", done + 2);
    let resumed = sandbox.train_longer(
        "run",
        DEVICE,
        &["train.log_every=1", "data.window_chunks=1", &more, &data],
    );
    assert!(resumed.status.success(), "{}", resumed.text);
    let from = format!("resuming from step {done}");
    assert!(resumed.text.contains(&from), "{}", resumed.text);
}

/// An outage for longer than `retry_for` ends the run with an error and a checkpoint.
#[test]
fn long_outage_ends_a_run_with_a_checkpoint() {
    let sandbox = Sandbox::with_images(96);
    let server = Server::start(sandbox.root());
    write_small_groups(&sandbox);
    let data = format!("data.train={}/groups/train", server.url());
    let set = [
        "data.window_chunks=1",
        "train.log_every=1",
        "train.save_every=1000000",
        "steps=100000",
        "data.retry_for=10s",
        &data,
    ];
    let child = sandbox
        .command("run", DEVICE, &set)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    wait_for_steps(&sandbox.run("run"), 2);
    server.refuse();
    let ended = Outcome::of(child.wait_with_output().expect("ended"));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.text);
    assert!(ended.text.contains("retry_for"), "{}", ended.text);
    assert!(ended.text.contains("503"), "{}", ended.text);
    let checkpoints = std::fs::read_dir(sandbox.run("run").join("checkpoints")).expect("saved");
    assert_eq!(checkpoints.count(), 1, "{}", ended.text);
}

/// Writes the sandbox's images in row groups of few rows, which are read and dropped all the time.
fn write_small_groups(sandbox: &Sandbox) {
    let options = WriteOptions {
        sources: vec![sandbox.root().join("set-images")],
        to: sandbox.root().join("groups").display().to_string(),
        columns: BTreeMap::new(),
        labels: None,
        encode: EncodeOptions::Image(ImageOptions {
            resize_short: None,
            quality: 90,
            encode: Encode::Keep,
            check: Check::Header,
        }),
        shard_bytes: 1 << 30,
        row_group_bytes: 4 << 10,
        threads: 1,
    };
    write(&options, &mut |_| (), &AtomicBool::new(false)).expect("shards");
}

/// Waits until there are no more steps.
fn wait_for_a_halt(sandbox: &Sandbox) {
    let mut done = 0;
    loop {
        std::thread::sleep(Duration::from_secs(3));
        let now = run_lines(&sandbox.run("run")).len();
        if now == done {
            return;
        }
        done = now;
    }
}
