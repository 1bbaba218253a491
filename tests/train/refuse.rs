//! Errors of a run: what is refused, and the messages.

use std::time::{Duration, Instant};

use crate::support::{self, DEVICE, Sandbox};

#[test]
fn resume_rejects_other_config_and_other_dataset() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("run", DEVICE, &["steps=5", "train.save_every=5"]);
    assert!(first.status.success(), "{}", first.text);

    let other = sandbox.train("run", DEVICE, &["optim.lr=0.5", "optim.betas=[0.8, 0.9]"]);
    assert_eq!(other.status.code(), Some(1));
    for key in ["optim.lr", "optim.betas"] {
        assert!(other.text.contains(key), "{}", other.text);
    }

    let data = sandbox.write_images("other", 80);
    let other = sandbox.train_longer("run", DEVICE, &[&format!("data.train={}", data.display())]);
    assert_eq!(other.status.code(), Some(1));
    assert!(other.text.contains("other data"), "{}", other.text);

    let never = sandbox
        .command("run", DEVICE, &[])
        .args(["--resume", "never"])
        .output();
    let never = support::Outcome::of(never.expect("run"));
    assert_eq!(never.status.code(), Some(1));
    assert!(never.text.contains("--resume auto"), "{}", never.text);

    // A copy of the dataset is the same data; other thread counts are allowed with a warning.
    let copy = sandbox.copy_set("copy");
    let set = [
        format!("data.train={}", copy.display()),
        "threads.compute=1".to_owned(),
    ];
    let resumed = sandbox.train_longer("run", DEVICE, &[&set[0], &set[1]]);
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(resumed.text.contains("threads.compute"), "{}", resumed.text);
}

/// After a divergence: another rate, and the steps that broke the run left out.
#[test]
fn resume_with_another_optimizer_needs_the_flag_and_keeps_the_moments() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("run", DEVICE, &["steps=5", "train.save_every=5"]);
    assert!(first.status.success(), "{}", first.text);
    let set = [
        "optim.lr=1e-30",
        "optim.weight_decay=0.0",
        "train.log_every=1",
    ];
    let refused = sandbox.train("run", DEVICE, &set);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
    for said in [
        "optim.lr: ",
        "steps: 5 → 10",
        "next step: ",
        "hint: --allow optim",
    ] {
        assert!(refused.text.contains(said), "{}", refused.text);
    }

    let output = sandbox
        .command("other", DEVICE, &set)
        .arg("--resume")
        .arg(sandbox.run("run"))
        .args(["--allow", "optim", "--skip-to", "8"])
        .output();
    let resumed = support::Outcome::of(output.expect("run"));
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(
        resumed.text.contains("steps 6 to 8 are left out"),
        "{}",
        resumed.text
    );
    let steps: Vec<_> = support::run_lines(&sandbox.run("other"))
        .iter()
        .map(|line| line["step"].as_u64())
        .collect();
    assert_eq!(steps, [Some(9), Some(10)]);
    // At a rate of almost zero the student stays, and moments go on from those of the checkpoint.
    let read = |path: &str| {
        understudy::checkpoint::safetensors::read(&sandbox.root().join(path)).expect("tensors")
    };
    let [before, after] = [
        "run/checkpoints/step-000000005",
        "other/checkpoints/step-000000010",
    ]
    .map(|folder| {
        ["student", "optimizer"].map(|file| read(&format!("{folder}/{file}.safetensors")))
    });
    assert!(before[0] == after[0], "the student moved");
    let moment = |tensors: &understudy::checkpoint::safetensors::Tensors| {
        let v = &tensors["encoder.blocks.0.attn.qkv.weight.v"];
        v.iter::<f32>().map(f64::from).sum::<f64>()
    };
    // Two updates with beta2 keep at least its square.
    assert!(moment(&after[1]) > 0.9 * moment(&before[1]));

    let output = sandbox
        .command("fresh", DEVICE, &[])
        .args(["--skip-to", "8"])
        .output();
    let refused = support::Outcome::of(output.expect("run"));
    assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
    assert!(
        refused.text.contains("cannot skip to step 8"),
        "{}",
        refused.text
    );
}

