//! Tests in a network that has only loopback.

use std::process::{Command, Stdio};

/// Set in the process that runs the test itself.
const INSIDE: &str = "UNDERSTUDY_TEST_ALONE";

/// Runs the test `name` of this binary in a child process, in a network namespace with only loopback:
/// a wrong endpoint or credential cannot send a request elsewhere. If the machine does not allow
/// namespaces, the test runs without one and prints a note.
///
/// `name` is the test's path in the binary, as `--list` prints it.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let this = std::env::current_exe().expect("a test knows its binary");
    let mut command = if namespaces_work() {
        let mut command = Command::new("unshare");
        // The kernel ends all processes that a test leaves, with its process namespace.
        command.args(["-rn", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", r#"ip link set lo up && exec "$0" "$@""#]);
        command.arg(this);
        command
    } else {
        println!(
            "note: cannot make a network namespace (unshare -rn, ip): {name} runs without one"
        );
        Command::new(this)
    };
    let output = command
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, if namespaces_work() { "namespace" } else { "" })
        .output()
        .expect("the test's own binary starts");
    let output_text =
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    print!("{output_text}");
    let has_run = output_text.contains("test result: ok. 1 passed");
    assert!(output.status.success() && has_run, "{name}: see above");
}

/// Returns whether this process is in a network namespace.
pub(crate) fn is_alone() -> bool {
    std::env::var(INSIDE).is_ok_and(|inside| !inside.is_empty())
}

fn namespaces_work() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["-rn", "--pid", "--fork", "--mount-proc"]);
    probe.args(["sh", "-c", "ip link set lo up"]);
    probe
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
