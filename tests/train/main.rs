//! Runs the binary as users do: training, stopping, resuming, refusing, embedding.

mod damage;
mod embed;
mod lab;
mod refuse;
mod remote;
mod resume;
mod server;
mod speech;
mod spot;
mod stored;
mod support;
mod text;

use support::{DEVICE, Sandbox, run_lines};

#[test]
fn diverged_run_exits_3_and_saves_no_bad_weights() {
    let sandbox = Sandbox::with_images(96);
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
            for (name, tensor) in understudy::checkpoint::safetensors::read(&path).expect("tensors")
            {
                assert!(tensor.iter::<f32>().all(f32::is_finite), "{name}");
                n_tensors += 1;
            }
        }
    }
    assert!(n_tensors > 0, "nothing was saved before the run diverged");
}

#[test]
fn collapsed_run_exits_3_and_names_its_limit() {
    let sandbox = Sandbox::with_images(96);
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

/// The last metrics show why a run was ended.
#[test]
fn metrics_of_the_step_that_collapses_are_written() {
    let sandbox = Sandbox::with_images(96);
    let set = [
        "guard.from_step=3",
        "guard.min_pred_var=1000.0",
        "train.log_every=1",
    ];
    let outcome = sandbox.train("run", DEVICE, &set);
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.text);
    let lines = run_lines(&sandbox.run("run"));
    let last = lines.last().expect("a line");
    assert_eq!(last["step"], 3);
    assert!(last["train/pred_var"].as_f64().expect("a number") < 1000.0);
}

#[test]
fn old_checkpoints_are_removed_except_the_newest_two_and_kept_ones() {
    let sandbox = Sandbox::with_images(96);
    // Leftover of a process that was killed while it saved.
    let partial = sandbox
        .run("run")
        .join("checkpoints/step-000000003.partial");
    std::fs::create_dir_all(&partial).expect("a folder");
    std::fs::write(partial.join("student.safetensors"), "half").expect("a file");
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
