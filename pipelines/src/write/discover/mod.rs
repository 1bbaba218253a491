//! Finds the kind of each source path, and the split (`train`, `val`, `test`) it belongs to.

pub(crate) mod directory;
pub(crate) mod file_names;
mod splits;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Modality;
use crate::rng::{Purpose, Rng};
use crate::write::discover::directory::{SHARDS, Sorted, list, refuse_mixture, walk, why_no_file};
use crate::write::discover::file_names::{
    are_splits, ends_in, first_word_split, is_compressed, split_of, split_of_text,
};
use crate::write::discover::splits::{
    SplitNames, folder_of_splits, n_different, split_next_to_other, split_of_folder,
    splits_of_sources,
};
use crate::write::sample::ColumnMap;
use crate::write::source::SampleSource;

use crate::write::source::audio_manifest::{MANIFESTS, read_manifest};
use crate::write::source::columnar::Columnar;
use crate::write::source::files::{FileList, ORDER_SEED};
use crate::write::source::glue::GlueTable;
use crate::write::source::speech_corpora::{UtteranceList, read_fairseq};
use crate::write::source::text::TextFile;
use crate::write::source::webdataset::Tar;
use crate::{Error, Result};

/// Sources by split: the key is `train`, `val`, `test`, or `None` if the source has no splits.
pub(crate) type SourcesBySplit = BTreeMap<Option<&'static str>, Vec<SampleSource>>;

const COLUMNAR: [&str; 2] = [".parquet", ".arrow"];
/// Name endings of audio lists.
const LISTS: [&str; 3] = [".tsv", ".csv", ".jsonl"];
const TEXTS: [&str; 6] = [".txt", ".text", ".tokens", ".tsv", ".jsonl", ".ndjson"];

/// Sorts the paths by split, and returns the number of ignored files.
pub(crate) fn discover(
    paths: &[PathBuf],
    modality: Modality,
    columns: &ColumnMap,
) -> Result<(SourcesBySplit, u64)> {
    let scanner = SourceScanner {
        modality,
        columns,
        ignored: Cell::new(0),
    };
    let splits = splits_of_sources(paths, modality)?;
    let mut sources_by_split = SourcesBySplit::new();
    for (i, path) in paths.iter().enumerate() {
        for (split, sources) in scanner.path(path)? {
            let split = split.or_else(|| Some(splits.as_ref()?[i]));
            sources_by_split.entry(split).or_default().extend(sources);
        }
    }
    if sources_by_split.len() > 1 && sources_by_split.contains_key(&None) {
        return Err(Error::Source {
            path: paths[0].clone(),
            reason:
                "some sources are splits (train, val) and some are not\nhint: write them separately"
                    .to_owned(),
        });
    }
    Ok((sources_by_split, scanner.ignored.get()))
}

/// Scans paths for sources of one modality.
struct SourceScanner<'a> {
    modality: Modality,
    columns: &'a ColumnMap,
    /// Number of files ignored so far.
    ignored: Cell<u64>,
}

