//! Servers as child processes: started on free ports, awaited, paused, killed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process, killed on drop: its data is disposable.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a process with its output in the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let output = std::fs::File::create(log).expect("a log file");
        let errors = output.try_clone().expect("the same file");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Waits until the server is ready, or panics with its output.
    pub(crate) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(5);
        while !is_ready() {
            let has_ended = self.child.try_wait().expect("a child's state").is_some();
            if has_ended || Instant::now() > deadline {
                let output = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("the server is not ready; its output:\n{output}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal, such as `STOP` and `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args([&format!("-{name}"), &self.child.id().to_string()]);
        assert!(kill.status().expect("`kill` is there").success());
    }

    /// Sends SIGKILL, and waits until the process has ended.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the first of `n` consecutive free ports, drawn at random.
///
/// The ports are below those that the system gives to clients. A client, also one inside a server,
/// could otherwise take a port before the server listens on it, or while it restarts.
pub(crate) fn free_ports(n: u16) -> u16 {
    const SERVERS: std::ops::Range<u16> = 10_000..32_000;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let drawn = RandomState::new().hash_one(n) % u64::from(SERVERS.end - SERVERS.start - n);
        let first = SERVERS.start + u16::try_from(drawn).expect("a port");
        if (first..first + n).all(is_free) {
            return first;
        }
    }
}

/// Finds a program: by an environment variable, next to the Python of the tests, or in the path. An
/// error says where it was searched for.
pub(crate) fn program(name: &str, variable: &str) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let python = std::env::var_os("UNDERSTUDY_PYTHON").map(PathBuf::from);
    let python_folder = python
        .iter()
        .filter_map(|python| python.parent())
        .map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = python_folder
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.ok_or_else(|| {
        format!("`{name}` not found next to UNDERSTUDY_PYTHON or in PATH; set {variable}")
    })
}
