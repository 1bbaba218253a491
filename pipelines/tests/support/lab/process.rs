//! Servers as processes: started on free ports, awaited, paused, killed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with this value, at once and without ceremony: its data is disposable.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, with all that it says in a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let said = std::fs::File::create(log).expect("a file for what a server says");
        let errors = said.try_clone().expect("the same file");
        command.stdin(Stdio::null()).stdout(said).stderr(errors);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Waits until the server is ready, or panics with what it said.
    pub(crate) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(5);
        while !is_ready() {
            let has_ended = self.child.try_wait().expect("a child's state").is_some();
            if has_ended || Instant::now() > deadline {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("the server is not ready; it said:\n{said}");
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

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Gone already is as good.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first of `n` ports in a row that are free now, drawn at random.
///
/// They lie below those that the system gives to clients: one of these, a server's own among its
/// parts, could otherwise take a port before the server listens on it, or while it is restarted.
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

/// A program that tests need: named by an environment variable, beside the Python of the tests, or
/// in the path. An error says where it was looked for.
pub(crate) fn program(name: &str, variable: &str) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let python = std::env::var_os("UNDERSTUDY_PYTHON").map(PathBuf::from);
    let beside_python = python
        .iter()
        .filter_map(|python| python.parent())
        .map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside_python
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.ok_or_else(|| {
        format!("no `{name}` beside UNDERSTUDY_PYTHON or in PATH; name one in {variable}")
    })
}
