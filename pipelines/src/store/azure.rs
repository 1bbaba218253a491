//! Opens Azure Blob Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;

use super::http::Connector;
use super::instance_identity::{INSTANCE_IDENTITY, instance_identity};
use super::open::{client, quick};
use super::options::StoreOptions;

/// Builds the client of a container, with the account and the credentials of the Azure tools.
pub(super) fn open(
    container: &str,
    connector: &Connector,
    options: &StoreOptions,
) -> Result<Arc<dyn ObjectStore>, String> {
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
    let store = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_http_connector(connector.clone())
        .with_client_options(client(
            is_plain || env("AZURE_STORAGE_USE_EMULATOR").is_some(),
        ))
        .with_retry(quick(options))
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(store))
}
