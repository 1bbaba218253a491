//! `SeaweedFS`: a real S3 server, which checks signatures.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::http::ask;
use super::process::{Process, free_ports, program};

pub(crate) const ACCESS_KEY: &str = "testkey";
pub(crate) const SECRET_KEY: &str = "testsecret";

const IDENTITIES: &str = r#"{"identities": [{"name": "test",
    "credentials": [{"accessKey": "testkey", "secretKey": "testsecret"}],
    "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}"#;

/// A server with its data in a temporary folder.
#[derive(Debug)]
pub(crate) struct Seaweed {
    command: Command,
    process: Process,
    folder: tempfile::TempDir,
    port: u16,
}

impl Seaweed {
    /// Starts a server. An error names what is missing.
    pub(crate) fn start() -> Result<Self, String> {
        let weed = program("weed", "UNDERSTUDY_WEED")?;
        let folder = tempfile::tempdir().expect("a folder");
        let (data, identities) = (folder.path().join("data"), folder.path().join("s3.json"));
        std::fs::create_dir(&data).expect("a folder");
        std::fs::write(&identities, IDENTITIES).expect("a file");
        let port = free_ports(8);
        let mut command = Command::new(weed);
        let ports = [
            ("s3.port", port),
            ("master.port", port + 1),
            ("volume.port", port + 2),
            ("filer.port", port + 3),
            ("master.port.grpc", port + 4),
            ("volume.port.grpc", port + 5),
            ("filer.port.grpc", port + 6),
            ("s3.port.grpc", port + 7),
            ("s3.port.iceberg", 0),
            ("s3.port.lance", 0),
        ];
        command.args(["-logtostderr=true", "server", "-filer", "-s3"]);
        command.args(ports.map(|(name, port)| format!("-{name}={port}")));
        command.args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
        ]);
        // Each bucket needs several volumes.
        command.args(["-volume.max=1000", "-master.volumeSizeLimitMB=256"]);
        command.arg("-volume.preStopSeconds=0");
        command
            .arg(flag("-dir=", &data))
            .arg(flag("-s3.config=", &identities));
        // An earlier server that was killed may have left sockets.
        remove_sockets(port);
        let process = Process::start(&mut command, &folder.path().join("log"));
        let mut server = Self {
            command,
            process,
            folder,
            port,
        };
        server.wait();
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Makes a bucket, which is a folder of the file server.
    pub(crate) fn make_bucket(&mut self, name: &str) {
        let filer = ([127, 0, 0, 1], self.port + 3).into();
        self.process.wait_until(|| {
            let made = ask("POST", filer, &format!("/buckets/{name}/"));
            // 409: an earlier attempt made it, whose answer timed out.
            made.is_some_and(|(status, _)| status < 300 || status == 409)
        });
    }

    /// Kills the server and starts it on the same data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
        remove_sockets(self.port);
    }

    pub(crate) fn start_again(&mut self) {
        self.process = Process::start(&mut self.command, &self.folder.path().join("log"));
        self.wait();
    }

    /// Sends `STOP` or `CONT`: the connections stay open.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    fn wait(&mut self) {
        let (s3, master) = (self.address(), ([127, 0, 0, 1], self.port + 1).into());
        self.process.wait_until(|| {
            // S3 answers before there is a volume for writes.
            let assigned = ask("GET", master, "/dir/assign");
            ask("GET", s3, "/").is_some() && assigned.is_some_and(|(_, body)| body.contains("fid"))
        });
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Removes the sockets of a killed server: the next one on these ports would not start.
fn remove_sockets(first_port: u16) {
    let ports: Vec<String> = (first_port..first_port + 8)
        .map(|port| port.to_string())
        .collect();
    let files = std::fs::read_dir("/tmp").into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let stem = name
            .strip_prefix("seaweedfs-")
            .and_then(|name| name.strip_suffix(".sock"));
        let port = stem.and_then(|stem| stem.rsplit('-').next());
        if port.is_some_and(|port| ports.iter().any(|ours| ours == port)) {
            let _gone = std::fs::remove_file(file.path());
        }
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}{}", path.display())
}
