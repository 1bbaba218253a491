//! `root/<class>/**/*.jpg`: the folder's name is the label. A folder of pictures without folders
//! is a source without labels.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::source::{Body, RawLabel, RawSample, Sink, Survey, is_hidden};
use crate::{Error, Result};

/// A folder with a folder per class.
#[derive(Debug)]
pub(crate) struct ClassFolder {
    root: PathBuf,
    classes: Vec<String>,
}

impl ClassFolder {
    /// Reads the classes: the names of the folders in `root`.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            path: root.to_owned(),
            source,
        };
        let mut classes = Vec::new();
        for entry in std::fs::read_dir(root).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && !is_hidden(name) {
                classes.push(name.to_string_lossy().into_owned());
            }
        }
        classes.sort();
        Ok(Self {
            root: root.to_owned(),
            classes,
        })
    }

    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        for class in &self.classes {
            survey.labels.name(class);
        }
        for file in self.files() {
            let (name, path, bytes) = file?;
            survey.hash_file(&name, bytes);
            if self.is_sample(&name, &path) {
                survey.samples += 1;
            } else {
                survey.ignored += 1;
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, mut skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        for file in self.files() {
            let (name, path, bytes) = file?;
            if !self.is_sample(&name, &path) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let label = match name.split_once('/') {
                Some((class, _)) => RawLabel::Name(class.to_owned()),
                None => RawLabel::None,
            };
            let place = path.display().to_string();
            let sample = RawSample {
                place,
                path: Some(name),
                body: Body::File(path, bytes),
                label,
            };
            if sink(sample).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(skip))
    }

    /// Hidden files are no samples, nor is what lies beside class folders (a list, a licence).
    fn is_sample(&self, name: &str, path: &Path) -> bool {
        !is_hidden(path.file_name().unwrap_or_default())
            && (self.classes.is_empty() || name.contains('/'))
    }

    /// Name relative to the root with `/`, path, and size of each file, sorted within each folder:
    /// only one folder's names are held at a time.
    fn files(&self) -> impl Iterator<Item = Result<(String, PathBuf, u64)>> {
        let not_hidden =
            |e: &DirEntry| e.depth() == 0 || !e.path().is_dir() || !is_hidden(e.file_name());
        let walk = WalkDir::new(&self.root)
            .min_depth(1)
            .follow_links(true)
            .sort_by_file_name();
        walk.into_iter()
            .filter_entry(not_hidden)
            .filter_map(|entry| self.file(entry).transpose())
    }

    fn file(&self, entry: walkdir::Result<DirEntry>) -> Result<Option<(String, PathBuf, u64)>> {
        let fault = |error: walkdir::Error| Error::Io {
            path: error.path().unwrap_or(&self.root).to_owned(),
            source: error.into(),
        };
        let entry = entry.map_err(fault)?;
        if !entry.file_type().is_file() {
            return Ok(None);
        }
        let bytes = entry.metadata().map_err(fault)?.len();
        let relative = entry
            .path()
            .strip_prefix(&self.root)
            .unwrap_or(entry.path());
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        Ok(Some((parts.join("/"), entry.into_path(), bytes)))
    }
}