impl SourceScanner<'_> {
    fn path(&self, path: &Path) -> Result<SourcesBySplit> {
        let error = |reason: &str| Error::Source {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let Ok(metadata) = fs::metadata(path) else {
            return Err(error("no such file or folder"));
        };
        if metadata.is_file() {
            if self.modality == Modality::Audio && ends_in(path, &LISTS) {
                return self.audio_list(path);
            }
            let sources = self.file(path)?.ok_or_else(|| error(self.expected()))?;
            return Ok(SourcesBySplit::from([(None, sources)]));
        }
        let (folders, files) = list(path)?;
        if folders.is_empty() && files.is_empty() {
            return Err(error("empty folder"));
        }
        if self.modality == Modality::Audio
            && let Some(sources_by_split) = self.audio_lists_in(path, &files)?
        {
            return Ok(sources_by_split);
        }
        match SplitNames::of(&folders, |folder| split_of_folder(folder, self.modality)) {
            SplitNames::All(names) => {
                self.ignore(files.len());
                let mut sources_by_split = SourcesBySplit::new();
                for (folder, name) in folders.iter().zip(names) {
                    let sources = self.folder(folder)?.into_values().flatten();
                    sources_by_split
                        .entry(Some(name))
                        .or_default()
                        .extend(sources);
                }
                Ok(sources_by_split)
            }
            SplitNames::Some { named, other, .. } => Err(split_next_to_other(path, named, other)),
            SplitNames::None => self.splits_further_down(path, &folders, &files),
        }
    }

    /// Looks for splits further down: an archive often unpacks to a single folder (`dataset/train`).
    /// Refuses splits in several folders, which would become classes that mix all splits.
    fn splits_further_down(
        &self,
        path: &Path,
        folders: &[PathBuf],
        files: &[PathBuf],
    ) -> Result<SourcesBySplit> {
        let is_read = |file: &PathBuf| match self.modality {
            Modality::Text => ends_in(file, &TEXTS) || ends_in(file, &COLUMNAR),
            Modality::Image | Modality::Audio => ends_in(file, &SHARDS),
        };
        let is_alone = folders.len() == 1 && !files.iter().any(is_read);
        for folder in folders {
            let Some((folder, n_splits)) = folder_of_splits(folder, self.modality)? else {
                continue;
            };
            if is_alone {
                self.ignore(files.len());
                return self.path(&folder);
            }
            if n_splits > 1 {
                return Err(Error::Source {
                    path: folder,
                    reason: "contains the splits of a corpus\nhint: give it as a SOURCE of its own"
                        .to_owned(),
                });
            }
        }
        self.folder(path)
    }

    fn ignore(&self, n_files: usize) {
        self.ignored.set(self.ignored.get() + n_files as u64);
    }

    fn expected(&self) -> &'static str {
        match self.modality {
            Modality::Image => "not a tar, Parquet or Arrow file",
            Modality::Audio => {
                "not a tar, Parquet or Arrow file, nor a list of audio files (.tsv, .csv, .jsonl)"
            }
            Modality::Text => {
                "unsupported: a tar or a compressed file\nhint: unpack it first; texts are read from text \
                 files, JSON lines, TSV, Parquet and Arrow"
            }
        }
    }

    /// Finds lists of audio files in a folder: fairseq's `{split}.tsv`, or a manifest.
    fn audio_lists_in(&self, folder: &Path, files: &[PathBuf]) -> Result<Option<SourcesBySplit>> {
        let mut sources_by_split = SourcesBySplit::new();
        for file in files.iter().filter(|f| ends_in(f, &[".tsv"])) {
            if let Some(list) = read_fairseq(file)? {
                let list = SampleSource::Files(FileList::listed(list));
                sources_by_split
                    .entry(first_word_split(file))
                    .or_default()
                    .push(list);
            }
        }
        if !sources_by_split.is_empty() {
            return Ok(Some(sources_by_split));
        }
        let Some(manifest) = MANIFESTS
            .iter()
            .map(|name| folder.join(name))
            .find(|f| f.is_file())
        else {
            return Ok(None);
        };
        Ok(Some(self.manifest(&manifest)?))
    }

    /// Reads a list that is itself a source: fairseq's, or a manifest.
    fn audio_list(&self, path: &Path) -> Result<SourcesBySplit> {
        if ends_in(path, &[".tsv"])
            && let Some(list) = read_fairseq(path)?
        {
            let list = SampleSource::Files(FileList::listed(list));
            return Ok(SourcesBySplit::from([(None, vec![list])]));
        }
        self.manifest(path)
    }

    /// Reads a manifest, by split: its column `split`, or the first folder of each name.
    fn manifest(&self, path: &Path) -> Result<SourcesBySplit> {
        let list = read_manifest(path, self.columns)?;
        let mut by_split: BTreeMap<Option<&'static str>, UtteranceList> = BTreeMap::new();
        for (split, utterance) in list.utterances {
            let folder = utterance.name.split('/').next().unwrap_or_default();
            let split = match &split {
                Some(split) => split_of(split),
                None => split_of(folder),
            };
            let list_of_split = by_split.entry(split).or_insert_with(|| UtteranceList {
                root: list.root.clone(),
                utterances: Vec::new(),
            });
            list_of_split.utterances.push((None, utterance));
        }
        let lists = by_split.into_iter();
        Ok(lists
            .map(|(split, list)| (split, vec![SampleSource::Files(FileList::listed(list))]))
            .collect())
    }

    /// Scans a folder of shards (here or one level down, as on Hugging Face), of texts, or of media.
    fn folder(&self, path: &Path) -> Result<SourcesBySplit> {
        if self.modality == Modality::Text {
            return self.text_folder(path);
        }
        let (folders, files) = list(path)?;
        let mut sorted = Sorted::default();
        for file in files {
            sorted.add(file, &SHARDS);
        }
        for folder in &folders {
            for file in list(folder)?.1 {
                sorted.add(file, &SHARDS);
            }
        }
        sorted.refuse_compressed(path)?;
        let mut files = sorted.read;
        files.sort();
        refuse_mixture(path, &folders, &files)?;
        if files.is_empty() {
            let folder = SampleSource::Files(FileList::folder(path, self.modality)?);
            return Ok(SourcesBySplit::from([(None, vec![folder])]));
        }
        self.ignore(sorted.ignored);
        let mut sources_by_split = SourcesBySplit::new();
        for file in files {
            let sources = self.file(&file)?.ok_or_else(|| Error::Source {
                path: file.clone(),
                reason: "not a tar, Parquet or Arrow file, despite its name".to_owned(),
            })?;
            // Hugging Face has the split in the file name: train-00000-of-00002.parquet.
            sources_by_split
                .entry(first_word_split(&file))
                .or_default()
                .extend(sources);
        }
        Ok(sources_by_split)
    }

    /// Finds all text files below a folder, by split if each file name has one.
    fn text_folder(&self, root: &Path) -> Result<SourcesBySplit> {
        let ends = [&TEXTS[..], &COLUMNAR].concat();
        let mut sorted = Sorted::default();
        for file in walk(root) {
            let (_, path, bytes) = file?;
            // A text file holds many samples, so it is not skipped as an image is.
            if bytes.is_none() && ends_in(&path, &ends) {
                return Err(Error::Source {
                    reason: format!("{}\nhint: fix or remove it", why_no_file(&path)),
                    path,
                });
            }
            sorted.add(path, &ends);
        }
        sorted.refuse_compressed(root)?;
        self.ignore(sorted.ignored);
        let files = sorted.read;
        if files.is_empty() {
            return Err(Error::Source {
                path: root.to_owned(),
                reason: format!("no text files found (none of {})", ends.join(" ")),
            });
        }
        let splits = match SplitNames::of(&files, split_of_text) {
            SplitNames::All(splits) if n_different(&splits) == 1 || are_splits(&files) => {
                Some(splits)
            }
            SplitNames::Some { named, other, .. } if are_splits(&files) => {
                return Err(split_next_to_other(root, named, other));
            }
            _ => None,
        };
        // Authors or chapters in alphabetical order would make row groups of one kind.
        let mut order: Vec<_> = (0..files.len()).collect();
        Rng::for_name(ORDER_SEED, Purpose::Order, "texts").shuffle(&mut order);
        let mut sources_by_split = SourcesBySplit::new();
        for i in order {
            let split = splits.as_ref().map(|splits| splits[i]);
            let sources = self.file(&files[i])?.ok_or_else(|| Error::Source {
                path: files[i].clone(),
                reason: self.expected().to_owned(),
            })?;
            sources_by_split.entry(split).or_default().extend(sources);
        }
        Ok(sources_by_split)
    }

    /// Detects a file's kind by its first bytes, and texts by their names. `None` if it cannot hold
    /// samples of this modality.
    fn file(&self, path: &Path) -> Result<Option<Vec<SampleSource>>> {
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
            return Ok(Some(vec![SampleSource::Columnar(file)]));
        }
        let tar = Tar::open(path, &head, self.modality, self.columns);
        Ok(match (self.modality, tar) {
            (Modality::Image | Modality::Audio, Some(tar)) => Some(vec![SampleSource::Tar(tar)]),
            (Modality::Text, Some(_)) | (Modality::Image | Modality::Audio, None) => None,
            (Modality::Text, None) if is_compressed(path) => None,
            (Modality::Text, None) if ends_in(path, &[".tsv"]) => {
                Some(vec![SampleSource::GlueTable(GlueTable::open(
                    path,
                    self.columns,
                )?)])
            }
            (Modality::Text, None) => {
                Some(vec![SampleSource::Text(TextFile::open(path, self.columns))])
            }
        })
    }
}
