//! Which of the named paths hold what, and which of them are `train` and `val`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::columnar::Columnar;
use super::files::{Files, ORDER_SEED};
use super::recipe::Modality;
use super::source::Source;
use super::speech;
use super::text_file::TextFile;
use super::tsv::Tsv;
use super::webdataset::Tar;
use crate::rng::{Purpose, Rng};
use crate::{Error, Result};

/// A source per set: the key is `train`, `val`, `test`, or none where the source has no parts.
pub(crate) type Sets = BTreeMap<Option<&'static str>, Vec<Source>>;

/// Our names of columns → the source's.
pub(crate) type ColumnMap = BTreeMap<String, String>;

const SHARDS: [&str; 5] = [".parquet", ".arrow", ".tar", ".tar.gz", ".tgz"];
const COLUMNAR: [&str; 2] = [".parquet", ".arrow"];
/// Lists of recordings.
const LISTS: [&str; 3] = [".tsv", ".csv", ".jsonl"];
const TEXTS: [&str; 6] = [".txt", ".text", ".tokens", ".tsv", ".jsonl", ".ndjson"];
/// Files of these names tell about a corpus and are no part of it.
const NOTES: [&str; 4] = ["README", "LICENSE", "COPYING", "ATTRIBUTION"];

/// Sorts the named paths into sets.
pub(crate) fn discover(paths: &[PathBuf], modality: Modality, columns: &ColumnMap) -> Result<Sets> {
    let look = Look { modality, columns };
    let mut sets = Sets::new();
    for path in paths {
        for (set, sources) in look.path(path)? {
            sets.entry(set).or_default().extend(sources);
        }
    }
    if sets.len() > 1 && sets.contains_key(&None) {
        return Err(Error::Source {
            path: paths[0].clone(),
            reason: "some of it is named train or val and some is not: write them one at a time"
                .to_owned(),
        });
    }
    Ok(sets)
}

/// What is looked for.
#[derive(Clone, Copy)]
struct Look<'a> {
    modality: Modality,
    columns: &'a ColumnMap,
}

