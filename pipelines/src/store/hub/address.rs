//! URLs of datasets on the Hub, and the user's token.

/// Parses `datasets/OWNER/NAME[@REV]/PATH` into `OWNER/NAME`, revision (default `main`) and path.
pub(super) fn parse(text: &str) -> Result<(String, String, &str), String> {
    let wanted = "invalid URL\nhint: write hf://datasets/OWNER/NAME/PATH or hf://datasets/OWNER/NAME@REVISION/PATH";
    let rest = text.strip_prefix("datasets/").ok_or(wanted)?;
    let (owner, rest) = rest.split_once('/').ok_or(wanted)?;
    let is_special = |rest: &str| {
        ["refs/convert/", "refs/pr/"]
            .iter()
            .any(|start| rest.starts_with(start))
    };
    let (name, revision, path) = match rest.split_once('@') {
        Some((name, rest)) if !name.contains('/') => {
            // The Hub's own references have three components.
            let n = if is_special(rest) { 2 } else { 0 };
            let end = rest
                .match_indices('/')
                .nth(n)
                .map_or(rest.len(), |(at, _)| at);
            (
                name,
                rest[..end].replace("%2F", "/"),
                rest[end..].trim_start_matches('/'),
            )
        }
        _ => {
            let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
            (name, "main".to_owned(), path)
        }
    };
    if owner.is_empty() || name.is_empty() || revision.is_empty() {
        return Err(wanted.to_owned());
    }
    Ok((format!("{owner}/{name}"), revision, path))
}

/// Reads the user's token from the variables and the file of the Hub's own tools.
pub(super) fn token() -> Result<Option<String>, String> {
    let env = |key: &str| {
        std::env::var(key)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    if let Some(token) = env("HF_TOKEN").or_else(|| env("HUGGING_FACE_HUB_TOKEN")) {
        return Ok(Some(token.trim().to_owned()));
    }
    let cache = || match env("XDG_CACHE_HOME") {
        Some(cache) => std::path::PathBuf::from(cache),
        None => std::env::home_dir().unwrap_or_default().join(".cache"),
    };
    let home = env("HF_HOME").map_or_else(|| cache().join("huggingface"), Into::into);
    let path = env("HF_TOKEN_PATH").map_or_else(|| home.join("token"), Into::into);
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_returns_repository_revision_and_path() {
        let parsed = |text| parse(text).expect("a valid URL");
        assert_eq!(
            parsed("datasets/o/n/data/a.parquet"),
            ("o/n".into(), "main".into(), "data/a.parquet")
        );
        assert_eq!(parsed("datasets/o/n"), ("o/n".into(), "main".into(), ""));
        assert_eq!(
            parsed("datasets/o/n@v1/data"),
            ("o/n".into(), "v1".into(), "data")
        );
        assert_eq!(
            parsed("datasets/o/n@refs/convert/parquet/default/train"),
            ("o/n".into(), "refs/convert/parquet".into(), "default/train")
        );
        assert_eq!(
            parsed("datasets/o/n/a@b/c"),
            ("o/n".into(), "main".into(), "a@b/c")
        );
        for wrong in [
            "o/n",
            "models/o/n",
            "datasets/n",
            "datasets//n/x",
            "datasets/o/@v/x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
