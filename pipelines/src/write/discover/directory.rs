//! Sorts the files of a folder: those to read, those to ignore, and those to refuse.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::shard::{MANIFEST_NAME, UNFINISHED_MARKER};
use crate::write::discover::file_names::{ends_in, is_compressed, is_hidden, is_note, name_of};
use crate::{Error, Result};

/// Name endings of files that hold many samples.
pub(crate) const SHARDS: [&str; 5] = [".parquet", ".arrow", ".tar", ".tar.gz", ".tgz"];

/// Files of a folder, by what to do with them.
#[derive(Default)]
pub(crate) struct Sorted {
    /// Files to read.
    pub(crate) read: Vec<PathBuf>,
    /// Files that cannot be read because they are compressed.
    compressed: Vec<PathBuf>,
    /// Number of all other files.
    pub(crate) ignored: usize,
}

impl Sorted {
    /// Adds a file, to be read if its name has one of these endings. A compressed file is ignored if its
    /// decompressed file is in the same folder.
    pub(crate) fn add(&mut self, file: PathBuf, ends: &[&str]) {
        let is_read = |file: &Path| {
            ends_in(file, ends)
                && !is_note(file)
                && !is_hidden(file.file_name().unwrap_or_default())
        };
        let inside = file.with_extension("");
        if is_read(&file) {
            self.read.push(file);
        } else if is_compressed(&file) && is_read(&inside) && !inside.exists() {
            self.compressed.push(file);
        } else {
            self.ignored += 1;
        }
    }

    /// Refuses compressed files: data of the right kind are never ignored silently.
    pub(crate) fn refuse_compressed(&self, folder: &Path) -> Result<()> {
        let names: Vec<_> = self.compressed.iter().take(3).map(|f| name_of(f)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = match self.compressed.len() - names.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        Err(Error::Source {
            path: folder.to_owned(),
            reason: format!(
                "compressed files are not supported: {}{more}\nhint: decompress them first, or move \
                 them away",
                names.join(", ")
            ),
        })
    }
}

/// Refuses shards next to folders of other files, for example a downloaded archive next to its
/// extracted files: either could be the source.
pub(crate) fn refuse_mixture(path: &Path, folders: &[PathBuf], shards: &[PathBuf]) -> Result<()> {
    let Some(shard) = shards.first() else {
        return Ok(());
    };
    for folder in folders {
        let (_, files) = list(folder)?;
        let Some(other) = files.iter().find(|f| !ends_in(f, &SHARDS) && !is_note(f)) else {
            continue;
        };
        return Err(Error::Source {
            path: path.to_owned(),
            reason: format!(
                "ambiguous: contains both `{}` and `{}/{}`\nhint: give one of them as SOURCE",
                name_of(shard),
                name_of(folder),
                name_of(other)
            ),
        });
    }
    Ok(())
}

/// Returns the folders and files of a folder, sorted, without hidden ones. Refuses an unfinished
/// dataset, as readers do: its missing shards would go unnoticed.
pub(crate) fn list(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    if path.join(UNFINISHED_MARKER).exists() && !path.join(MANIFEST_NAME).exists() {
        return Err(Error::Source {
            path: path.to_owned(),
            reason: "unfinished dataset\nhint: repeat the `shards write` command that started it"
                .to_owned(),
        });
    }
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        // Most entries know their type without another system call.
        let is_folder = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            _ => entry.path().is_dir(),
        };
        let kind = if is_folder { &mut folders } else { &mut files };
        kind.push(entry.path());
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

/// A file below a root: its name relative to the root with `/`, its path, and its size in bytes. A
/// broken or circular link has no size.
pub(crate) type Found = (String, PathBuf, Option<u64>);

/// Returns the files below a root, sorted within each folder.
pub(crate) fn walk(root: &Path) -> impl Iterator<Item = Result<Found>> + use<> {
    let not_hidden =
        |e: &DirEntry| e.depth() == 0 || !e.path().is_dir() || !is_hidden(e.file_name());
    let root = root.to_owned();
    WalkDir::new(&root)
        .min_depth(1)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(not_hidden)
        .filter_map(move |entry| file(&root, entry).transpose())
}

fn file(root: &Path, entry: walkdir::Result<DirEntry>) -> Result<Option<Found>> {
    let found = |path: &Path, bytes| {
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        Ok(Some((parts.join("/"), path.to_owned(), bytes)))
    };
    // For example a folder without read permission, which may hold any number of samples.
    let fault = |error: walkdir::Error| Error::Source {
        path: error.path().unwrap_or(root).to_owned(),
        reason: format!("{error}\nhint: fix or remove it"),
    };
    match entry {
        Ok(entry) if entry.file_type().is_file() => {
            let bytes = entry.metadata().map_err(fault)?.len();
            found(entry.path(), Some(bytes))
        }
        Ok(_) => Ok(None),
        Err(error) => match error.path() {
            Some(path) if error.loop_ancestor().is_some() || is_broken_link(path) => {
                found(path, None)
            }
            _ => Err(fault(error)),
        },
    }
}

fn is_broken_link(path: &Path) -> bool {
    path.is_symlink() && fs::metadata(path).is_err()
}

/// Returns the reason why a file that was found or listed has no size.
pub(crate) fn why_no_file(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(_) => "a link to a folder above it".to_owned(),
        Err(error) if path.is_symlink() => format!("a link that cannot be followed: {error}"),
        Err(_) => "listed, but not found".to_owned(),
    }
}
