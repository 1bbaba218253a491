//! Builds the client of a URL's store, with the credentials that each ecosystem's tools use.

use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::aws_profile::Profile;
use super::http::Connector;
use super::hub::Hub;
use super::options::StoreOptions;
use super::retry::RetryingStore;
use super::traffic::Traffic;
use crate::{Error, Result};

/// Retries that `object_store` makes by itself; `retry.rs` makes the others.
const QUICK_TRIES: usize = 3;
const CONNECT_FOR: Duration = Duration::from_secs(10);
/// Environment variable that allows the identity that a cloud gives to its machines.
const INSTANCE_IDENTITY: &str = "UNDERSTUDY_INSTANCE_CREDENTIALS";

/// A store and a path in it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    pub(super) traffic: Arc<Traffic>,
    pub(super) lists: bool,
}

/// Opens the store of a remote URL. Nothing is sent yet.
pub(super) fn open(url_text: &str, scheme: &str, options: &StoreOptions) -> Result<Opened> {
    // A query may be a signature, and the user before a host may have a password.
    let shown = url_text.split(['?', '#']).next().unwrap_or_default();
    let has_password = shown.split("://").nth(1).is_some_and(|rest| {
        scheme != "hf"
            && rest
                .split('/')
                .next()
                .is_some_and(|host| host.contains('@'))
    });
    let shown = if has_password { scheme } else { shown };
    let fault = |reason: String| Error::Config(vec![format!("{shown}: {reason}")]);
    if has_password {
        return Err(fault(
            "user and password in a URL would be logged\nhint: set credentials in the environment"
                .to_owned(),
        ));
    }
    // A second call finds it done.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let connector = Connector::new(options.stall_after);
    let url = url::Url::parse(url_text).map_err(|error| fault(format!("invalid URL: {error}")))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault(
            "unsupported URL with `?` or `#`\nhint: set credentials in the environment instead of \
             signing the URL"
                .to_owned(),
        ));
    }
    let bucket = url.host_str().unwrap_or_default().to_owned();
    let path = Path::from_url_path(url.path()).map_err(|error| fault(error.to_string()))?;
    let name = format!("{scheme}://{bucket}");
    let built = |built: object_store::Result<Arc<dyn ObjectStore>>| {
        built.map_err(|error| fault(error.to_string()))
    };
    let (store, prefix) = match scheme {
        "s3" => (
            built(s3(&bucket, &connector, options).map_err(fault)?)?,
            path,
        ),
        "gs" => (
            built(gcs(&bucket, &connector, options).map_err(fault)?)?,
            path,
        ),
        "az" => (
            built(azure(&bucket, &connector, options).map_err(fault)?)?,
            path,
        ),
        "http" | "https" => {
            let origin = url.origin().ascii_serialization();
            let store = HttpBuilder::new()
                .with_url(&origin)
                .with_http_connector(connector.clone())
                .with_client_options(client(origin.starts_with("http://")))
                .with_retry(quick(options))
                .build();
            (built(store.map(|store| Arc::new(store) as _))?, path)
        }
        "hf" => {
            let rest = url_text.trim_start_matches("hf://");
            let (hub, path) = Hub::open(rest, &connector).map_err(fault)?;
            (Arc::new(hub) as Arc<dyn ObjectStore>, path)
        }
        _ => {
            return Err(fault(format!(
                "unsupported scheme `{scheme}`\nhint: supported are local paths, file://, s3://, \
                 gs://, az://, https:// and hf://datasets/"
            )));
        }
    };
    let traffic = Arc::clone(&connector.traffic);
    let store = RetryingStore::new(store, name, options.retry_for, Arc::clone(&traffic));
    Ok(Opened {
        store: Arc::new(store),
        prefix,
        traffic,
        lists: !scheme.starts_with("http"),
    })
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

fn s3(bucket: &str, connector: &Connector, options: &StoreOptions) -> Result<Built, String> {
    let profile = Profile::read()?;
    let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let endpoint = env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"));
    let endpoint = endpoint
        .or_else(|| env("AWS_ENDPOINT"))
        .or(profile.endpoint);
    let mut is_plain = false;
    if let Some(endpoint) = endpoint {
        is_plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint);
    }
    if env("AWS_REGION").is_none()
        && let Some(region) = env("AWS_DEFAULT_REGION").or(profile.region)
    {
        builder = builder.with_region(region);
    }
    let by_env = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let unsigned = env("AWS_SKIP_SIGNATURE").is_some_and(|value| value != "false");
    if !unsigned && !by_env.iter().any(|key| env(key).is_some()) {
        match profile.keys {
            Some((id, secret, token)) => {
                builder = builder
                    .with_access_key_id(id)
                    .with_secret_access_key(secret);
                if let Some(token) = token {
                    builder = builder.with_token(token);
                }
            }
            None if instance_identity() => {}
            None => {
                return Err(profile.unsupported.unwrap_or_else(|| format!(
                    "credentials not found\nhint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                     add them to {} (AWS_PROFILE selects a profile); AWS_SKIP_SIGNATURE=true \
                     reads public buckets; {INSTANCE_IDENTITY}=true uses this machine's role",
                    profile.place.display()
                )));
            }
        }
    }
    Ok(builder
        .with_http_connector(connector.clone())
        .with_client_options(client(is_plain))
        .with_retry(quick(options))
        .build()
        .map(|store| Arc::new(store) as _))
}

