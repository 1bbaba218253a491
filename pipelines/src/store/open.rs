//! Opens the store of a URL: its client, with retries around it.

use std::sync::Arc;
use std::time::Duration;

use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::http::Connector;
use super::location::Location;
use super::options::StoreOptions;
use super::retry::RetryingStore;
use super::scheme::{shown, unsupported};
use crate::{Error, Result};

/// Retries that `object_store` makes by itself; `retry.rs` makes the others.
const QUICK_TRIES: usize = 3;
const CONNECT_FOR: Duration = Duration::from_secs(10);

/// Opens the store of a remote URL, without a cache. Nothing is sent yet.
pub(super) fn open(url_text: &str, scheme: &str, options: &StoreOptions) -> Result<Location> {
    let shown = shown(url_text, scheme)?;
    let fault = |reason: String| Error::Config(vec![format!("{shown}: {reason}")]);
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
    let (store, prefix): (Arc<dyn ObjectStore>, Path) = match scheme {
        #[cfg(feature = "s3")]
        "s3" => (
            super::s3::open(&bucket, &connector, options).map_err(fault)?,
            path,
        ),
        #[cfg(feature = "gcs")]
        "gs" => (
            super::gcs::open(&bucket, &connector, options).map_err(fault)?,
            path,
        ),
        #[cfg(feature = "azure")]
        "az" => (
            super::azure::open(&bucket, &connector, options).map_err(fault)?,
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
            let store = store.map_err(|error| fault(error.to_string()))?;
            (Arc::new(store), path)
        }
        #[cfg(feature = "hub")]
        "hf" => {
            let rest = url_text.trim_start_matches("hf://");
            let (hub, path) = super::hub::Hub::open(rest, &connector).map_err(fault)?;
            (Arc::new(hub), path)
        }
        _ => return Err(unsupported(shown, scheme)),
    };
    let traffic = Arc::clone(&connector.traffic);
    let store = RetryingStore::new(store, name, options.retry_for, Arc::clone(&traffic));
    Ok(Location {
        store: Arc::new(store),
        prefix,
        url: url_text.trim_end_matches('/').to_owned(),
        local: None,
        traffic,
        lists: !scheme.starts_with("http"),
        cache: None,
    })
}

/// Builds options without timeouts: `http.rs` aborts a request that makes no progress.
pub(super) fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_FOR)
        .with_timeout_disabled()
        .with_read_timeout_disabled()
}

/// Builds the limits of the retries that `object_store` makes by itself.
pub(super) fn quick(options: &StoreOptions) -> RetryConfig {
    RetryConfig {
        max_retries: QUICK_TRIES,
        retry_timeout: options.retry_for.min(Duration::from_secs(30)),
        ..RetryConfig::default()
    }
}
