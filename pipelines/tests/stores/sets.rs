//! A small set, local and in a store, and how it is read.

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
use crate::support::{config, rows, write_set};

/// The bucket or container, and the set's folder in it.
pub(crate) const BUCKET: &str = "sets";
pub(crate) const FOLDER: &str = "deep/pictures";

/// 400 pictures in four shards of 25 row groups, with a manifest.
pub(crate) struct Set {
    pub(crate) folder: tempfile::TempDir,
    /// What reading it gives: the training steps, and all of it.
    pub(crate) trained: Option<Digest>,
    pub(crate) expected: Outcome,
}

impl Set {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_set(folder.path(), &rows(400), 4, 25);
        let manifest = manifest_of(folder.path()).to_json();
        std::fs::write(folder.path().join(MANIFEST_NAME), manifest).expect("written");
        let (trained, expected) = reader::expected(&config(folder.path()));
        Self {
            folder,
            trained: Some(trained),
            expected,
        }
    }

    /// The hash of all that reading it gives, but for labels.
    pub(crate) fn media(&self) -> Option<String> {
        match &self.expected {
            Outcome::Finished(digest) => Some(digest.media.clone()),
            _ => None,
        }
    }

    /// Names of its files, and their bytes.
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

    /// Starts a server with the set in it; `None`, and the reason printed, where there is none.
    pub(crate) fn in_seaweed(&self) -> Option<Seaweed> {
        let mut server = said_if_missing(Seaweed::start())?;
        server.make_bucket(BUCKET);
        for (name, bytes) in self.files() {
            put_to_seaweed(&server, &name, bytes);
        }
        Some(server)
    }

    /// Starts a server with the set in it; `None`, and the reason printed, where there is none.
    pub(crate) fn in_azurite(&self) -> Option<Azurite> {
        let server = said_if_missing(Azurite::start())?;
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

/// Writes one file of the set, or another in its place.
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

/// Credentials and the endpoint of S3, as the environment has them.
pub(crate) fn s3_environment(endpoint: std::net::SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", seaweed::ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", seaweed::SECRET_KEY.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{endpoint}")),
    ]
}

/// Credentials and the endpoint of Azure, as the environment has them.
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

/// Reads `url` in a process of its own.
pub(crate) fn read(url: &str, environment: &[(&str, String)]) -> Reading {
    read_meanwhile(&config_of(url), environment, |_| {})
}

/// Reads a recipe's set, while something happens at the n-th batch.
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

/// What was started, or `None` with the reason printed.
pub(crate) fn said_if_missing<T>(started: Result<T, String>) -> Option<T> {
    started.map_err(|why| println!("skipped: {why}")).ok()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// reqwest wants to know whose ciphers it may use, even where it speaks plain HTTP.
fn install_crypto() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
}
