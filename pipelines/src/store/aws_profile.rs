//! AWS profiles: keys and regions from the shared files, which `object_store` does not read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Settings of the selected profile.
#[derive(Default)]
pub(super) struct Profile {
    /// Access key, secret key, and optional session token.
    pub(super) keys: Option<(String, String, Option<String>)>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    /// Error text if the profile gets its keys in an unsupported way.
    pub(super) unsupported: Option<String>,
    /// Path of the credentials file, for messages.
    pub(super) place: PathBuf,
}

/// Written by hand: it has keys.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Profile").field(&self.place).finish()
    }
}

impl Profile {
    /// Reads `~/.aws/credentials` and `~/.aws/config`, or the files that the environment names.
    pub(super) fn read() -> Result<Self, String> {
        let home = std::env::home_dir().unwrap_or_default().join(".aws");
        let file = |key: &str, name: &str| {
            std::env::var_os(key).map_or_else(|| home.join(name), PathBuf::from)
        };
        let name = std::env::var("AWS_PROFILE").ok();
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = file("AWS_CONFIG_FILE", "config");
        let texts = [read(&credentials)?, read(&config)?];
        Self::of(name.as_deref(), credentials, [&texts[0], &texts[1]])
    }

    fn of(
        name: Option<&str>,
        place: PathBuf,
        [credentials, config]: [&str; 2],
    ) -> Result<Self, String> {
        let wanted = name.unwrap_or("default");
        let in_config = match wanted {
            "default" => wanted.to_owned(),
            _ => format!("profile {wanted}"),
        };
        // The credentials file comes first.
        let mut keys = section(config, &in_config).unwrap_or_default();
        let is_there = !keys.is_empty();
        let secrets = section(credentials, wanted);
        if name.is_some() && !is_there && secrets.is_none() {
            return Err(format!(
                "AWS_PROFILE={wanted}: profile not found in {}",
                place.display()
            ));
        }
        keys.extend(secrets.unwrap_or_default());
        let mut take = |key: &str| keys.remove(key);
        let pair = take("aws_access_key_id").zip(take("aws_secret_access_key"));
        let token = take("aws_session_token");
        let (region, endpoint) = (take("region"), take("endpoint_url"));
        let ways = [
            "credential_process",
            "sso_session",
            "sso_start_url",
            "role_arn",
        ];
        let unsupported = ways.into_iter().find(|way| take(way).is_some());
        let unsupported = unsupported.map(|way| {
            format!(
                "unsupported `{way}` in the AWS profile `{wanted}`\nhint: run \
                 `eval $(aws configure export-credentials --format env)` first"
            )
        });
        Ok(Self {
            keys: pair.map(|(id, secret)| (id, secret, token)),
            region,
            endpoint,
            unsupported,
            place,
        })
    }
}

fn read(path: &Path) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Returns the keys of the section `[name]`, without indented ones, which belong to another key.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = header.trim() == name;
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if inside
            && !is_indented
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
            && let Some(found) = &mut found
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n\
        # not this\n[work]\naws_access_key_id = C\naws_secret_access_key = D\naws_session_token = E\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile work]\nregion = us-east-2\n\
        s3 =\n  addressing_style = path\nendpoint_url = http://localhost:1\n\
        [profile far]\nsso_session = it\nregion = us-west-1\n";

    fn profile(name: Option<&str>) -> Result<Profile, String> {
        Profile::of(name, "/h/.aws/credentials".into(), [CREDENTIALS, CONFIG])
    }

    #[test]
    fn profile_merges_credentials_and_config_files() {
        let default = profile(None).expect("there");
        assert_eq!(default.keys, Some(("A".into(), "B=".into(), None)));
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        let work = profile(Some("work")).expect("there");
        assert_eq!(work.keys, Some(("C".into(), "D".into(), Some("E".into()))));
        assert_eq!(work.region.as_deref(), Some("us-east-2"));
        assert_eq!(work.endpoint.as_deref(), Some("http://localhost:1"));
    }

    #[test]
    fn profile_rejects_missing_names_and_reports_unsupported_keys() {
        let missing = profile(Some("none")).expect_err("not there");
        assert!(missing.contains("AWS_PROFILE=none"), "{missing}");
        // It has no keys, and yet a region: the environment may have the keys.
        let sso = profile(Some("far")).expect("there");
        assert_eq!((sso.keys, sso.region.as_deref()), (None, Some("us-west-1")));
        let message = sso.unsupported.expect("not supported");
        assert!(
            message.contains("`sso_session`") && message.contains("export-credentials"),
            "{message}"
        );
        let nothing = Profile::of(None, PathBuf::new(), ["", ""]).expect("files are optional");
        assert!(nothing.keys.is_none());
    }
}
