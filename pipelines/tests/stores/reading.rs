//! A dataset in each kind of store gives the same batches, byte for byte, as the local copy.

use std::collections::BTreeMap;

use understudy_pipelines::shard::{MANIFEST_NAME, Manifest};

use crate::datasets::{
    BUCKET, FOLDER, TestDataset, azure_environment, config_of, put_to_seaweed, read,
    read_meanwhile, s3_environment, skip_if_missing,
};
use crate::lab::alone::alone;
use crate::lab::gcs::Gcs;
use crate::lab::http::serve_folder;
use crate::lab::hub::{self, Hub};
use crate::lab::proxy::{Line, Proxy};
use crate::lab::reader::Outcome;
use crate::lab::seaweed;

#[test]
fn s3_gives_the_same_batches() {
    alone("reading::s3_gives_the_same_batches", || {
        let dataset = TestDataset::new();
        let Some(server) = dataset.in_seaweed() else {
            return;
        };
        let url = format!("s3://{BUCKET}/{FOLDER}");
        let environment = s3_environment(server.address());
        assert_eq!(read(&url, &environment).outcome, dataset.expected);

        // One file, and files by pattern, which need listings and no manifest.
        let one = read(&format!("{url}/train-00000.parquet"), &environment).outcome;
        assert!(matches!(one, Outcome::Finished(_)), "{one:?}");
        let pattern = read(&format!("{url}/train-*.parquet"), &environment).outcome;
        assert_eq!(pattern, dataset.expected);

        // The same with credentials from files in the home folder.
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
        assert_eq!(read(&url, &environment).outcome, dataset.expected);
    });
}

#[test]
fn azure_gives_the_same_batches() {
    alone("reading::azure_gives_the_same_batches", || {
        let dataset = TestDataset::new();
        let Some(server) = dataset.in_azurite() else {
            return;
        };
        let url = format!("az://{BUCKET}/{FOLDER}");
        assert_eq!(
            read(&url, &azure_environment(&server)).outcome,
            dataset.expected
        );
    });
}

#[test]
fn google_gives_the_same_batches() {
    alone("reading::google_gives_the_same_batches", || {
        let dataset = TestDataset::new();
        let buckets = tempfile::tempdir().expect("a folder");
        let folder = buckets.path().join(BUCKET).join(FOLDER);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in dataset.files() {
            std::fs::write(folder.join(name), bytes).expect("written");
        }
        let Some(server) = skip_if_missing(Gcs::start(buckets.path())) else {
            return;
        };
        let key_file = buckets.path().join("key.json");
        std::fs::write(&key_file, Gcs::credentials(server.address())).expect("written");
        let environment = [
            ("GOOGLE_SERVICE_ACCOUNT", key_file.display().to_string()),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ];
        let url = format!("gs://{BUCKET}/{FOLDER}");
        assert_eq!(read(&url, &environment).outcome, dataset.expected);
    });
}

#[test]
fn web_server_gives_the_same_batches() {
    alone("reading::web_server_gives_the_same_batches", || {
        let dataset = TestDataset::new();
        let address = serve_folder(dataset.folder.path());
        assert_eq!(
            read(&format!("http://{address}"), &[]).outcome,
            dataset.expected
        );
        let one = read(&format!("http://{address}/train-00000.parquet"), &[]).outcome;
        let local = dataset.folder.path().join("train-00000.parquet");
        assert_eq!(one, read(&local.display().to_string(), &[]).outcome);
    });
}

#[test]
fn web_server_serves_shards_with_any_name() {
    alone("reading::web_server_serves_shards_with_any_name", || {
        let dataset = TestDataset::new();
        let at = dataset.folder.path().join(MANIFEST_NAME);
        let json = std::fs::read(&at).expect("a manifest");
        let mut manifest = Manifest::from_json(&json, "the manifest").expect("valid");
        for shard in &mut manifest.shards {
            let name = shard.path.replace(".parquet", "#~?%20 é+&.parquet");
            let folder = dataset.folder.path();
            std::fs::rename(folder.join(&shard.path), folder.join(&name)).expect("renamed");
            shard.path = name;
        }
        std::fs::write(&at, manifest.to_json()).expect("written");
        let address = serve_folder(dataset.folder.path());
        let reading = read(&format!("http://{address}"), &[]);
        assert_eq!(reading.outcome, dataset.expected, "{reading:?}");
    });
}

#[test]
fn hub_gives_the_same_batches() {
    alone("reading::hub_gives_the_same_batches", || {
        let dataset = TestDataset::new();
        let mut files: BTreeMap<_, _> = dataset
            .files()
            .into_iter()
            .map(|(name, bytes)| (format!("{FOLDER}/{name}"), bytes))
            .collect();
        for i in 0..5 {
            files.insert(format!("other/{i}.txt"), b"not of the dataset".to_vec());
        }
        // Far fewer reads per signed URL than a run makes.
        let server = Hub::start(files, 7);
        let environment = [
            ("HF_ENDPOINT", format!("http://{}", server.address)),
            ("HF_TOKEN", hub::TOKEN.to_owned()),
        ];
        let url = format!("hf://datasets/{}/{FOLDER}", hub::REPOSITORY);
        let reading = read(&url, &environment);
        assert_eq!(reading.outcome, dataset.expected);
        let (n_signatures, n_refused) = server.counts();
        assert!(n_refused > 0, "no signed URL expired: this tests nothing");
        assert!(
            n_signatures < 200,
            "{n_signatures} redirects: their targets are not reused"
        );
        let one = read(&format!("{url}/train-00000.parquet"), &environment).outcome;
        assert!(matches!(one, Outcome::Finished(_)), "{one:?}");

        // A new commit on `main` during a run: the run stays with its commit.
        let path = format!("{FOLDER}/train-00001.parquet");
        let reading = read_meanwhile(&config_of(&url), &environment, |n| {
            if n == 3 {
                server.commit(&path, vec![0; 5000]);
            }
        });
        assert_eq!(reading.trained, dataset.trained);
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
fn replaced_object_ends_the_run() {
    alone("reading::replaced_object_ends_the_run", || {
        let dataset = TestDataset::new();
        let Some(server) = dataset.in_seaweed() else {
            return;
        };
        // Slow enough that the last shard is not read yet when it is replaced.
        let proxy = Proxy::start("127.0.0.1:0", server.address()).expect("a port");
        proxy.set_line(Line {
            bytes_per_sec: Some(300_000),
            ..Line::default()
        });
        let environment = s3_environment(proxy.address);
        let config = config_of(&format!("s3://{BUCKET}/{FOLDER}"));
        // Another shard of the same dataset has the same shape, and almost the same size.
        let (_, other) = dataset.files().into_iter().nth(2).expect("several shards");
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
