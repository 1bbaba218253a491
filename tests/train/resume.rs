//! A run that was killed, interrupted or failed resumes with identical results.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use understudy::config::Overrides;

use understudy_pipelines::pipeline::{Options, Pipeline};

use crate::support::{self, DEVICE, Outcome, Sandbox, run_lines, wait_for_steps};

/// Ten steps at once are bit-identical to five, a checkpoint, a kill −9, and five more.
#[test]
fn resumed_run_equals_uninterrupted_run() {
    for device in support::devices() {
        let sandbox = Sandbox::with_images(96);
        let uninterrupted = sandbox.train("uninterrupted", device, &["train.save_every=5"]);
        assert!(uninterrupted.status.success(), "{}", uninterrupted.text);

        // On a busy machine a run may be over before it is killed.
        let broken = (0..5).find_map(|attempt| killed_after_five(&sandbox, device, attempt));
        let broken = broken.expect("a run that was killed before it was over");

        let resumed = sandbox.train(
            &broken,
            device,
            &["train.save_every=5", "train.log_every=1"],
        );
        assert!(resumed.status.success(), "{}", resumed.text);
        assert!(
            resumed.text.contains("resuming from step 5"),
            "{}",
            resumed.text
        );
        for file in ["student", "teacher", "optimizer"] {
            let name = format!("checkpoints/step-000000010/{file}.safetensors");
            let [a, b] = ["uninterrupted", &broken]
                .map(|run| std::fs::read(sandbox.run(run).join(&name)).expect("a last checkpoint"));
            assert!(a == b, "{file} differs after a resume on {device}");
        }
        // Each step is logged once, although some were computed twice.
        let steps: Vec<u64> = run_lines(&sandbox.run(&broken))
            .iter()
            .map(|line| line["step"].as_u64().expect("a step"))
            .collect();
        assert_eq!(steps, (1..=10).collect::<Vec<_>>());
    }
}

