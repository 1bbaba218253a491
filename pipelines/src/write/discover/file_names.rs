//! What the names of files and folders tell: hidden, a note, compressed, train or val.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::Modality;

/// How names of recordings end.
pub(crate) const RECORDINGS: [&str; 10] = [
    ".flac", ".wav", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".wave",
];
/// How names of pictures end, of most: they are told by their bytes.
const PICTURES: [&str; 8] = [
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
];
/// Files of these names tell about a corpus and are no part of it.
const NOTES: [&str; 4] = ["README", "LICENSE", "COPYING", "ATTRIBUTION"];
const COMPRESSED: [&str; 6] = [".gz", ".zst", ".xz", ".bz2", ".lz4", ".zip"];

/// Files and folders of these names are left by systems: Windows, zips of a Mac, Synology.
const SYSTEM: [&str; 4] = ["Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"];

/// Names that are no one's data: `.DS_Store`, `._1.jpg`, `Thumbs.db`.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || SYSTEM.contains(&name.as_ref())
}

/// Whether a file's name has one of these ends, in any case.
pub(crate) fn ends_in(path: &Path, ends: &[&str]) -> bool {
    let name = name_of(path).to_lowercase();
    ends.iter().any(|end| name.ends_with(end))
}

/// What a file holds, by its name, if that tells.
pub(crate) fn modality_of(path: &Path) -> Option<Modality> {
    if ends_in(path, &RECORDINGS) {
        Some(Modality::Audio)
    } else if ends_in(path, &PICTURES) {
        Some(Modality::Image)
    } else {
        None
    }
}

pub(crate) fn is_note(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    NOTES.contains(&stem.to_uppercase().as_str())
}

/// Whether a file is compressed, by its name.
pub(crate) fn is_compressed(path: &Path) -> bool {
    ends_in(path, &COMPRESSED)
}

/// The part of a corpus that a word names, in any case.
pub(crate) fn split_of(name: &str) -> Option<&'static str> {
    match name.to_lowercase().as_str() {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("val"),
        "test" | "testing" => Some("test"),
        _ => None,
    }
}

pub(crate) fn first_word_split(path: &Path) -> Option<&'static str> {
    split_of(
        name_of(path)
            .split(['-', '.', '_'])
            .next()
            .unwrap_or_default(),
    )
}

/// `train.txt`, `wiki.valid.tokens`, and MNLI's two: `dev_matched.tsv`, `dev_mismatched.tsv`.
pub(crate) fn split_of_text(path: &Path) -> Option<&'static str> {
    let name = name_of(path);
    match name.as_str() {
        "dev_matched.tsv" => return Some("val_matched"),
        "dev_mismatched.tsv" => return Some("val_mismatched"),
        "test_matched.tsv" => return Some("test_matched"),
        "test_mismatched.tsv" => return Some("test_mismatched"),
        _ => {}
    }
    name.split(['-', '.', '_']).find_map(split_of)
}

/// Whether files of texts whose names hold such words are parts of one corpus, and not books with
/// such titles: some name is nothing else (`train.txt`), or two differ in that word and in numbers
/// alone (`wiki.train.tokens`, `wiki.valid.tokens`).
pub(crate) fn are_parts(files: &[PathBuf]) -> bool {
    let mut others = BTreeMap::new();
    files.iter().any(|file| {
        let Some(part) = split_of_text(file) else {
            return false;
        };
        let name = name_of(file);
        let rest: Vec<&str> = name
            .split(['-', '.', '_'])
            .filter(|word| split_of(word) != Some(part) && word.parse::<u64>().is_err())
            .collect();
        let is_whole = split_of(&name_of(&file.with_extension(""))).is_some();
        is_whole
            || part.contains("matched")
            || *others.entry(rest.join(" ")).or_insert(part) != part
    })
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
