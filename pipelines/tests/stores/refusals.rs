//! Errors that a retry cannot change are reported at once, and no other host gets a request.
//!
//! `retry_for` is fifteen minutes here: a retry of such an error would hang, which fails the test.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use understudy_pipelines::DataConfig;

use crate::datasets::{
    BUCKET, FOLDER, TestDataset, azure_environment, config_of, read, read_meanwhile, s3_environment,
};
use crate::lab::alone::{alone, is_alone};
use crate::lab::http::serve_folder;
use crate::lab::hub::{self, Hub};
use crate::lab::reader::{Outcome, Reading};

/// Checks that the reader stopped with an error that contains all of these fragments.
#[track_caller]
fn assert_error(reading: &Reading, fragments: &[&str]) {
    let Outcome::Stopped(error) = &reading.outcome else {
        panic!("{reading:?}");
    };
    for fragment in fragments {
        assert!(error.contains(fragment), "no `{fragment}` in: {error}");
    }
}

/// Returns the environment with one value changed.
fn with(
    environment: &[(&'static str, String)],
    name: &str,
    value: &str,
) -> Vec<(&'static str, String)> {
    let mut changed = environment.to_vec();
    let at = changed.iter().position(|(known, _)| *known == name);
    value.clone_into(&mut changed[at.expect("one of them")].1);
    changed
}

#[test]
fn s3_errors_name_the_cause() {
    alone("refusals::s3_errors_name_the_cause", || {
        let dataset = TestDataset::new();
        let Some(server) = dataset.in_seaweed() else {
            return;
        };
        let environment = s3_environment(server.address());
        let url = format!("s3://{BUCKET}/{FOLDER}");
        let wrong = with(&environment, "AWS_SECRET_ACCESS_KEY", "not-this-one");
        assert_error(&read(&url, &wrong), &[&url, "403"]);
        let unknown = with(&environment, "AWS_ACCESS_KEY_ID", "nobody");
        assert_error(&read(&url, &unknown), &[&url, "403"]);
        let reading = read("s3://no-such-bucket/set", &environment);
        assert_error(&reading, &["s3://no-such-bucket/set", "bucket"]);
        let missing = format!("s3://{BUCKET}/no/such/folder");
        assert_error(
            &read(&missing, &environment),
            &[&missing, "no shards found"],
        );
        let missing = format!("{url}/train-00009.parquet");
        assert_error(
            &read(&missing, &environment),
            &[&missing, "no shards found"],
        );
    });
}

#[test]
fn azure_errors_name_the_cause() {
    alone("refusals::azure_errors_name_the_cause", || {
        let dataset = TestDataset::new();
        let Some(server) = dataset.in_azurite() else {
            return;
        };
        let environment = azure_environment(&server);
        let url = format!("az://{BUCKET}/{FOLDER}");
        let wrong = with(
            &environment,
            "AZURE_STORAGE_ACCOUNT_KEY",
            "bm90IHRoaXMgb25l",
        );
        assert_error(&read(&url, &wrong), &[&url, "403"]);
        let reading = read("az://no-such-container/set", &environment);
        assert_error(&reading, &["az://no-such-container/set", "container"]);
        let missing = format!("az://{BUCKET}/no/such/folder");
        assert_error(
            &read(&missing, &environment),
            &[&missing, "no shards found"],
        );
    });
}

#[test]
fn web_server_errors_name_the_cause() {
    alone("refusals::web_server_errors_name_the_cause", || {
        let dataset = TestDataset::new();
        std::fs::remove_file(dataset.folder.path().join("manifest.json")).expect("there was one");
        let address = serve_folder(dataset.folder.path());
        // A web server lists nothing: a folder without a manifest cannot be read.
        let url = format!("http://{address}/");
        assert_error(&read(&url, &[]), &["manifest.json"]);
        let url = format!("http://{address}/no-such.parquet");
        assert_error(&read(&url, &[]), &[&url]);
    });
}

#[test]
fn hub_errors_name_the_cause() {
    alone("refusals::hub_errors_name_the_cause", || {
        let dataset = TestDataset::new();
        let files = dataset.files().into_iter().collect();
        let server = Hub::start(files, 1000);
        let environment = vec![
            ("HF_ENDPOINT", format!("http://{}", server.address)),
            ("HF_TOKEN", hub::TOKEN.to_owned()),
        ];
        let url = format!("hf://datasets/{}", hub::REPOSITORY);
        assert_error(&read(&url, &environment[..1]), &[&url, "401", "HF_TOKEN"]);
        let wrong = with(&environment, "HF_TOKEN", "hf_wrong");
        assert_error(&read(&url, &wrong), &[&url, "401"]);
        let reading = read("hf://datasets/someone/else", &environment);
        assert_error(
            &reading,
            &["hf://datasets/someone/else", "Repository not found"],
        );
        let missing = format!("{url}@no-such-branch");
        assert_error(&read(&missing, &environment), &["Invalid rev id"]);
        let missing = format!("{url}/no/such/folder");
        assert_error(
            &read(&missing, &environment),
            &[&missing, "no shards found"],
        );
        assert!(
            !server.token_has_leaked(),
            "the other host was sent the token"
        );
    });
}

/// Clouds give credentials to their machines at a metadata address. It gets no request unless the
/// user allows it.
#[test]
fn missing_credentials_send_no_request() {
    alone("refusals::missing_credentials_send_no_request", || {
        let Some(n_asked) = count_at_the_metadata_address() else {
            println!("note: cannot observe the metadata address: test skipped");
            return;
        };
        let urls = [
            ("s3://bucket/set", ["AWS_ACCESS_KEY_ID", ".aws/credentials"]),
            (
                "gs://bucket/set",
                ["GOOGLE_APPLICATION_CREDENTIALS", "gcloud"],
            ),
            (
                "az://container/set",
                ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE"],
            ),
        ];
        for (url, fragments) in urls {
            assert_error(&read(url, &[]), &[url, fragments[0], fragments[1]]);
        }
        let account = [("AZURE_STORAGE_ACCOUNT_NAME", "someone".to_owned())];
        let reading = read("az://container/set", &account);
        assert_error(&reading, &["AZURE_STORAGE_ACCOUNT_KEY"]);
        assert_eq!(
            n_asked.load(Relaxed),
            0,
            "the metadata address got a request"
        );

        // With the permission it gets requests, which the count sees.
        let named = [("UNDERSTUDY_INSTANCE_CREDENTIALS", "true".to_owned())];
        let impatient = DataConfig {
            retry_for: "2s".to_owned(),
            ..config_of("s3://bucket/set")
        };
        let reading = read_meanwhile(&impatient, &named, |_| {});
        assert_error(&reading, &["s3://bucket/set"]);
        assert!(
            n_asked.load(Relaxed) > 0,
            "no request to the metadata address"
        );
    });
}

/// Counts connections to the metadata address, in a network namespace of the test.
fn count_at_the_metadata_address() -> Option<Arc<AtomicUsize>> {
    let mut add = Command::new("ip");
    add.args(["address", "add", "169.254.169.254/32", "dev", "lo"]);
    if !is_alone() || !add.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let listener = TcpListener::bind("169.254.169.254:80").ok()?;
    let n_asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_asked);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            count.fetch_add(1, Relaxed);
            drop(client);
        }
    });
    Some(n_asked)
}
