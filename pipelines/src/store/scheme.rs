//! Schemes of URLs, and the cargo feature of each.

use super::redact::public_part;
use crate::{Error, Result};

/// Schemes of remote stores, and the features that compile them in.
const FEATURES: [(&str, &str); 6] = [
    ("s3", "s3"),
    ("gs", "gcs"),
    ("az", "azure"),
    ("http", "http"),
    ("https", "http"),
    ("hf", "hub"),
];

/// Returns the URL as messages may show it: without a query, which may be a signature.
///
/// # Errors
///
/// [`Error::Config`] for a URL with a password, which logs would show.
pub(super) fn shown<'a>(url_text: &'a str, scheme: &str) -> Result<&'a str> {
    let shown = url_text.split(['?', '#']).next().unwrap_or_default();
    if public_part(url_text) != shown {
        return Err(Error::Config(vec![format!(
            "{scheme}: user and password in a URL would be logged\nhint: set credentials in the \
             environment"
        )]));
    }
    Ok(shown)
}

/// Returns the error for a URL whose scheme has no store in this build.
pub(super) fn unsupported(shown: &str, scheme: &str) -> Error {
    let feature = FEATURES.iter().find(|(name, _)| *name == scheme);
    Error::Config(vec![match feature {
        Some((_, feature)) => format!(
            "unsupported URL: {shown}: built without the feature `{feature}`\nhint: build with \
             `--features {feature}`"
        ),
        None => format!(
            "{shown}: unsupported scheme `{scheme}`\nhint: supported are local paths, file://, \
             s3://, gs://, az://, https:// and hf://datasets/"
        ),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_names_the_feature_that_a_build_lacks() {
        let error = unsupported("gs://bucket/set", "gs").to_string();
        assert!(
            error.contains("unsupported URL: gs://bucket/set: built without the feature `gcs`"),
            "{error}"
        );
        assert!(
            error.contains("hint: build with `--features gcs`"),
            "{error}"
        );
    }

    #[test]
    fn shown_omits_a_query_and_rejects_a_password() {
        let shown_of = |url| shown(url, "https").map_err(|error| error.to_string());
        assert_eq!(
            shown_of("https://host/a?signature").as_deref(),
            Ok("https://host/a")
        );
        let error = shown_of("https://user:secret@host/a").expect_err("a password");
        assert!(!error.contains("secret"), "{error}");
        assert!(shown("hf://datasets/o/n@v1", "hf").is_ok());
    }
}