fn gcs(bucket: &str, connector: &Connector, options: &StoreOptions) -> Result<Built, String> {
    let env = |key: &str| std::env::var_os(key).is_some_and(|value| !value.is_empty());
    let by_env = [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_SKIP_SIGNATURE",
    ];
    let signed_in = std::env::home_dir()
        .map(|home| home.join(".config/gcloud/application_default_credentials.json"))
        .is_some_and(|path| path.is_file());
    if !by_env.iter().any(|key| env(key)) && !signed_in && !instance_identity() {
        return Err(format!(
            "credentials not found\nhint: set GOOGLE_APPLICATION_CREDENTIALS to the key file of a \
             service account, or sign in with `gcloud auth application-default login`; \
             GOOGLE_SKIP_SIGNATURE=true reads public buckets; {INSTANCE_IDENTITY}=true uses this \
             machine's service account"
        ));
    }
    Ok(GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(connector.clone())
        // The key file can name a test server; only this option allows plain HTTP to it.
        .with_client_options(client(env("GOOGLE_ALLOW_HTTP")))
        .with_retry(quick(options))
        .build()
        .map(|store| Arc::new(store) as _))
}

fn azure(container: &str, connector: &Connector, options: &StoreOptions) -> Result<Built, String> {
    let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
    if env("AZURE_STORAGE_ACCOUNT_NAME").is_none() && env("AZURE_STORAGE_USE_EMULATOR").is_none() {
        return Err("account not found\nhint: set AZURE_STORAGE_ACCOUNT_NAME".to_owned());
    }
    let by_env = [
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_STORAGE_TOKEN",
        "AZURE_USE_AZURE_CLI",
        "AZURE_SKIP_SIGNATURE",
        "AZURE_STORAGE_USE_EMULATOR",
    ];
    if !by_env.iter().any(|key| env(key).is_some()) && !instance_identity() {
        return Err(format!(
            "credentials not found\nhint: set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or \
             AZURE_USE_AZURE_CLI=true after `az login`; AZURE_SKIP_SIGNATURE=true reads public \
             containers; {INSTANCE_IDENTITY}=true uses this machine's managed identity"
        ));
    }
    let endpoint = env("AZURE_STORAGE_ENDPOINT").or_else(|| env("AZURE_ENDPOINT"));
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    Ok(MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_http_connector(connector.clone())
        .with_client_options(client(
            is_plain || env("AZURE_STORAGE_USE_EMULATOR").is_some(),
        ))
        .with_retry(quick(options))
        .build()
        .map(|store| Arc::new(store) as _))
}

fn instance_identity() -> bool {
    std::env::var(INSTANCE_IDENTITY).is_ok_and(|value| value == "true" || value == "1")
}

/// Builds options without timeouts: `http.rs` aborts a request that makes no progress.
fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_FOR)
        .with_timeout_disabled()
        .with_read_timeout_disabled()
}

fn quick(options: &StoreOptions) -> RetryConfig {
    RetryConfig {
        max_retries: QUICK_TRIES,
        retry_timeout: options.retry_for.min(Duration::from_secs(30)),
        ..RetryConfig::default()
    }
}

/// Converts a local path or a `file://` URL to a path. Expands `~/`, which shells leave as it is in
/// `--set key=~/…` and in configs.
pub(super) fn local_path(url_or_path: &str) -> Result<PathBuf> {
    if url_or_path.starts_with("file://") {
        let url = url::Url::parse(url_or_path).ok();
        let path = url.and_then(|url| url.to_file_path().ok());
        return path.ok_or_else(|| {
            Error::Config(vec![format!(
                "{url_or_path}: invalid file URL\nhint: write file:///absolute/path"
            )])
        });
    }
    match (url_or_path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(below), Some(home)) => Ok(home.join(below)),
        _ => Ok(PathBuf::from(url_or_path)),
    }
}

/// Resolves links and `..` to an absolute path. The last components need not exist.
pub(crate) fn real_path(path: &std::path::Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut there = path.ancestors();
    let there = there.find_map(|part| Some((part, part.canonicalize().ok()?)));
    let Some((ancestor, mut real)) = there else {
        return Ok(path);
    };
    for part in path.strip_prefix(ancestor).unwrap_or(&path).components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
    }
    Ok(real)
}