/// Starts a run of ten steps and kills it after the fifth. Returns its name; `None` if it had finished
/// before.
fn killed_after_five(sandbox: &Sandbox, device: &str, attempt: usize) -> Option<String> {
    let name = format!("broken-{attempt}");
    let checkpoints = sandbox.run(&name).join("checkpoints");
    let mut child = sandbox
        .train_command(&name, device, &["train.save_every=5", "train.log_every=1"])
        .spawn()
        .expect("started");
    let patience = Instant::now();
    while !checkpoints.join("step-000000005/state.json").exists() {
        assert!(
            patience.elapsed() < Duration::from_mins(10),
            "no checkpoint on {device}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let is_over = checkpoints.join("step-000000010").exists();
    (!is_over).then_some(name)
}

#[test]
fn signal_saves_a_checkpoint_exits_130_and_run_resumes() {
    let sandbox = Sandbox::with_images(96);
    let set = [
        "train.log_every=1",
        "train.save_every=1000000",
        "steps=100000",
    ];
    let mut child = sandbox
        .train_command("run", DEVICE, &set)
        .spawn()
        .expect("started");
    wait_for_steps(&sandbox.run("run"), 2);
    // Twice, as `timeout` and job schedulers do: to the process, and to its group.
    let id = child.id();
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -TERM {id}; kill -TERM {id}")])
        .status();
    assert!(killed.expect("kill runs").success());
    let status = child.wait().expect("ended");
    assert_eq!(status.code(), Some(130));
    let checkpoints = std::fs::read_dir(sandbox.run("run").join("checkpoints")).expect("saved");
    assert_eq!(checkpoints.count(), 1);
    let done = run_lines(&sandbox.run("run")).len();
    let more = format!("steps={}", done + 2);
    let resumed = sandbox.train_longer("run", DEVICE, &["train.log_every=1", &more]);
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(
        resumed.text.contains("resuming from step"),
        "{}",
        resumed.text
    );
    assert_eq!(run_lines(&sandbox.run("run")).len(), done + 2);
}

/// A closed terminal sends SIGHUP, and a job scheduler SIGUSR1 before the end of a job.
#[test]
fn hangup_and_user_signal_save_a_checkpoint_and_exit_130() {
    let sandbox = Sandbox::with_images(96);
    for signal in ["HUP", "USR1"] {
        let set = [
            "train.log_every=1",
            "train.save_every=1000000",
            "steps=100000",
        ];
        // Tests that run under `nohup` ignore SIGHUP, and so would the command.
        let train = sandbox.train_command(signal, DEVICE, &set);
        let mut child = Command::new("env")
            .arg("--default-signal=HUP")
            .arg(train.get_program())
            .args(train.get_args())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        wait_for_steps(&sandbox.run(signal), 2);
        let killed = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        let status = child.wait().expect("ended");
        assert_eq!(status.code(), Some(130), "{signal}");
        let checkpoints =
            std::fs::read_dir(sandbox.run(signal).join("checkpoints")).expect("saved");
        assert_eq!(checkpoints.count(), 1, "{signal}");
    }
}

/// No step count is due: the clock is.
#[test]
fn checkpoint_is_saved_after_save_every_secs() {
    let sandbox = Sandbox::with_images(96);
    let set = [
        "train.save_every=1000000",
        "train.save_every_secs=1",
        "steps=100000",
    ];
    let mut child = sandbox
        .train_command("run", DEVICE, &set)
        .spawn()
        .expect("started");
    let checkpoints = sandbox.run("run").join("checkpoints");
    let patience = Instant::now();
    // The newest two are kept.
    while !std::fs::read_dir(&checkpoints).is_ok_and(|found| found.count() >= 2) {
        assert!(
            patience.elapsed() < Duration::from_mins(10),
            "no checkpoints"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
}

/// Two steps of many micro-batches each.
const LONG_STEPS: [&str; 6] = [
    "steps=2",
    "optim.schedule.cosine.warmup_steps=1",
    "train.log_every=1",
    "data.batch=256",
    "data.lanes=16",
    "train.micro_batches=16",
];

/// A signal ends a step between two micro-batches; the resumed run is bit-identical to an
/// uninterrupted one.
#[test]
fn signal_does_not_wait_for_the_end_of_a_step() {
    let sandbox = Sandbox::with_images(96);
    let uninterrupted = sandbox.train("uninterrupted", DEVICE, &LONG_STEPS);
    assert!(uninterrupted.status.success(), "{}", uninterrupted.text);

    // A run may finish before the signal: then another one is started.
    let broken = (0..5).map(|attempt| format!("broken-{attempt}"));
    let is_broken = |run: &String| {
        let mut child = sandbox
            .train_command(run, DEVICE, &LONG_STEPS)
            .spawn()
            .expect("started");
        wait_for_steps(&sandbox.run(run), 1);
        let killed = Command::new("kill").arg(child.id().to_string()).status();
        assert!(killed.expect("kill runs").success());
        let status = child.wait().expect("ended");
        status.code() == Some(130) && run_lines(&sandbox.run(run)).len() == 1
    };
    let broken = { broken }
        .find(is_broken)
        .expect("five runs finished their step before the signal");

    let resumed = sandbox.train(&broken, DEVICE, &LONG_STEPS);
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(
        resumed.text.contains("resuming from step 1"),
        "{}",
        resumed.text
    );
    for file in ["student", "teacher", "optimizer"] {
        let name = format!("checkpoints/step-000000002/{file}.safetensors");
        let [a, b] = ["uninterrupted", broken.as_str()]
            .map(|run| std::fs::read(sandbox.run(run).join(&name)).expect("a last checkpoint"));
        assert!(a == b, "{file} differs");
    }
}

#[test]
fn signal_before_the_first_step_saves_nothing() {
    let sandbox = Sandbox::with_images(96);
    // The first step may finish before the signal: then another run is started.
    let runs = (0..5).map(|attempt| format!("run-{attempt}"));
    let last_line = |run: &String| {
        let mut child = sandbox
            .command(run, DEVICE, &LONG_STEPS)
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut line = || lines.next().map(|line| line.expect("UTF-8"));
        while !line().expect("it starts").contains("training in") {}
        let killed = Command::new("kill").arg(child.id().to_string()).status();
        assert!(killed.expect("kill runs").success());
        let last = std::iter::from_fn(line).last().expect("a last line");
        let code = child.wait().expect("ended").code();
        (code == Some(130) && run_lines(&sandbox.run(run)).is_empty()).then_some(last)
    };
    let (run, last) = { runs }
        .find_map(|run| Some((run.clone(), last_line(&run)?)))
        .expect("five first steps were done before the signal");
    assert!(last.contains("nothing new to save"), "{last}");
    assert!(!sandbox.run(&run).join("checkpoints").exists());
}

#[test]
fn init_starts_from_the_student_of_another_run() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("first", DEVICE, &["steps=5"]);
    assert!(first.status.success(), "{}", first.text);
    let init = format!("init={}", sandbox.run("first").display());
    // A learning rate of almost zero leaves the student unchanged.
    let second = sandbox.train("second", DEVICE, &[&init, "steps=4", "optim.lr=1e-30"]);
    assert!(second.status.success(), "{}", second.text);
    let read = |path: &str| {
        understudy::checkpoint::safetensors::read(&sandbox.root().join(path))
            .expect("a checkpoint's tensors")
    };
    let student = read("first/checkpoints/step-000000005/student.safetensors");
    let teacher = read("second/checkpoints/step-000000004/teacher.safetensors");
    assert!(!teacher.is_empty());
    for (name, tensor) in &teacher {
        // The teacher's updates round, although both sides of its average are equal.
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

/// A bit is flipped in an image of the fourth step, and no bad sample is allowed.
#[test]
fn too_many_bad_samples_end_a_run_with_a_checkpoint() {
    let sandbox = Sandbox::with_images(96);
    let first = sandbox.train("first", DEVICE, &["steps=5"]);
    assert!(first.status.success(), "{}", first.text);
    let config = sandbox.run("first").join("config.toml");
    let config = understudy::config::RunConfig::load(&config, &Overrides::default())
        .expect("a resolved config");
    let batches = Pipeline::train(&config.data, &Options::default()).expect("a pipeline");
    let fourth = { batches }.nth(3).expect("endless").expect("a batch");
    sandbox.flip_a_bit(fourth.samples[0].row);

    let set = ["train.save_every=100000", "data.max_bad_fraction=0.0"];
    let ended = sandbox.train("run", DEVICE, &set);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.text);
    assert!(ended.text.contains("saved step 3 of 10"), "{}", ended.text);

    let again = sandbox.train("run", DEVICE, &set);
    assert_eq!(again.status.code(), Some(1), "{}", again.text);
    assert!(again.text.contains("quarantine"), "{}", again.text);

    let set = ["train.save_every=100000", "data.max_bad_fraction=0.1"];
    let resumed = sandbox.train("run", DEVICE, &set);
    assert!(resumed.status.success(), "{}", resumed.text);
    let from = "resuming from step 3";
    assert!(resumed.text.contains(from), "{}", resumed.text);
}

/// The limit on the process's memory is set below the peak of a step: libtorch's next large
/// allocation fails, as on a full GPU.
#[cfg(feature = "libtorch")]
#[test]
fn out_of_device_memory_ends_a_run_with_a_checkpoint() {
    let sandbox = Sandbox::with_images(96);
    let set = [
        "train.log_every=1",
        "data.batch=256",
        "data.lanes=32",
        "model.data2vec2.image.mlp_ratio=32.0",
    ];
    let child = sandbox
        .command("run", DEVICE, &[&set[..], &["steps=100000"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    wait_for_steps(&sandbox.run("run"), 2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let peak = peak.expect("a peak").trim().trim_end_matches(" kB");
    let bytes = (peak.parse::<u64>().expect("a number") << 10) - (128 << 20);
    let limited = Command::new("prlimit")
        .args(["--pid", &child.id().to_string()])
        .arg(format!("--as={bytes}"))
        .status();
    assert!(limited.expect("prlimit runs").success());
    let ended = Outcome::of(child.wait_with_output().expect("ended"));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.text);
    assert!(
        ended.text.contains("out of device memory"),
        "{}",
        ended.text
    );
    assert!(!ended.text.contains("panicked"), "{}", ended.text);
    let done = run_lines(&sandbox.run("run")).len();
    let saved = format!("saved step {done} of");
    assert!(ended.text.contains(&saved), "{}", ended.text);

    let steps = format!("steps={}", done + 1);
    let smaller = [&set[..], &["train.micro_batches=32", &steps]].concat();
    let resumed = sandbox.train_longer("run", DEVICE, &smaller);
    assert!(resumed.status.success(), "{}", resumed.text);
    let from = format!("resuming from step {done}");
    assert!(resumed.text.contains(&from), "{}", resumed.text);
}

#[test]
fn resume_from_another_run_needs_a_new_directory() {
    let sandbox = Sandbox::with_images(96);
    for run in ["first", "second"] {
        let outcome = sandbox.train(run, DEVICE, &["steps=5"]);
        assert!(outcome.status.success(), "{}", outcome.text);
    }
    let from_first = |run: &str| {
        let mut command = sandbox.command(run, DEVICE, &[]);
        let first = sandbox.run("first");
        let output = command
            .arg("--resume")
            .arg(first)
            .args(["--allow", "optim"])
            .output();
        Outcome::of(output.expect("the binary runs"))
    };
    let refused = from_first("second");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
    assert!(
        refused.text.contains("already has checkpoints"),
        "{}",
        refused.text
    );
    let resumed = from_first("third");
    assert!(resumed.status.success(), "{}", resumed.text);
    assert!(
        resumed.text.contains("resuming from step 5"),
        "{}",
        resumed.text
    );
}
