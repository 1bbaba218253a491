//! What a run refuses, and in which words.

use std::time::{Duration, Instant};

use crate::support::{self, DEVICE, Sandbox};

#[test]
fn going_on_with_another_config_or_other_data_is_refused() {
    let sandbox = Sandbox::with_pictures(96);
    let first = sandbox.train("run", DEVICE, &["steps=5", "train.save_every=5"]);
    assert!(first.status.success(), "{}", first.text);

    let other = sandbox.train("run", DEVICE, &["optim.lr=0.5", "optim.betas=[0.8, 0.9]"]);
    assert_eq!(other.status.code(), Some(1));
    for key in ["optim.lr", "optim.betas"] {
        assert!(other.text.contains(key), "{}", other.text);
    }

    let data = sandbox.write_pictures("other", 80);
    let other = sandbox.train("run", DEVICE, &[&format!("data.train={}", data.display())]);
    assert_eq!(other.status.code(), Some(1));
    assert!(other.text.contains("other data"), "{}", other.text);

    let never = sandbox
        .command("run", DEVICE, &[])
        .args(["--resume", "never"])
        .output();
    let never = support::Outcome::of(never.expect("run"));
    assert_eq!(never.status.code(), Some(1));
    assert!(never.text.contains("--resume auto"), "{}", never.text);

    // A copy of the set, elsewhere, is the same data; other thread counts are told and allowed.
    let copy = sandbox.copy_set("copy");
    let set = [
        format!("data.train={}", copy.display()),
        "threads.compute=1".to_owned(),
    ];
    let resumed = sandbox.train("run", DEVICE, &[&set[0], &set[1]]);
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(resumed.text.contains("threads.compute"), "{}", resumed.text);
}

#[test]
fn a_second_process_on_the_same_run_is_refused() {
    let sandbox = Sandbox::with_pictures(96);
    let mut child = sandbox
        .train_command("run", DEVICE, &["steps=100000"])
        .spawn()
        .expect("started");
    let patience = Instant::now();
    while !sandbox.run("run").join("config.toml").exists() {
        assert!(
            patience.elapsed() < Duration::from_mins(2),
            "the first did not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = sandbox.train("run", DEVICE, &[]);
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(second.status.code(), Some(1));
    assert!(second.text.contains("another process"), "{}", second.text);
}

#[test]
fn bad_input_is_told_clearly() {
    let sandbox = Sandbox::with_pictures(96);
    let missing = sandbox.train("a", DEVICE, &["data.train=/no/such/folder"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.text.contains("/no/such/folder"), "{}", missing.text);
    let mistakes = ["steps=0", "data.batch=7", "optim.lr=-1.0"];
    let invalid = sandbox.train("b", DEVICE, &mistakes);
    assert_eq!(invalid.status.code(), Some(2));
    for key in ["steps:", "data.lanes:", "optim.lr:"] {
        assert!(invalid.text.contains(key), "{}", invalid.text);
    }
    let tight = sandbox.train("c", DEVICE, &["data.memory=64KiB"]);
    assert_eq!(tight.status.code(), Some(1));
    assert!(tight.text.contains("memory"), "{}", tight.text);
}
