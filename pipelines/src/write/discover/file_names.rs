//! Classifies files and folders by name: hidden, a note, compressed, train or val.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::Modality;

/// Name endings of audio files.
pub(crate) const AUDIO: [&str; 10] = [
    ".flac", ".wav", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".wave",
];
/// Usual name endings of images; images are detected by their bytes.
const IMAGES: [&str; 8] = [
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
];
/// Names of files that describe a corpus and are not data.
const NOTES: [&str; 4] = ["README", "LICENSE", "COPYING", "ATTRIBUTION"];
const COMPRESSED: [&str; 6] = [".gz", ".zst", ".xz", ".bz2", ".lz4", ".zip"];

/// Names of files and folders that operating systems leave: Windows, macOS zips, Synology.
const SYSTEM: [&str; 4] = ["Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"];

/// Tests for names that are never data: `.DS_Store`, `._1.jpg`, `Thumbs.db`.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || SYSTEM.contains(&name.as_ref())
}

/// Tests for one of these name endings, ignoring case.
pub(crate) fn ends_in(path: &Path, endings: &[&str]) -> bool {
    let name = name_of(path).to_lowercase();
    endings.iter().any(|end| name.ends_with(end))
}

/// Returns the modality of a file by its name; `None` if the name does not show it.
pub(crate) fn modality_of(path: &Path) -> Option<Modality> {
    if ends_in(path, &AUDIO) {
        Some(Modality::Audio)
    } else if ends_in(path, &IMAGES) {
        Some(Modality::Image)
    } else {
        None
    }
}

pub(crate) fn is_note(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    NOTES.contains(&stem.to_uppercase().as_str())
}

/// Tests for a compressed file, by its name.
pub(crate) fn is_compressed(path: &Path) -> bool {
    ends_in(path, &COMPRESSED)
}

/// Returns the split that a word names, ignoring case.
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

/// Returns the split of a text file: `train.txt`, `wiki.valid.tokens`, and MNLI's two,
/// `dev_matched.tsv` and `dev_mismatched.tsv`.
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

/// Tests whether text files with such words in their names are splits of one corpus rather than books
/// with such titles: a name is only the split (`train.txt`), or two names differ only in the split and
/// in numbers (`wiki.train.tokens`, `wiki.valid.tokens`).
pub(crate) fn are_splits(files: &[PathBuf]) -> bool {
    let mut others = BTreeMap::new();
    files.iter().any(|file| {
        let Some(split) = split_of_text(file) else {
            return false;
        };
        let name = name_of(file);
        let rest: Vec<&str> = name
            .split(['-', '.', '_'])
            .filter(|word| split_of(word) != Some(split) && word.parse::<u64>().is_err())
            .collect();
        let is_only_split = split_of(&name_of(&file.with_extension(""))).is_some();
        is_only_split
            || split.contains("matched")
            || *others.entry(rest.join(" ")).or_insert(split) != split
    })
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
