//! A folder that appears in full or not at all: it is written beside its place and renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether there is something at `to` already; an empty folder is nothing.
pub(crate) fn is_taken(to: &Path) -> io::Result<bool> {
    match fs::read_dir(to) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// An empty folder to write to, `NAME.partial-PROCESS`: nobody else's.
pub(crate) fn begin(to: &Path) -> io::Result<PathBuf> {
    // The components again: a slash at the end would put the new folder inside.
    let mut name = to.components().collect::<PathBuf>().into_os_string();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(name);
    if let Some(parent) = partial.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(&partial)?;
    Ok(partial)
}

/// Puts what [`begin`] began in its place.
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
    fn a_slash_at_the_end_changes_nothing() {
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
