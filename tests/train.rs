//! The binary trains, stops, goes on and refuses, on shards and checkpoints as users have them.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{DEVICE, Sandbox, run_lines};

/// Ten steps in one go, and five, a checkpoint, a kill −9, and five more, are the same to the bit.
#[test]
fn resumed_run_equals_unbroken_run() {
    for device in support::devices() {
        let sandbox = Sandbox::with_pictures(96);
        let whole = sandbox.train("whole", device, &["train.save_every=5"]);
        assert!(whole.status.success(), "{}", whole.text);

        // Killed while it computes a step after the fifth: nothing can be said goodbye to.
        let mut child = sandbox
            .train_command(
                "broken",
                device,
                &["train.save_every=5", "train.log_every=1"],
            )
            .spawn()
            .expect("started");
        let saved = sandbox
            .run("broken")
            .join("checkpoints/step-000000005/state.json");
        let patience = Instant::now();
        while !saved.exists() {
            assert!(
                patience.elapsed() < Duration::from_mins(2),
                "no checkpoint on {device}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        let last = sandbox.run("broken").join("checkpoints/step-000000010");
        assert!(!last.exists(), "the run was over before it was killed");

        let resumed = sandbox.train(
            "broken",
            device,
            &["train.save_every=5", "train.log_every=1"],
        );
        assert!(resumed.status.success(), "{}", resumed.text);
        assert!(
            resumed.text.contains("going on from step 5"),
            "{}",
            resumed.text
        );
        for file in ["student", "teacher", "optimizer"] {
            let name = format!("checkpoints/step-000000010/{file}.safetensors");
            let [a, b] = ["whole", "broken"]
                .map(|run| std::fs::read(sandbox.run(run).join(&name)).expect("a last checkpoint"));
            assert!(a == b, "{file} differs after a resume on {device}");
        }
        // Each step is logged once, though some were computed twice.
        let steps: Vec<u64> = run_lines(&sandbox.run("broken"))
            .iter()
            .map(|line| line["step"].as_u64().expect("a step"))
            .collect();
        assert_eq!(steps, (1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn a_signal_saves_and_exits_130_and_the_run_goes_on() {
    let sandbox = Sandbox::with_pictures(96);
    let set = ["train.log_every=1", "steps=100000"];
    let mut child = sandbox
        .train_command("run", DEVICE, &set)
        .spawn()
        .expect("started");
    let metrics = sandbox.run("run").join("metrics.jsonl");
    let patience = Instant::now();
    while std::fs::read_to_string(&metrics)
        .unwrap_or_default()
        .lines()
        .count()
        < 2
    {
        assert!(
            patience.elapsed() < Duration::from_mins(2),
            "no step was logged"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    let status = child.wait().expect("ended");
    assert_eq!(status.code(), Some(130));
    let checkpoints = std::fs::read_dir(sandbox.run("run").join("checkpoints")).expect("saved");
    assert_eq!(checkpoints.count(), 1);
    let done = run_lines(&sandbox.run("run")).len();
    let more = format!("steps={}", done + 2);
    let resumed = sandbox.train("run", DEVICE, &["train.log_every=1", &more]);
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(
        resumed.text.contains("going on from step"),
        "{}",
        resumed.text
    );
    assert_eq!(run_lines(&sandbox.run("run")).len(), done + 2);
}

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
fn a_new_run_starts_from_anothers_student() {
    let sandbox = Sandbox::with_pictures(96);
    let first = sandbox.train("first", DEVICE, &["steps=5"]);
    assert!(first.status.success(), "{}", first.text);
    let init = format!("init={}", sandbox.run("first").display());
    // A rate of almost nothing leaves the student where it started.
    let second = sandbox.train("second", DEVICE, &[&init, "steps=4", "optim.lr=1e-30"]);
    assert!(second.status.success(), "{}", second.text);
    let read = |path: &str| {
        understudy::weights::read(&sandbox.root().join(path)).expect("a checkpoint's tensors")
    };
    let student = read("first/checkpoints/step-000000005/student.safetensors");
    let teacher = read("second/checkpoints/step-000000004/teacher.safetensors");
    assert!(!teacher.is_empty());
    for (name, tensor) in &teacher {
        // The teacher's updates round, though both sides of its average are equal.
        let values = student[name].iter::<f32>().zip(tensor.iter::<f32>());
        for (expected, found) in values {
            let slack = 1e-5 * expected.abs() + 1e-7;
            assert!(
                (found - expected).abs() <= slack,
                "{name}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn a_run_that_diverges_exits_3_and_saves_nothing_bad() {
    let sandbox = Sandbox::with_pictures(96);
    let set = [
        "optim.lr=1e30",
        "train.log_every=1",
        "train.save_every=1",
        "optim.weight_decay=0.0",
        "steps=50",
    ];
    let outcome = sandbox.train("run", DEVICE, &set);
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.text);
    assert!(
        outcome.text.contains("diverged at step"),
        "{}",
        outcome.text
    );
    let mut n_tensors = 0;
    for entry in std::fs::read_dir(sandbox.run("run").join("checkpoints")).expect("saved") {
        let path = entry.expect("an entry").path();
        for file in ["student", "teacher", "optimizer"] {
            let path = path.join(format!("{file}.safetensors"));
            for (name, tensor) in understudy::weights::read(&path).expect("tensors") {
                assert!(tensor.iter::<f32>().all(f32::is_finite), "{name}");
                n_tensors += 1;
            }
        }
    }
    assert!(n_tensors > 0, "nothing was saved before the run diverged");
}

#[test]
fn a_collapse_exits_3_and_names_its_limit() {
    let sandbox = Sandbox::with_pictures(96);
    let set = [
        "guard.from_step=3",
        "guard.min_pred_var=1000.0",
        "train.log_every=1",
    ];
    let outcome = sandbox.train("run", DEVICE, &set);
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.text);
    assert!(
        outcome.text.contains("guard.min_pred_var"),
        "{}",
        outcome.text
    );
}

#[test]
fn only_the_newest_two_and_the_kept_checkpoints_stay() {
    let sandbox = Sandbox::with_pictures(96);
    let set = ["train.save_every=1", "train.keep_every_steps=4"];
    let outcome = sandbox.train("run", DEVICE, &set);
    assert!(outcome.status.success(), "{}", outcome.text);
    let mut steps: Vec<_> = std::fs::read_dir(sandbox.run("run").join("checkpoints"))
        .expect("saved")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    steps.sort();
    let expected = [4, 8, 9, 10].map(|step| format!("step-{step:09}"));
    assert_eq!(steps, expected);
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