#[test]
fn resume_of_a_mixture_accepts_copies_and_rejects_other_weights() {
    let sandbox = Sandbox::with_images(96);
    let sets = [sandbox.copy_set("a"), sandbox.write_images("b", 80)];
    let mix = |sets: &[std::path::PathBuf; 2], weight: &str| {
        let [a, b] = sets.each_ref().map(|set| set.display().to_string());
        format!(r#"data.train=[{{set="{a}", weight=2.0}}, {{set="{b}", weight={weight}}}]"#)
    };
    let first = sandbox.train("run", DEVICE, &["steps=3", &mix(&sets, "1.0")]);
    assert!(first.status.success(), "{}", first.text);

    let other = sandbox.train("run", DEVICE, &["steps=4", &mix(&sets, "3.0")]);
    assert_eq!(other.status.code(), Some(1));
    let named = "data.train[1].weight: 1.0 → 3.0";
    assert!(other.text.contains(named), "{}", other.text);
    let one = format!("data.train={}", sets[0].display());
    let other = sandbox.train("run", DEVICE, &["steps=4", &one]);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        other.text.contains("data.train[0].weight"),
        "{}",
        other.text
    );
    let swapped = [sets[1].clone(), sets[1].clone()];
    let other = sandbox.train_longer("run", DEVICE, &["steps=4", &mix(&swapped, "1.0")]);
    assert_eq!(other.status.code(), Some(1));
    assert!(other.text.contains("other data"), "{}", other.text);

    let copies = [sandbox.copy_set("c"), sets[1].clone()];
    let resumed = sandbox.train_longer("run", DEVICE, &["steps=4", &mix(&copies, "1.0")]);
    assert!(resumed.status.success(), "{}", resumed.text);
    // Evaluation needs one dataset.
    let evaluated = std::process::Command::new(env!("CARGO_BIN_EXE_understudy"))
        .arg("evaluate")
        .arg(sandbox.run("run"))
        .output();
    let evaluated = support::Outcome::of(evaluated.expect("run"));
    assert_eq!(evaluated.status.code(), Some(2), "{}", evaluated.text);
    assert!(
        evaluated
            .text
            .contains("unsupported mixture of datasets: data.train"),
        "{}",
        evaluated.text
    );
}

#[test]
fn second_process_on_the_same_run_is_rejected() {
    let sandbox = Sandbox::with_images(96);
    let mut child = sandbox
        .train_command("run", DEVICE, &["steps=100000"])
        .spawn()
        .expect("started");
    let patience = Instant::now();
    while !sandbox.run("run").join("config.toml").exists() {
        assert!(
            patience.elapsed() < Duration::from_mins(10),
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
fn invalid_input_is_reported_with_its_key() {
    let sandbox = Sandbox::with_images(96);
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

#[test]
fn cause_is_reported_once() {
    let output = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(args)
            .output();
        support::Outcome::of(output.expect("run")).text
    };
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("nosuch");
    let missing = missing.to_str().expect("UTF-8");
    // One message contains its cause, one has a context around it.
    let text = output(&["train", missing]);
    assert_eq!(text.matches("No such file").count(), 1, "{text}");
    let text = output(&["import", missing, "--to", "model"]);
    let expected =
        format!("error: importing {missing}: cannot read or write {missing}: entity not found\n");
    assert_eq!(text, expected);
}

#[test]
fn schedule_longer_than_the_run_is_rejected_at_the_start() {
    let sandbox = Sandbox::with_images(96);
    let schedule = |decay: u64| {
        format!(
            "optim.schedule={{tri_stage={{warmup_steps=1, hold_steps=1, decay_steps={decay}, \
             init_scale=0.1, final_scale=0.1}}}}"
        )
    };
    let set = |decay: u64| {
        let schedule = schedule(decay);
        // Replaces the schedule of the sandbox.
        sandbox.train("run", DEVICE, &["steps=3", &schedule])
    };
    let refused = set(20);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.text);
    assert!(
        refused.text.contains("= 22 is more than steps = 3"),
        "{}",
        refused.text
    );
    let started = set(1);
    assert!(started.status.success(), "{}", started.text);
    // A resumed run may be made longer or shorter.
    let schedule = schedule(1);
    let longer = sandbox.train("run", DEVICE, &["steps=5", &schedule]);
    assert!(longer.status.success(), "{}", longer.text);
}
