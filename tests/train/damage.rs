//! Checkpoints damaged by a copy or a disk.

use std::fs;

use crate::support::{DEVICE, Sandbox};

#[test]
fn incomplete_checkpoint_is_ignored() {
    let sandbox = Sandbox::with_images(96);
    let set = ["steps=4", "train.save_every=2"];
    let first = sandbox.train("run", DEVICE, &set);
    assert!(first.status.success(), "{}", first.text);
    let checkpoints = sandbox.run("run").join("checkpoints");
    let last = checkpoints.join("step-000000004");
    let before = fs::read(last.join("student.safetensors")).expect("weights");
    fs::remove_file(last.join("state.json")).expect("removed");
    fs::create_dir(checkpoints.join("step-000000099")).expect("a folder");

    let again = sandbox.train("run", DEVICE, &set);
    assert!(again.status.success(), "{}", again.text);
    let ignored = "step-000000004 has no state.json";
    assert!(
        again.text.contains("incomplete checkpoint is ignored"),
        "{}",
        again.text
    );
    assert!(again.text.contains(ignored), "{}", again.text);
    assert!(
        again.text.contains("resuming from step 2"),
        "{}",
        again.text
    );
    let after = fs::read(last.join("student.safetensors")).expect("weights");
    assert!(after == before, "the same steps gave other weights");
}

#[test]
fn run_with_only_an_incomplete_checkpoint_does_not_restart() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("run", DEVICE, &["steps=3"]);
    assert!(first.status.success(), "{}", first.text);
    let run = sandbox.run("run");
    let metrics = fs::read(run.join("metrics.jsonl")).expect("metrics");
    fs::remove_file(run.join("checkpoints/step-000000003/config.toml")).expect("removed");
    let refused = sandbox.train("run", DEVICE, &["steps=4"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
    let reason = "config.toml is missing and no other checkpoint is complete";
    assert!(refused.text.contains(reason), "{}", refused.text);
    assert_eq!(
        fs::read(run.join("metrics.jsonl")).expect("metrics"),
        metrics
    );
}

#[test]
fn damaged_checkpoint_is_named_with_a_hint() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("run", DEVICE, &["steps=4", "train.save_every=2"]);
    assert!(first.status.success(), "{}", first.text);
    let last = sandbox.run("run").join("checkpoints/step-000000004");
    let weights = last.join("teacher.safetensors");
    let bytes = fs::read(&weights).expect("weights");
    fs::write(&weights, &bytes[..bytes.len() / 2]).expect("written");
    let refused = sandbox.train("run", DEVICE, &["steps=6", "train.save_every=2"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
    assert!(
        refused.text.contains("teacher.safetensors")
            && refused
                .text
                .contains("hint: delete it to resume from the previous one"),
        "{}",
        refused.text
    );
    fs::remove_dir_all(&last).expect("removed");
    let resumed = sandbox.train_longer("run", DEVICE, &["steps=6", "train.save_every=2"]);
    assert!(resumed.status.success(), "{}", resumed.text);
}

#[test]
fn directory_with_another_name_than_its_step_is_rejected() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("run", DEVICE, &["steps=4", "train.save_every=2"]);
    assert!(first.status.success(), "{}", first.text);
    let checkpoints = sandbox.run("run").join("checkpoints");
    let renamed = checkpoints.join("step-000000009");
    fs::rename(checkpoints.join("step-000000002"), &renamed).expect("renamed");
    let refused = sandbox.train("run", DEVICE, &["steps=4"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
    for said in [
        "step-000000009",
        "`state.json` says 2",
        "hint: rename it to step-000000002",
    ] {
        assert!(refused.text.contains(said), "{}", refused.text);
    }
    assert!(renamed.exists(), "nothing was removed");
}

#[test]
fn damaged_metrics_do_not_stop_a_resume() {
    let sandbox = Sandbox::with_images(96);
    let set = ["steps=4", "train.log_every=1", "train.save_every=2"];
    let first = sandbox.train("run", DEVICE, &set);
    assert!(first.status.success(), "{}", first.text);
    let run = sandbox.run("run");
    let metrics = run.join("metrics.jsonl");
    let mut bytes = fs::read(&metrics).expect("metrics");
    bytes[3] = 0xff;
    bytes.extend_from_slice(b"{\"step\":5,\"tr");
    fs::write(&metrics, bytes).expect("written");
    fs::remove_dir_all(run.join("checkpoints/step-000000004")).expect("removed");
    let again = sandbox.train("run", DEVICE, &set);
    assert!(again.status.success(), "{}", again.text);
    let steps: Vec<_> = crate::support::run_lines(&run)
        .iter()
        .map(|line| (line["step"].as_u64(), line["time/unix_secs"].is_u64()))
        .collect();
    assert_eq!(steps, [2, 3, 4].map(|step| (Some(step), true)));
}

#[cfg(unix)]
#[test]
fn tensor_files_have_the_permissions_of_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("run", DEVICE, &["steps=3"]);
    assert!(first.status.success(), "{}", first.text);
    let checkpoint = sandbox.run("run").join("checkpoints/step-000000003");
    let rights = |name: &str| {
        let metadata = fs::metadata(checkpoint.join(name)).expect("a file");
        metadata.permissions().mode()
    };
    for name in ["student", "teacher", "optimizer"] {
        assert_eq!(
            rights(&format!("{name}.safetensors")),
            rights("config.toml")
        );
    }
}
