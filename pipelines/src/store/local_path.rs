//! Paths in the local file system, as users write them.

use std::path::{Component, PathBuf};

use crate::{Error, Result};

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
