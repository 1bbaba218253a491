//! The parts of a corpus by the names of folders and files: train, val, test. What names different
//! parts never becomes one set, for validation data would be trained on without a word.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::names::name_of;
use crate::Error;

/// What the names of some folders or files tell.
pub(super) enum Parts<'a> {
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

impl<'a> Parts<'a> {
    pub(super) fn of(paths: &'a [PathBuf], split: impl Fn(&Path) -> Option<&'static str>) -> Self {
        let splits: Vec<_> = paths.iter().map(|path| split(path)).collect();
        let named = paths.iter().zip(&splits).find(|(_, split)| split.is_some());
        let other = paths.iter().zip(&splits).find(|(_, split)| split.is_none());
        let parts = splits.iter().copied().flatten();
        match (named, other) {
            (Some(_), None) => Self::All(parts.collect()),
            (Some((named, _)), Some((other, _))) => Self::Some {
                n_parts: n_different(parts),
                named,
                other,
            },
            (None, _) => Self::None,
        }
    }
}

pub(super) fn n_different(parts: impl Iterator<Item = &'static str>) -> usize {
    parts.collect::<BTreeSet<_>>().len()
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
