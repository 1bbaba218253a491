//! Opens S3, and stores that speak its protocol.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;

use super::aws_profile::Profile;
use super::http::Connector;
use super::instance_identity::{INSTANCE_IDENTITY, instance_identity};
use super::open::{client, quick};
use super::options::StoreOptions;

/// Builds the client of a bucket, with the credentials and the endpoint of the AWS tools.
pub(super) fn open(
    bucket: &str,
    connector: &Connector,
    options: &StoreOptions,
) -> Result<Arc<dyn ObjectStore>, String> {
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
    let store = builder
        .with_http_connector(connector.clone())
        .with_client_options(client(is_plain))
        .with_retry(quick(options))
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(store))
}
