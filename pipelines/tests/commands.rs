//! `shards plan` and `shards bench` refuse what they cannot use, before they read any data.

use std::process::Command;

/// Runs `shards` on the recipe `tiny-image`; returns the exit code and what it printed.
fn shards(command: &str, options: &[&str]) -> (Option<i32>, String) {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/tiny-image.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_shards"))
        .args([command, recipe])
        .args(options)
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), text)
}

#[test]
fn plan_and_bench_refuse_unknown_keys_and_invalid_values_with_exit_code_2() {
    for (options, said) in [
        (
            &["--set", "dta.batch=8"][..],
            "error: --set dta.batch=8: unknown key `dta.batch`\nhint: the nearest key is `data.batch`",
        ),
        (&["--set", "data.lanes"], "--set data.lanes: no value"),
        (
            &["--unset", "data.cache"],
            "--unset data.cache: nothing to remove",
        ),
        (
            &["--set", "data.lanes=7"],
            "data.lanes: 7 does not divide data.batch = 64",
        ),
        (
            &["--set", "data.batch_tokens=4096"],
            "data.batch, data.batch_tokens: only one of them can set the size of a step",
        ),
    ] {
        for command in ["plan", "bench"] {
            let (code, text) = shards(command, options);
            assert_eq!(code, Some(2), "{command} {options:?}: {text}");
            assert!(text.contains(said), "{command} {options:?}: {text}");
        }
    }
}
