//! Azurite: Microsoft's emulator of Azure's blob store, which checks signatures.

use std::net::SocketAddr;
use std::process::Command;

use super::http::ask;
use super::process::{Process, free_ports, program};

/// The account that every Azurite has, as its documentation prints it.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
pub(crate) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Script that makes a container with a signed PUT, which `object_store` does not offer.
const MAKE_CONTAINER: &str = r"
const [port, account, key, name] = process.argv.slice(1);
const date = new Date().toUTCString(), version = '2021-08-06';
const text = ['PUT', ...Array(11).fill(''), `x-ms-date:${date}`, `x-ms-version:${version}`,
              `/${account}/${account}/${name}`, 'restype:container'].join('\n');
const hmac = require('crypto').createHmac('sha256', Buffer.from(key, 'base64'));
const headers = { 'x-ms-date': date, 'x-ms-version': version, 'content-length': 0,
                  authorization: `SharedKey ${account}:${hmac.update(text).digest('base64')}` };
const path = `/${account}/${name}?restype=container`;
require('http').request({ host: '127.0.0.1', port, path, method: 'PUT', headers }, answer =>
    answer.on('data', data => process.stderr.write(data))
          .on('end', () => process.exit(answer.statusCode === 201 ? 0 : 1))).end();
";

/// A server with its data in memory.
#[derive(Debug)]
pub(crate) struct Azurite {
    _process: Process,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Azurite {
    /// Starts a server. An error names what is missing.
    pub(crate) fn start() -> Result<Self, String> {
        let azurite = program("azurite-blob", "UNDERSTUDY_AZURITE")?;
        let node = Command::new("node").arg("--version").output();
        node.map_err(|error| format!("node: {error}"))?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_ports(1);
        let mut command = Command::new(azurite);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--inMemoryPersistence", "--disableTelemetry", "--silent"]);
        command.current_dir(folder.path());
        let mut process = Process::start(&mut command, &folder.path().join("log"));
        process.wait_until(|| ask("GET", ([127, 0, 0, 1], port).into(), "/").is_some());
        Ok(Self {
            _process: process,
            _folder: folder,
            port,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Returns the value of `AZURE_STORAGE_ENDPOINT`.
    pub(crate) fn endpoint(address: SocketAddr) -> String {
        format!("http://{address}/{ACCOUNT}")
    }

    pub(crate) fn make_container(&self, name: &str) {
        let mut node = Command::new("node");
        node.args(["-e", MAKE_CONTAINER, "--"]);
        node.args([&self.port.to_string(), ACCOUNT, KEY, name]);
        let output = node.output().expect("node starts");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "container {name}: {errors}");
    }
}
