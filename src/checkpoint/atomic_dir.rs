//! Writes a folder that appears in full or not at all: it gets its name when it is complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Returns whether `to` exists and is not an empty folder.
pub(crate) fn is_taken(to: &Path) -> io::Result<bool> {
    match fs::read_dir(to) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates the empty folder `NAME.partial-PROCESS` next to `to`, for this process alone.
pub(crate) fn begin(to: &Path) -> io::Result<PathBuf> {
    // Joins the components again: with a slash at the end, the new folder would be inside `to`.
    let mut name = to.components().collect::<PathBuf>().into_os_string();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(name);
    if let Some(parent) = partial.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(&partial)?;
    Ok(partial)
}

/// Renames the folder of [`begin`] to `to`.
pub(crate) fn finish(partial: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir(to)?;
    }
    fs::rename(partial, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_slash_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("model/");
        assert!(!is_taken(&to).unwrap());
        fs::create_dir(&to).unwrap();
        assert!(!is_taken(&to).unwrap());
        let partial = begin(&to).unwrap();
        let name = format!("model.partial-{}", std::process::id());
        assert_eq!(partial, folder.path().join(name));
        fs::write(partial.join("a"), "a").unwrap();
        finish(&partial, &to).unwrap();
        assert!(is_taken(&to).unwrap() && !partial.exists());
    }
}
