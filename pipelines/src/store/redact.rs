//! URLs without their secrets, for logs and `Debug`.

use std::fmt;

/// Returns a URL without user, password, query and fragment, which may be a token or a signature.
/// Local paths are returned as they are.
pub(crate) fn public_part(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    if scheme == "file" {
        return url.to_owned();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Formats a URL as its [`public_part`].
pub(crate) struct Public<'a>(pub(crate) &'a str);

impl fmt::Debug for Public<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        public_part(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_part_has_no_password_and_no_signature() {
        for (url, shown) in [
            ("https://host/a/b.parquet?sig=S", "https://host/a/b.parquet"),
            ("https://me:S@host/a#S", "https://host/a"),
            ("https://S@host?S", "https://host"),
            ("hf://datasets/o/n@rev/a", "hf://datasets/o/n@rev/a"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("/data/a?b#c@d", "/data/a?b#c@d"),
            ("file:///data/a%3F", "file:///data/a%3F"),
        ] {
            assert_eq!(public_part(url), shown);
        }
    }
}