impl Look<'_> {
    fn path(self, path: &Path) -> Result<Sets> {
        let error = |reason: &str| Error::Source {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let Ok(metadata) = fs::metadata(path) else {
            return Err(error("no such file or folder"));
        };
        if metadata.is_file() {
            if self.modality == Modality::Audio && ends_in(path, &LISTS) {
                return self.list_of_recordings(path);
            }
            let sources = self.file(path)?.ok_or_else(|| error(self.expected()))?;
            return Ok(Sets::from([(None, sources)]));
        }
        let (folders, files) = list(path)?;
        if folders.is_empty() && files.is_empty() {
            return Err(error("an empty folder"));
        }
        if self.modality == Modality::Audio
            && let Some(sets) = self.listed_recordings(path, &files)?
        {
            return Ok(sets);
        }
        let split_names: Option<Vec<_>> = folders.iter().map(|f| self.split_of_folder(f)).collect();
        let Some(names) = split_names.filter(|names| !names.is_empty()) else {
            self.refuse_half_split(path, &folders)?;
            return self.folder(path);
        };
        let mut sets = Sets::new();
        for (folder, name) in folders.iter().zip(names) {
            let sources = self.folder(folder)?.into_values().flatten();
            sets.entry(Some(name)).or_default().extend(sources);
        }
        Ok(sets)
    }

    /// Folders of which one is named train or val and another is not would all become classes.
    fn refuse_half_split(self, path: &Path, folders: &[PathBuf]) -> Result<()> {
        let is_split = |folder: &&PathBuf| self.split_of_folder(folder).is_some();
        let (split, other): (Vec<_>, Vec<_>) = folders.iter().partition(is_split);
        match (split.first(), other.first()) {
            (Some(split), Some(other)) => Err(Error::Source {
                path: path.to_owned(),
                reason: format!(
                    "`{}` names a part and `{}` does not: name the folders that you mean as \
                     sources of their own, or move the others away",
                    name_of(split),
                    name_of(other)
                ),
            }),
            _ => Ok(()),
        }
    }

    fn expected(self) -> &'static str {
        match self.modality {
            Modality::Image => "not a tar, Parquet or Arrow file",
            Modality::Audio => {
                "not a tar, Parquet or Arrow file, nor a list of recordings (.tsv, .csv, .jsonl)"
            }
            Modality::Text => {
                "a tar; texts are read from text files, JSON lines, TSV, Parquet and Arrow"
            }
        }
    }

    /// Recordings by a list: fairseq's `{split}.tsv`, or a manifest.
    fn listed_recordings(self, folder: &Path, files: &[PathBuf]) -> Result<Option<Sets>> {
        let mut sets = Sets::new();
        for file in files.iter().filter(|f| ends_in(f, &[".tsv"])) {
            if let Some(list) = speech::read_fairseq(file)? {
                let list = Source::Files(Files::listed(list));
                sets.entry(first_word_split(file)).or_default().push(list);
            }
        }
        if !sets.is_empty() {
            return Ok(Some(sets));
        }
        let Some(manifest) = speech::MANIFESTS
            .iter()
            .map(|name| folder.join(name))
            .find(|f| f.is_file())
        else {
            return Ok(None);
        };
        Ok(Some(self.manifest(&manifest)?))
    }

    /// The sets of a list that is named itself: one of fairseq's, or those of a manifest.
    fn list_of_recordings(self, path: &Path) -> Result<Sets> {
        if ends_in(path, &[".tsv"])
            && let Some(list) = speech::read_fairseq(path)?
        {
            let list = Source::Files(Files::listed(list));
            return Ok(Sets::from([(None, vec![list])]));
        }
        self.manifest(path)
    }

    /// The sets of a manifest: by its column `split`, or by the first folder of each name.
    fn manifest(self, path: &Path) -> Result<Sets> {
        let list = speech::read_manifest(path, self.columns)?;
        let mut by_split: BTreeMap<Option<&'static str>, speech::List> = BTreeMap::new();
        for (split, utterance) in list.utterances {
            let folder = utterance.name.split('/').next().unwrap_or_default();
            let split = match &split {
                Some(split) => split_of(split),
                None => split_of(folder),
            };
            let part = by_split.entry(split).or_insert_with(|| speech::List {
                root: list.root.clone(),
                utterances: Vec::new(),
            });
            part.utterances.push((None, utterance));
        }
        let sets = by_split.into_iter();
        Ok(sets
            .map(|(split, list)| (split, vec![Source::Files(Files::listed(list))]))
            .collect())
    }

    /// A folder of shards (here or one level down, as on Hugging Face), of texts, or of media.
    fn folder(self, path: &Path) -> Result<Sets> {
        if self.modality == Modality::Text {
            return self.text_folder(path);
        }
        let (folders, mut files) = list(path)?;
        files.retain(|f| ends_in(f, &SHARDS));
        for folder in &folders {
            files.extend(list(folder)?.1.into_iter().filter(|f| ends_in(f, &SHARDS)));
        }
        files.sort();
        refuse_mixture(path, &folders, &files)?;
        if files.is_empty() {
            let folder = Source::Files(Files::folder(path, self.modality)?);
            return Ok(Sets::from([(None, vec![folder])]));
        }
        let mut sets = Sets::new();
        for file in files {
            let sources = self.file(&file)?.ok_or_else(|| Error::Source {
                path: file.clone(),
                reason: "its name says tar, Parquet or Arrow, its content does not".to_owned(),
            })?;
            // Hugging Face names the parts in the files: train-00000-of-00002.parquet.
            sets.entry(first_word_split(&file))
                .or_default()
                .extend(sources);
        }
        Ok(sets)
    }

    /// All files of texts below a folder. They become several sets only where each names its own.
    fn text_folder(self, root: &Path) -> Result<Sets> {
        let mut files = Vec::new();
        let walk = walkdir::WalkDir::new(root)
            .follow_links(true)
            .sort_by_file_name();
        let shown = |e: &walkdir::DirEntry| e.depth() == 0 || !is_hidden(e.file_name());
        for entry in walk.into_iter().filter_entry(shown) {
            let entry = entry.map_err(|error| Error::Io {
                path: error.path().unwrap_or(root).to_owned(),
                source: error.into(),
            })?;
            let path = entry.path();
            let text = ends_in(path, &TEXTS) || ends_in(path, &COLUMNAR);
            if entry.file_type().is_file() && text && !is_note(path) {
                files.push(entry.into_path());
            }
        }
        if files.is_empty() {
            return Err(Error::Source {
                path: root.to_owned(),
                reason: format!(
                    "no texts in it: none of {} {}",
                    TEXTS.join(" "),
                    COLUMNAR.join(" ")
                ),
            });
        }
        let splits: Option<Vec<_>> = files.iter().map(|f| split_of_text(f)).collect();
        // Authors or chapters in alphabetical order would make row groups of one kind.
        let mut order: Vec<_> = (0..files.len()).collect();
        Rng::for_name(ORDER_SEED, Purpose::Order, "texts").shuffle(&mut order);
        let mut sets = Sets::new();
        for i in order {
            let split = splits.as_ref().map(|splits| splits[i]);
            let sources = self.file(&files[i])?.into_iter().flatten();
            sets.entry(split).or_default().extend(sources);
        }
        Ok(sets)
    }

    /// Tells a file's kind by its first bytes, and texts by their names; `None` where it is none
    /// that holds such samples.
    fn file(self, path: &Path) -> Result<Option<Vec<Source>>> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let mut head = Vec::new();
        File::open(path)
            .map_err(io)?
            .take(512)
            .read_to_end(&mut head)
            .map_err(io)?;
        if let Some(file) = Columnar::open(path, &head, self.modality, self.columns) {
            return Ok(Some(vec![Source::Columnar(file)]));
        }
        let tar = Tar::open(path, &head, self.modality, self.columns);
        Ok(match (self.modality, tar) {
            (Modality::Image | Modality::Audio, Some(tar)) => Some(vec![Source::Tar(tar)]),
            (Modality::Text, Some(_)) | (Modality::Image | Modality::Audio, None) => None,
            (Modality::Text, None) if ends_in(path, &[".tsv"]) => {
                Some(vec![Source::Tsv(Tsv::open(path, self.columns)?)])
            }
            (Modality::Text, None) => Some(vec![Source::Text(TextFile::open(path, self.columns))]),
        })
    }

    /// `train`; of speech also `train-clean-100`, as LibriSpeech names its parts.
    fn split_of_folder(self, folder: &Path) -> Option<&'static str> {
        let name = name_of(folder);
        match self.modality {
            Modality::Audio => split_of(name.split('-').next().unwrap_or_default()),
            Modality::Image | Modality::Text => split_of(&name),
        }
    }
}

