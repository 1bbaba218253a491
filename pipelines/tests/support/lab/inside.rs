//! Tests with a store in the environment of their process and its children.

use std::process::Command;

use super::alone::alone;
use super::azurite::{self, Azurite};
use super::seaweed::{self, Seaweed};
use super::skip::skip;

/// Variable of the child process that runs the test: URL of the bucket.
const BUCKET: &str = "UNDERSTUDY_TEST_BUCKET";

/// Runs the test `name` in a child process with an empty bucket and the usual variables to reach it.
/// `test` gets the URL of the bucket. `name` is the test's path in the binary, as `--list` prints it.
pub(crate) fn in_s3(name: &str, test: impl FnOnce(&str)) {
    alone(name, || match std::env::var(BUCKET) {
        Ok(bucket) => test(&bucket),
        Err(_) => match Seaweed::start() {
            Ok(mut server) => {
                server.make_bucket("bucket");
                let endpoint = format!("http://{}", server.address());
                let store = [
                    (BUCKET, "s3://bucket"),
                    ("AWS_ENDPOINT_URL", &endpoint),
                    ("AWS_ACCESS_KEY_ID", seaweed::ACCESS_KEY),
                    ("AWS_SECRET_ACCESS_KEY", seaweed::SECRET_KEY),
                    ("AWS_REGION", "us-east-1"),
                ];
                again(name, &store);
            }
            Err(reason) => skip("stores", &reason),
        },
    });
}

/// Runs a test as [`in_s3`] does, with a container of Azure's blob store.
pub(crate) fn in_azure(name: &str, test: impl FnOnce(&str)) {
    alone(name, || match std::env::var(BUCKET) {
        Ok(container) => test(&container),
        Err(_) => match Azurite::start() {
            Ok(server) => {
                server.make_container("container");
                let endpoint = Azurite::endpoint(server.address());
                let store = [
                    (BUCKET, "az://container"),
                    ("AZURE_STORAGE_ENDPOINT", &endpoint),
                    ("AZURE_STORAGE_ACCOUNT_NAME", azurite::ACCOUNT),
                    ("AZURE_STORAGE_ACCOUNT_KEY", azurite::KEY),
                ];
                again(name, &store);
            }
            Err(reason) => skip("stores", &reason),
        },
    });
}

fn again(name: &str, store: &[(&str, &str)]) {
    let this = std::env::current_exe().expect("a test knows its binary");
    let mut command = Command::new(this);
    command.args(["--exact", name, "--nocapture"]);
    command.envs(store.iter().copied());
    let status = command.status().expect("the test's own binary starts");
    assert!(status.success(), "{name}: see above");
}
