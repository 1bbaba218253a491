//! A small dataset, local and in a store, and how it is read.

use crate::lab::skip::skip;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use understudy_pipelines::DataConfig;
use understudy_pipelines::shard::{MANIFEST_NAME, Manifest, ManifestGroup, ManifestShard};
use xxhash_rust::xxh3::xxh3_64;

use crate::lab::azurite::{self, Azurite};
use crate::lab::reader::{self, Digest, Outcome, Reading, watch};
use crate::lab::seaweed::{self, Seaweed};
use crate::support::{config, rows, write_dataset};

/// The bucket or container, and the dataset's folder in it.
pub(crate) const BUCKET: &str = "sets";
pub(crate) const FOLDER: &str = "deep/images";

/// A dataset of 400 images in four shards of 25 row groups, with a manifest.
pub(crate) struct TestDataset {
    pub(crate) folder: tempfile::TempDir,
    /// Hashes of the training steps; in `expected` those of an evaluation pass too.
    pub(crate) trained: Option<Digest>,
    pub(crate) expected: Outcome,
}

impl TestDataset {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &rows(400), 4, 25);
        let manifest = manifest_of(folder.path()).to_json();
        std::fs::write(folder.path().join(MANIFEST_NAME), manifest).expect("written");
        let (trained, expected) = reader::expected(&config(folder.path()));
        Self {
            folder,
            trained: Some(trained),
            expected,
        }
    }

    /// Returns the hash of all batches without their labels.
    pub(crate) fn media(&self) -> Option<String> {
        match &self.expected {
            Outcome::Finished(digest) => Some(digest.media.clone()),
            _ => None,
        }
    }

    /// Returns names and bytes of the files, sorted.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(self.folder.path()).expect("a folder");
        let files = files.map(|file| file.expect("an entry"));
        let mut files: Vec<_> = files
            .map(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                (name, std::fs::read(file.path()).expect("a file"))
            })
            .collect();
        files.sort();
        files
    }

    /// Starts a server with the dataset in it. Prints the reason and returns `None` if it is missing.
    pub(crate) fn in_seaweed(&self) -> Option<Seaweed> {
        let mut server = skip_if_missing(Seaweed::start())?;
        server.make_bucket(BUCKET);
        for (name, bytes) in self.files() {
            put_to_seaweed(&server, &name, bytes);
        }
        Some(server)
    }

    /// Starts a server with the dataset in it. Prints the reason and returns `None` if it is missing.
    pub(crate) fn in_azurite(&self) -> Option<Azurite> {
        let server = skip_if_missing(Azurite::start())?;
        server.make_container(BUCKET);
        let store = MicrosoftAzureBuilder::new()
            .with_account(azurite::ACCOUNT)
            .with_access_key(azurite::KEY)
            .with_endpoint(Azurite::endpoint(server.address()))
            .with_allow_http(true)
            .with_container_name(BUCKET);
        install_crypto();
        let store = store.build().expect("a client");
        for (name, bytes) in self.files() {
            let path = format!("{FOLDER}/{name}").into();
            run(store.put(&path, bytes.into())).expect("written");
        }
        Some(server)
    }
}

/// Writes one file of the dataset, or replaces it.
pub(crate) fn put_to_seaweed(server: &Seaweed, name: &str, bytes: Vec<u8>) {
    install_crypto();
    let store = AmazonS3Builder::new()
        .with_endpoint(format!("http://{}", server.address()))
        .with_allow_http(true)
        .with_access_key_id(seaweed::ACCESS_KEY)
        .with_secret_access_key(seaweed::SECRET_KEY)
        .with_bucket_name(BUCKET);
    let store = store.build().expect("a client");
    let path = format!("{FOLDER}/{name}").into();
    run(store.put(&path, bytes.into())).expect("written");
}

/// Returns the environment variables with credentials and endpoint of the S3 server.
pub(crate) fn s3_environment(endpoint: std::net::SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", seaweed::ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", seaweed::SECRET_KEY.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{endpoint}")),
    ]
}

/// Returns the environment variables with credentials and endpoint of the Azure server.
pub(crate) fn azure_environment(server: &Azurite) -> Vec<(&'static str, String)> {
    vec![
        ("AZURE_STORAGE_ACCOUNT_NAME", azurite::ACCOUNT.to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", azurite::KEY.to_owned()),
        (
            "AZURE_STORAGE_ENDPOINT",
            Azurite::endpoint(server.address()),
        ),
    ]
}

/// Reads `url` in a child process.
pub(crate) fn read(url: &str, environment: &[(&str, String)]) -> Reading {
    read_meanwhile(&config_of(url), environment, |_| {})
}

/// Reads a config's dataset in a child process. Calls `meanwhile` with the number of each batch.
pub(crate) fn read_meanwhile(
    config: &DataConfig,
    environment: &[(&str, String)],
    meanwhile: impl FnMut(usize),
) -> Reading {
    let mut reader = Command::new(std::env::current_exe().expect("this binary"));
    reader.args(["--exact", "reader", "--nocapture"]);
    watch(&mut reader, config, environment, meanwhile)
}

pub(crate) fn config_of(url: &str) -> DataConfig {
    config(Path::new(url))
}

fn manifest_of(folder: &Path) -> Manifest {
    let shards = std::fs::read_dir(folder).expect("a folder").map(|file| {
        let path = file.expect("an entry").path();
        let footer = SerializedFileReader::new(File::open(&path).expect("a file"));
        let footer = footer.expect("a Parquet file");
        let groups = footer
            .metadata()
            .row_groups()
            .iter()
            .map(|group| ManifestGroup {
                rows: group.num_rows() as u64,
                bytes: group.compressed_size() as u64,
            });
        let groups: Vec<_> = groups.collect();
        let bytes = std::fs::read(&path).expect("a file");
        ManifestShard {
            path: path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned(),
            rows: groups.iter().map(|group| group.rows).sum(),
            bytes: bytes.len() as u64,
            xxh3: format!("{:016x}", xxh3_64(&bytes)),
            row_groups: groups,
        }
    });
    Manifest::new("image", 1, None, shards.collect())
}

/// Returns what was started, or prints the reason.
pub(crate) fn skip_if_missing<T>(started: Result<T, String>) -> Option<T> {
    started.map_err(|reason| skip("stores", &reason)).ok()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// Installs a crypto provider, which reqwest needs even for plain HTTP.
fn install_crypto() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
}
