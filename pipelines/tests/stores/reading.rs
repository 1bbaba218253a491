//! The same set from every store: the same batches, byte for byte, as from the local copy.

use std::collections::BTreeMap;

use crate::lab::alone::alone;
use crate::lab::gcs::Gcs;
use crate::lab::http::serve_folder;
use crate::lab::hub::{self, Hub};
use crate::lab::proxy::{Line, Proxy};
use crate::lab::reader::Outcome;
use crate::lab::seaweed;
use crate::sets::{
    BUCKET, FOLDER, Set, azure_environment, config_of, put_to_seaweed, read, read_meanwhile,
    s3_environment, said_if_missing,
};

#[test]
fn s3() {
    alone("reading::s3", || {
        let set = Set::new();
        let Some(server) = set.in_seaweed() else {
            return;
        };
        let url = format!("s3://{BUCKET}/{FOLDER}");
        let environment = s3_environment(server.address());
        assert_eq!(read(&url, &environment).outcome, set.expected);

        // One file, and files by pattern, which need listings and no manifest.
        let one = read(&format!("{url}/train-00000.parquet"), &environment).outcome;
        assert!(matches!(one, Outcome::Finished(_)), "{one:?}");
        let pattern = read(&format!("{url}/train-*.parquet"), &environment).outcome;
        assert_eq!(pattern, set.expected);

        // The same from files in the person's home.
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join(".aws");
        std::fs::create_dir(&folder).expect("a folder");
        let keys = format!(
            "[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n\n\
             [lab]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            seaweed::ACCESS_KEY,
            seaweed::SECRET_KEY
        );
        std::fs::write(folder.join("credentials"), keys).expect("written");
        let settings = format!(
            "[profile lab]\nregion = us-east-1\nendpoint_url = http://{}\n",
            server.address()
        );
        std::fs::write(folder.join("config"), settings).expect("written");
        let environment = [
            ("HOME", home.path().display().to_string()),
            ("AWS_PROFILE", "lab".to_owned()),
        ];
        assert_eq!(read(&url, &environment).outcome, set.expected);
    });
}

#[test]
fn azure() {
    alone("reading::azure", || {
        let set = Set::new();
        let Some(server) = set.in_azurite() else {
            return;
        };
        let url = format!("az://{BUCKET}/{FOLDER}");
        assert_eq!(
            read(&url, &azure_environment(&server)).outcome,
            set.expected
        );
    });
}

#[test]
fn google() {
    alone("reading::google", || {
        let set = Set::new();
        let buckets = tempfile::tempdir().expect("a folder");
        let folder = buckets.path().join(BUCKET).join(FOLDER);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in set.files() {
            std::fs::write(folder.join(name), bytes).expect("written");
        }
        let Some(server) = said_if_missing(Gcs::start(buckets.path())) else {
            return;
        };
        let key_file = buckets.path().join("key.json");
        std::fs::write(&key_file, Gcs::credentials(server.address())).expect("written");
        let environment = [
            ("GOOGLE_SERVICE_ACCOUNT", key_file.display().to_string()),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ];
        let url = format!("gs://{BUCKET}/{FOLDER}");
        assert_eq!(read(&url, &environment).outcome, set.expected);
    });
}

#[test]
fn web_server() {
    alone("reading::web_server", || {
        let set = Set::new();
        let address = serve_folder(set.folder.path());
        assert_eq!(
            read(&format!("http://{address}"), &[]).outcome,
            set.expected
        );
        let one = read(&format!("http://{address}/train-00000.parquet"), &[]).outcome;
        let local = set.folder.path().join("train-00000.parquet");
        assert_eq!(one, read(&local.display().to_string(), &[]).outcome);
    });
}

#[test]
fn hub() {
    alone("reading::hub", || {
        let set = Set::new();
        let mut files: BTreeMap<_, _> = set
            .files()
            .into_iter()
            .map(|(name, bytes)| (format!("{FOLDER}/{name}"), bytes))
            .collect();
        for i in 0..5 {
            files.insert(format!("other/{i}.txt"), b"not of the set".to_vec());
        }
        // Far fewer reads for each signed URL than a run makes.
        let server = Hub::start(files, 7);
        let environment = [
            ("HF_ENDPOINT", format!("http://{}", server.address)),
            ("HF_TOKEN", hub::TOKEN.to_owned()),
        ];
        let url = format!("hf://datasets/{}/{FOLDER}", hub::REPOSITORY);
        let reading = read(&url, &environment);
        assert_eq!(reading.outcome, set.expected);
        let (n_signatures, n_refused) = server.counts();
        assert!(n_refused > 0, "no signed URL expired: this tests nothing");
        assert!(
            n_signatures < 200,
            "{n_signatures} redirects: their targets are not kept"
        );
        let one = read(&format!("{url}/train-00000.parquet"), &environment).outcome;
        assert!(matches!(one, Outcome::Finished(_)), "{one:?}");

        // `main` moves on while a run reads: the run stays with its commit.
        let path = format!("{FOLDER}/train-00001.parquet");
        let reading = read_meanwhile(&config_of(&url), &environment, |n| {
            if n == 3 {
                server.commit(&path, vec![0; 5000]);
            }
        });
        assert_eq!(reading.trained, set.trained);
        assert!(
            !server.token_has_leaked(),
            "the other host was sent the token"
        );

        // The token where the Hub's own tools keep it.
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("token"), hub::TOKEN).expect("written");
        let environment = [
            ("HF_ENDPOINT", format!("http://{}", server.address)),
            ("HF_HOME", home.path().display().to_string()),
        ];
        let reading = read(&format!("{url}/train-00000.parquet"), &environment);
        assert_eq!(reading.outcome, one);
    });
}

#[test]
fn an_object_that_is_replaced_is_noticed() {
    alone("reading::an_object_that_is_replaced_is_noticed", || {
        let set = Set::new();
        let Some(server) = set.in_seaweed() else {
            return;
        };
        // So slow that the last shard is not read yet when it is replaced.
        let proxy = Proxy::start("127.0.0.1:0", server.address()).expect("a port");
        proxy.set_line(Line {
            bytes_per_sec: Some(300_000),
            ..Line::default()
        });
        let environment = s3_environment(proxy.address);
        let config = config_of(&format!("s3://{BUCKET}/{FOLDER}"));
        // Another shard of the same set has the same shape, and almost the same size.
        let (_, other) = set.files().into_iter().nth(2).expect("several shards");
        let reading = read_meanwhile(&config, &environment, |n| {
            if n == 1 {
                put_to_seaweed(&server, "train-00002.parquet", other.clone());
            }
        });
        let Outcome::Stopped(error) = &reading.outcome else {
            panic!("{:?}", reading.outcome);
        };
        assert!(
            error.contains("changed since the dataset was opened"),
            "{error}"
        );
        assert!(error.contains("train-00002.parquet"), "{error}");
    });
}
