//! Opens Google Cloud Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::http::Connector;
use super::instance_identity::{INSTANCE_IDENTITY, instance_identity};
use super::open::{client, quick};
use super::options::StoreOptions;

/// Builds the client of a bucket, with the credentials of the Google Cloud tools.
pub(super) fn open(
    bucket: &str,
    connector: &Connector,
    options: &StoreOptions,
) -> Result<Arc<dyn ObjectStore>, String> {
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
    let store = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(connector.clone())
        // The key file can name a test server; only this option allows plain HTTP to it.
        .with_client_options(client(env("GOOGLE_ALLOW_HTTP")))
        .with_retry(quick(options))
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(store))
}
