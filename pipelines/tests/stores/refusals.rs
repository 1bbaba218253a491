//! What cannot work is said at once, in words that help; nothing is asked of strangers.
//!
//! `retry_for` stays at its fifteen minutes here: an error that is waited for would make its reader
//! hang, and the watch says so.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use understudy_pipelines::DataConfig;

use crate::lab::alone::{alone, is_alone};
use crate::lab::http::serve_folder;
use crate::lab::hub::{self, Hub};
use crate::lab::reader::{Outcome, Reading};
use crate::sets::{
    BUCKET, FOLDER, Set, azure_environment, config_of, read, read_meanwhile, s3_environment,
};

/// The reader stopped, and its words have all of these.
#[track_caller]
fn assert_says(reading: &Reading, words: &[&str]) {
    let Outcome::Stopped(error) = &reading.outcome else {
        panic!("{reading:?}");
    };
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
}

/// The environment with one value changed.
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
fn s3() {
    alone("refusals::s3", || {
        let set = Set::new();
        let Some(server) = set.in_seaweed() else {
            return;
        };
        let environment = s3_environment(server.address());
        let url = format!("s3://{BUCKET}/{FOLDER}");
        let wrong = with(&environment, "AWS_SECRET_ACCESS_KEY", "not-this-one");
        assert_says(&read(&url, &wrong), &[&url, "403"]);
        let unknown = with(&environment, "AWS_ACCESS_KEY_ID", "nobody");
        assert_says(&read(&url, &unknown), &[&url, "403"]);
        let reading = read("s3://no-such-bucket/set", &environment);
        assert_says(&reading, &["s3://no-such-bucket/set", "bucket"]);
        let missing = format!("s3://{BUCKET}/no/such/folder");
        assert_says(&read(&missing, &environment), &[&missing, "no shards here"]);
        let missing = format!("{url}/train-00009.parquet");
        assert_says(&read(&missing, &environment), &[&missing, "no shards here"]);
    });
}

#[test]
fn azure() {
    alone("refusals::azure", || {
        let set = Set::new();
        let Some(server) = set.in_azurite() else {
            return;
        };
        let environment = azure_environment(&server);
        let url = format!("az://{BUCKET}/{FOLDER}");
        let wrong = with(
            &environment,
            "AZURE_STORAGE_ACCOUNT_KEY",
            "bm90IHRoaXMgb25l",
        );
        assert_says(&read(&url, &wrong), &[&url, "403"]);
        let reading = read("az://no-such-container/set", &environment);
        assert_says(&reading, &["az://no-such-container/set", "container"]);
        let missing = format!("az://{BUCKET}/no/such/folder");
        assert_says(&read(&missing, &environment), &[&missing, "no shards here"]);
    });
}

#[test]
fn web_server() {
    alone("refusals::web_server", || {
        let set = Set::new();
        std::fs::remove_file(set.folder.path().join("manifest.json")).expect("there was one");
        let address = serve_folder(set.folder.path());
        // A web server lists nothing: a folder without a manifest cannot be read.
        let url = format!("http://{address}/");
        assert_says(&read(&url, &[]), &["manifest.json"]);
        let url = format!("http://{address}/no-such.parquet");
        assert_says(&read(&url, &[]), &[&url]);
    });
}

#[test]
fn hub() {
    alone("refusals::hub", || {
        let set = Set::new();
        let files = set.files().into_iter().collect();
        let server = Hub::start(files, 1000);
        let environment = vec![
            ("HF_ENDPOINT", format!("http://{}", server.address)),
            ("HF_TOKEN", hub::TOKEN.to_owned()),
        ];
        let url = format!("hf://datasets/{}", hub::REPOSITORY);
        assert_says(&read(&url, &environment[..1]), &[&url, "401", "HF_TOKEN"]);
        let wrong = with(&environment, "HF_TOKEN", "hf_wrong");
        assert_says(&read(&url, &wrong), &[&url, "401"]);
        let reading = read("hf://datasets/someone/else", &environment);
        assert_says(
            &reading,
            &["hf://datasets/someone/else", "Repository not found"],
        );
        let missing = format!("{url}@no-such-branch");
        assert_says(&read(&missing, &environment), &["Invalid rev id"]);
        let missing = format!("{url}/no/such/folder");
        assert_says(&read(&missing, &environment), &[&missing, "no shards here"]);
        assert!(
            !server.token_has_leaked(),
            "the other host was sent the token"
        );
    });
}

/// Clouds give their machines credentials at one address: it is not asked unless a person says so.
#[test]
fn without_credentials_nobody_is_asked() {
    alone("refusals::without_credentials_nobody_is_asked", || {
        let Some(n_asked) = count_at_the_metadata_address() else {
            println!("note: who is asked cannot be seen here");
            return;
        };
        let places = [
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
        for (url, words) in places {
            assert_says(&read(url, &[]), &[url, words[0], words[1]]);
        }
        let account = [("AZURE_STORAGE_ACCOUNT_NAME", "someone".to_owned())];
        let reading = read("az://container/set", &account);
        assert_says(&reading, &["AZURE_STORAGE_ACCOUNT_KEY"]);
        assert_eq!(n_asked.load(Relaxed), 0, "the metadata address was asked");

        // Asked for by name, it is asked: the count would have seen it.
        let named = [("UNDERSTUDY_INSTANCE_CREDENTIALS", "true".to_owned())];
        let impatient = DataConfig {
            retry_for: "2s".to_owned(),
            ..config_of("s3://bucket/set")
        };
        let reading = read_meanwhile(&impatient, &named, |_| {});
        assert_says(&reading, &["s3://bucket/set"]);
        assert!(n_asked.load(Relaxed) > 0, "nobody was asked");
    });
}

/// Listens where clouds' metadata services are, in a network of our own.
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
