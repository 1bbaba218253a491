//! `{:?}` of every public type with a URL or a credential shows no secret.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;

use understudy_pipelines::config::{MixedSet, TrainSets};
use understudy_pipelines::pipeline::{Options, Pipeline, plan};
use understudy_pipelines::shard::{Dataset, Kind, Mixture};
use understudy_pipelines::store::{Folder, Location, StoreOptions};
use understudy_pipelines::write::features::FeatureOptions;
use understudy_pipelines::write::{Check, EncodeOptions, ImageOptions};
use understudy_pipelines::write::{Encode, WriteOptions};
use understudy_pipelines::{DataConfig, Error};

use crate::datasets::{TestDataset, config_of};
use crate::lab::alone::alone;
use crate::lab::hub::{self, Hub};

/// In every secret of the test; the Hub's token is the lab's own.
const SECRET: &str = "c2VjcmV0";
/// Tells the child process to print, and how the Hub's repository is named.
const PRINT: &str = "UNDERSTUDY_TEST_PRINT_TYPES_OF";

#[test]
fn debug_shows_no_secret() {
    alone("secrets::debug_shows_no_secret", || {
        let server = Hub::start(TestDataset::new().files().into_iter().collect(), 1000);
        let home = tempfile::tempdir().expect("a folder");
        let google = home.path().join("google.json");
        let user = serde_json::json!({
            "type": "authorized_user", "client_id": "me",
            "client_secret": SECRET, "refresh_token": SECRET,
        });
        std::fs::write(&google, user.to_string()).expect("written");
        let google = google.display().to_string();
        let endpoint = format!("http://{}", server.address);
        let sas = format!("sv=2024&sig={SECRET}");
        let proxy = format!("http://me:{SECRET}@127.0.0.1:9");
        // Azure takes one credential at a time.
        for azure in [
            ("AZURE_STORAGE_ACCOUNT_KEY", SECRET),
            ("AZURE_STORAGE_SAS_TOKEN", sas.as_str()),
        ] {
            let output = Command::new(std::env::current_exe().expect("this binary"))
                .args(["--exact", "secrets::print_types", "--nocapture"])
                .env("HOME", home.path())
                .env(PRINT, format!("hf://datasets/{}", hub::REPOSITORY))
                .env("HF_ENDPOINT", &endpoint)
                .env("HF_TOKEN", hub::TOKEN)
                .env("AWS_ACCESS_KEY_ID", "AKIA")
                .env("AWS_SECRET_ACCESS_KEY", SECRET)
                .env("AWS_SESSION_TOKEN", SECRET)
                .env("AZURE_STORAGE_ACCOUNT_NAME", "someone")
                .env(azure.0, azure.1)
                .env("GOOGLE_APPLICATION_CREDENTIALS", &google)
                .env("HTTPS_PROXY", &proxy)
                .output()
                .expect("this binary starts");
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(
                output.status.success() && text.contains("printed all"),
                "{text}"
            );
            for secret in [SECRET, hub::TOKEN, "Signature"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
            for public in [
                "s3://bucket/set",
                "az://container/set",
                "gs://bucket/set",
                hub::REPOSITORY,
            ] {
                assert!(text.contains(public), "no {public} in {text}");
            }
        }
    });
}

/// The child process of [`debug_shows_no_secret`]. Does nothing in other processes.
#[test]
fn print_types() {
    let Ok(on_hub) = std::env::var(PRINT) else {
        return;
    };
    let options = StoreOptions::default();
    for url in [
        "s3://bucket/set",
        "az://container/set",
        "gs://bucket/set",
        &on_hub,
    ] {
        let location = Location::open(url).expect(url);
        print(&location.store);
        print(&location);
        print(&Folder::open(url, &options).expect(url));
    }
    let config = config_of(&on_hub);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let columns = BTreeMap::new();
    let open = Dataset::open(&on_hub, &[Kind::Image], &columns);
    let dataset = runtime
        .expect("a runtime")
        .block_on(open)
        .expect("a dataset");
    print(&dataset);
    print(&dataset.shards);
    print(&Mixture::new(vec![dataset]).expect("one dataset"));
    print(&plan(&config).expect("a plan"));
    let mut pipeline = Pipeline::train(&config, &Options::default()).expect("a pipeline");
    pipeline.next().expect("endless").expect("a batch");
    print(&pipeline);
    print(&pipeline.stats());

    let signed = format!("https://me:{SECRET}@host/set?sig={SECRET}#{SECRET}");
    let mix = MixedSet {
        set: signed.clone(),
        weight: Some(1.0),
        passes: None,
    };
    print(&mix);
    let config = DataConfig {
        train: TrainSets::Mix(vec![mix]),
        val: Some(signed.clone()),
        ..config
    };
    print(&config);
    print(&WriteOptions {
        sources: Vec::new(),
        to: signed.clone(),
        columns: BTreeMap::new(),
        labels: Some(signed.clone()),
        encode: EncodeOptions::Image(ImageOptions {
            resize_short: None,
            quality: 90,
            encode: Encode::Keep,
            check: Check::Decode,
        }),
        shard_bytes: 1 << 20,
        row_group_bytes: 1 << 20,
        threads: 1,
    });
    print(&FeatureOptions {
        to: signed.clone(),
        source: signed.clone(),
        dim: 1,
        per_position: false,
        settings: BTreeMap::new(),
        about: BTreeMap::new(),
        shard_bytes: 1 << 20,
    });
    let refused: Error = Location::open(&signed).expect_err("signed");
    print(&refused);
    println!("{refused}");
    println!("printed all");
}

fn print(value: &dyn Debug) {
    println!("{value:?}\n{value:#?}");
}
