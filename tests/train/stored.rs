//! Runs that an earlier release stored still load, resume and give the same losses.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{DEVICE, Outcome, run_lines};

/// Largest relative difference between a loss of the earlier release and of this one.
const TOLERANCE: f64 = 1e-4;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// Runs a command of the binary in `folder`.
fn run(folder: &Path, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .args(["--device", DEVICE])
        .current_dir(folder)
        .output();
    let outcome = Outcome::of(output.expect("the binary runs"));
    assert!(outcome.status.success(), "{arguments:?}: {}", outcome.text);
}

fn stored_run_resumes_and_embeds(modality: &str) {
    let root = tempfile::tempdir().expect("a folder");
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/fixtures/stored");
    copy(&stored, root.path());
    let folder = root.path().join(modality);

    run(&folder, &["embed", "run", "dataset", "--to", "features"]);
    run(&folder, &["train", "run/config.toml"]);
    let lines = run_lines(&folder.join("run"));
    let steps: Vec<&Value> = lines.iter().map(|line| &line["step"]).collect();
    assert_eq!(steps, [1, 2, 3, 4], "{modality}: resumed after step 2");
    if DEVICE != "cpu" {
        // Another backend draws other noise.
        return;
    }
    // The earlier release measured this of the last micro-batch; only images have one per step.
    let target_var = (modality == "image").then_some("train/target_var");
    let metrics = ["train/loss", "train/grad_norm"]
        .into_iter()
        .chain(target_var);
    let expected = fs::read_to_string(folder.join("expected.jsonl")).expect("metrics");
    for (line, expected) in lines[2..].iter().zip(expected.lines()) {
        let expected: Value = serde_json::from_str(expected).expect("a line of JSON");
        for metric in metrics.clone() {
            let of = |line: &Value| line[metric].as_f64().expect("a number");
            let (new, old) = (of(line), of(&expected));
            assert!(
                (new - old).abs() <= TOLERANCE * old.abs(),
                "{modality}: {metric} is {new}, was {old}"
            );
        }
    }
}

#[test]
fn stored_image_run_resumes_with_the_same_losses() {
    stored_run_resumes_and_embeds("image");
}

#[test]
fn stored_audio_run_resumes_with_the_same_losses() {
    stored_run_resumes_and_embeds("audio");
}

#[test]
fn stored_text_run_resumes_with_the_same_losses() {
    stored_run_resumes_and_embeds("text");
}
