//! The parts of a corpus by the names of folders and files: train, val, test. What names different
//! parts never becomes one set, for validation data would be trained on without a word.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::Modality;
use crate::write::discover::directory::list;
use crate::write::discover::file_names::{
    are_parts, ends_in, first_word_split, name_of, split_of, split_of_text,
};
use crate::{Error, Result};

/// What the names of some folders or files tell.
pub(super) enum SplitNames<'a> {
    /// Each names its part.
    All(Vec<&'static str>),
    /// Some do, of so many different parts; one that does and one that does not.
    Some {
        n_parts: usize,
        named: &'a Path,
        other: &'a Path,
    },
    /// None does, or there are none.
    None,
}

impl<'a> SplitNames<'a> {
    pub(super) fn of(paths: &'a [PathBuf], split: impl Fn(&Path) -> Option<&'static str>) -> Self {
        let splits: Vec<_> = paths.iter().map(|path| split(path)).collect();
        let named = paths.iter().zip(&splits).find(|(_, split)| split.is_some());
        let other = paths.iter().zip(&splits).find(|(_, split)| split.is_none());
        let parts = splits.iter().copied().flatten();
        match (named, other) {
            (Some(_), None) => Self::All(parts.collect()),
            (Some((named, _)), Some((other, _))) => Self::Some {
                n_parts: n_different(&parts.collect::<Vec<_>>()),
                named,
                other,
            },
            (None, _) => Self::None,
        }
    }
}

/// Several sources that are different parts, `train.txt valid.txt`, are as many sets.
pub(super) fn parts_of_sources(
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
            && !are_parts(paths) =>
        {
            Ok(None)
        }
        SplitNames::All(names) if n_different(&names) > 1 => Ok(Some(names)),
        SplitNames::Some {
            n_parts: 2..,
            named,
            other,
        } => Err(half_split(other, named, other)),
        _ => Ok(None),
    }
}

/// The folder that holds parts, this one or one in which it is alone, and how many different ones.
pub(super) fn holder_of_parts(
    folder: &Path,
    modality: Modality,
) -> Result<Option<(PathBuf, usize)>> {
    let (folders, files) = list(folder)?;
    let is_list = |file: &&PathBuf| modality == Modality::Audio && ends_in(file, &[".tsv"]);
    let lists = files.iter().filter(is_list);
    let parts = folders.iter().filter_map(|f| split_of_folder(f, modality));
    let parts: Vec<_> = parts
        .chain(lists.filter_map(|f| first_word_split(f)))
        .collect();
    let n_parts = n_different(&parts);
    match &folders[..] {
        _ if n_parts > 0 => Ok(Some((folder.to_owned(), n_parts))),
        [lone] => holder_of_parts(lone, modality),
        _ => Ok(None),
    }
}

/// `train`; of speech also `train-clean-100`, as LibriSpeech names its parts.
pub(super) fn split_of_folder(folder: &Path, modality: Modality) -> Option<&'static str> {
    let name = name_of(folder);
    match modality {
        Modality::Audio => split_of(name.split('-').next().unwrap_or_default()),
        Modality::Image | Modality::Text => split_of(&name),
    }
}

pub(super) fn n_different(parts: &[&str]) -> usize {
    parts.iter().collect::<BTreeSet<_>>().len()
}

/// Refuses what would all become one set, or classes of one.
pub(super) fn half_split(at: &Path, named: &Path, other: &Path) -> Error {
    Error::Source {
        path: at.to_owned(),
        reason: format!(
            "`{}` names a part and `{}` does not: name those that you mean as sources of their \
             own, one part at a time, or move the others away",
            name_of(named),
            name_of(other)
        ),
    }
}