/// Shards beside folders of other files, a downloaded archive beside what came out of it say:
/// either could be meant.
fn refuse_mixture(path: &Path, folders: &[PathBuf], shards: &[PathBuf]) -> Result<()> {
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
                "holds both `{}` and `{}/{}`: name the one that you mean as the source",
                name_of(shard),
                name_of(folder),
                name_of(other)
            ),
        });
    }
    Ok(())
}

/// Folders and files of a folder, sorted, without hidden ones.
fn list(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.path();
        if is_hidden(entry.file_name().unwrap_or_default()) {
            continue;
        }
        if entry.is_dir() {
            folders.push(entry);
        } else {
            files.push(entry);
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

/// Names that systems leave in folders of media: `.DS_Store`, `._1.jpg`, `Thumbs.db`.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || ["Thumbs.db", "desktop.ini"].contains(&name.as_ref())
}

/// Whether a file's name has one of these ends, in any case.
pub(crate) fn ends_in(path: &Path, ends: &[&str]) -> bool {
    let name = name_of(path).to_lowercase();
    ends.iter().any(|end| name.ends_with(end))
}

fn is_note(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    NOTES.contains(&stem.to_uppercase().as_str())
}

fn split_of(name: &str) -> Option<&'static str> {
    match name {
        "train" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("val"),
        "test" => Some("test"),
        _ => None,
    }
}

fn first_word_split(path: &Path) -> Option<&'static str> {
    split_of(
        name_of(path)
            .split(['-', '.', '_'])
            .next()
            .unwrap_or_default(),
    )
}

/// `train.txt`, `wiki.valid.tokens`, and MNLI's two: `dev_matched.tsv`, `dev_mismatched.tsv`.
fn split_of_text(path: &Path) -> Option<&'static str> {
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

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
