//! Detects the splits of a corpus (train, val, test) by the names of folders and files. Different
//! splits never become one dataset: otherwise validation data would be trained on unnoticed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::Modality;
use crate::write::discover::directory::list;
use crate::write::discover::file_names::{
    are_splits, ends_in, first_word_split, name_of, split_of, split_of_text,
};
use crate::{Error, Result};

/// Splits in the names of some folders or files.
pub(super) enum SplitNames<'a> {
    /// Each name is a split, in the order of the paths.
    All(Vec<&'static str>),
    /// Some names are splits: the number of different ones, one name that is a split and one that is
    /// not.
    Some {
        n_splits: usize,
        named: &'a Path,
        other: &'a Path,
    },
    /// No name is a split, or there are no names.
    None,
}

impl<'a> SplitNames<'a> {
    pub(super) fn of(paths: &'a [PathBuf], split: impl Fn(&Path) -> Option<&'static str>) -> Self {
        let splits: Vec<_> = paths.iter().map(|path| split(path)).collect();
        let named = paths.iter().zip(&splits).find(|(_, split)| split.is_some());
        let other = paths.iter().zip(&splits).find(|(_, split)| split.is_none());
        let found = splits.iter().copied().flatten();
        match (named, other) {
            (Some(_), None) => Self::All(found.collect()),
            (Some((named, _)), Some((other, _))) => Self::Some {
                n_splits: n_different(&found.collect::<Vec<_>>()),
                named,
                other,
            },
            (None, _) => Self::None,
        }
    }
}

/// Returns the split of each source if they are different splits, such as `train.txt valid.txt`.
pub(super) fn splits_of_sources(
    paths: &[PathBuf],
    modality: Modality,
) -> Result<Option<Vec<&'static str>>> {
    let split = |path: &Path| match modality {
        _ if path.is_dir() => split_of_folder(path, modality),
        Modality::Text => split_of_text(path),
        Modality::Image | Modality::Audio => first_word_split(path),
    };
    match SplitNames::of(paths, split) {
        _ if modality == Modality::Text
            && paths.iter().all(|p| p.is_file())
            && !are_splits(paths) =>
        {
            Ok(None)
        }
        SplitNames::All(names) if n_different(&names) > 1 => Ok(Some(names)),
        SplitNames::Some {
            n_splits: 2..,
            named,
            other,
        } => Err(split_next_to_other(other, named, other)),
        _ => Ok(None),
    }
}

/// Finds the folder that contains splits, this one or a single folder further down, and returns it
/// with the number of different splits.
pub(super) fn folder_of_splits(
    folder: &Path,
    modality: Modality,
) -> Result<Option<(PathBuf, usize)>> {
    let (folders, files) = list(folder)?;
    let is_list = |file: &&PathBuf| modality == Modality::Audio && ends_in(file, &[".tsv"]);
    let lists = files.iter().filter(is_list);
    let found = folders.iter().filter_map(|f| split_of_folder(f, modality));
    let found: Vec<_> = found
        .chain(lists.filter_map(|f| first_word_split(f)))
        .collect();
    let n_splits = n_different(&found);
    match &folders[..] {
        _ if n_splits > 0 => Ok(Some((folder.to_owned(), n_splits))),
        [lone] => folder_of_splits(lone, modality),
        _ => Ok(None),
    }
}

/// Returns the split of a folder: `train`; for audio also `train-clean-100`, as in LibriSpeech.
pub(super) fn split_of_folder(folder: &Path, modality: Modality) -> Option<&'static str> {
    let name = name_of(folder);
    match modality {
        Modality::Audio => split_of(name.split('-').next().unwrap_or_default()),
        Modality::Image | Modality::Text => split_of(&name),
    }
}

pub(super) fn n_different(found: &[&str]) -> usize {
    found.iter().collect::<BTreeSet<_>>().len()
}

/// Returns the error for a split next to a folder or file that is not one.
pub(super) fn split_next_to_other(at: &Path, named: &Path, other: &Path) -> Error {
    Error::Source {
        path: at.to_owned(),
        reason: format!(
            "found the split `{0}` next to `{1}`, which is not a split\nhint: give each split as its \
             own SOURCE, or move `{1}`",
            name_of(named),
            name_of(other)
        ),
    }
}
