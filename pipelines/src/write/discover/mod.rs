//! Which of the named paths hold what, and which of them are `train` and `val`.

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
    are_parts, ends_in, first_word_split, is_compressed, split_of, split_of_text,
};
use crate::write::discover::splits::{
    SplitNames, half_split, holder_of_parts, n_different, parts_of_sources, split_of_folder,
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

/// A source per set: the key is `train`, `val`, `test`, or none where the source has no parts.
pub(crate) type SourcesBySplit = BTreeMap<Option<&'static str>, Vec<SampleSource>>;

const COLUMNAR: [&str; 2] = [".parquet", ".arrow"];
/// Lists of recordings.
const LISTS: [&str; 3] = [".tsv", ".csv", ".jsonl"];
const TEXTS: [&str; 6] = [".txt", ".text", ".tokens", ".tsv", ".jsonl", ".ndjson"];

/// Sorts the named paths into sets, and counts the files on the way that are left out.
pub(crate) fn discover(
    paths: &[PathBuf],
    modality: Modality,
    columns: &ColumnMap,
) -> Result<(SourcesBySplit, u64)> {
    let look = SourceScanner {
        modality,
        columns,
        ignored: Cell::new(0),
    };
    let parts = parts_of_sources(paths, modality)?;
    let mut sets = SourcesBySplit::new();
    for (i, path) in paths.iter().enumerate() {
        for (set, sources) in look.path(path)? {
            let set = set.or_else(|| Some(parts.as_ref()?[i]));
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
    Ok((sets, look.ignored.get()))
}

/// What is looked for.
struct SourceScanner<'a> {
    modality: Modality,
    columns: &'a ColumnMap,
    /// FileList that are left out, so far.
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
                return self.list_of_recordings(path);
            }
            let sources = self.file(path)?.ok_or_else(|| error(self.expected()))?;
            return Ok(SourcesBySplit::from([(None, sources)]));
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
        match SplitNames::of(&folders, |folder| split_of_folder(folder, self.modality)) {
            SplitNames::All(names) => {
                self.ignore(files.len());
                let mut sets = SourcesBySplit::new();
                for (folder, name) in folders.iter().zip(names) {
                    let sources = self.folder(folder)?.into_values().flatten();
                    sets.entry(Some(name)).or_default().extend(sources);
                }
                Ok(sets)
            }
            SplitNames::Some { named, other, .. } => Err(half_split(path, named, other)),
            SplitNames::None => self.parts_further_down(path, &folders, &files),
        }
    }

    /// An archive unpacks to a lone folder, which may hold the parts: `dataset/train`. Those of
    /// several folders would become classes, of which each holds all parts.
    fn parts_further_down(
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
            let Some((holder, n_parts)) = holder_of_parts(folder, self.modality)? else {
                continue;
            };
            if is_alone {
                self.ignore(files.len());
                return self.path(&holder);
            }
            if n_parts > 1 {
                return Err(Error::Source {
                    path: holder,
                    reason: "holds the parts of a corpus: name it, and others that you mean, as \
                             sources of their own"
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
                "not a tar, Parquet or Arrow file, nor a list of recordings (.tsv, .csv, .jsonl)"
            }
            Modality::Text => {
                "a tar or compressed, unpack it first; texts are read from text files, JSON lines, \
                 TSV, Parquet and Arrow"
            }
        }
    }

    /// Recordings by a list: fairseq's `{split}.tsv`, or a manifest.
    fn listed_recordings(
        &self,
        folder: &Path,
        files: &[PathBuf],
    ) -> Result<Option<SourcesBySplit>> {
        let mut sets = SourcesBySplit::new();
        for file in files.iter().filter(|f| ends_in(f, &[".tsv"])) {
            if let Some(list) = read_fairseq(file)? {
                let list = SampleSource::Files(FileList::listed(list));
                sets.entry(first_word_split(file)).or_default().push(list);
            }
        }
        if !sets.is_empty() {
            return Ok(Some(sets));
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

    /// The sets of a list that is named itself: one of fairseq's, or those of a manifest.
    fn list_of_recordings(&self, path: &Path) -> Result<SourcesBySplit> {
        if ends_in(path, &[".tsv"])
            && let Some(list) = read_fairseq(path)?
        {
            let list = SampleSource::Files(FileList::listed(list));
            return Ok(SourcesBySplit::from([(None, vec![list])]));
        }
        self.manifest(path)
    }

    /// The sets of a manifest: by its column `split`, or by the first folder of each name.
    fn manifest(&self, path: &Path) -> Result<SourcesBySplit> {
        let list = read_manifest(path, self.columns)?;
        let mut by_split: BTreeMap<Option<&'static str>, UtteranceList> = BTreeMap::new();
        for (split, utterance) in list.utterances {
            let folder = utterance.name.split('/').next().unwrap_or_default();
            let split = match &split {
                Some(split) => split_of(split),
                None => split_of(folder),
            };
            let part = by_split.entry(split).or_insert_with(|| UtteranceList {
                root: list.root.clone(),
                utterances: Vec::new(),
            });
            part.utterances.push((None, utterance));
        }
        let sets = by_split.into_iter();
        Ok(sets
            .map(|(split, list)| (split, vec![SampleSource::Files(FileList::listed(list))]))
            .collect())
    }

    /// A folder of shards (here or one level down, as on Hugging Face), of texts, or of media.
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
        let mut sets = SourcesBySplit::new();
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

    /// All files of texts below a folder: a set for each part if each names its own.
    fn text_folder(&self, root: &Path) -> Result<SourcesBySplit> {
        let ends = [&TEXTS[..], &COLUMNAR].concat();
        let mut sorted = Sorted::default();
        for file in walk(root) {
            let (_, path, bytes) = file?;
            // A text holds many samples: it is not passed over as a picture is.
            if bytes.is_none() && ends_in(&path, &ends) {
                return Err(Error::Source {
                    reason: format!("{}; mend or remove it", why_no_file(&path)),
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
                reason: format!("no texts in it: none of {}", ends.join(" ")),
            });
        }
        let splits = match SplitNames::of(&files, split_of_text) {
            SplitNames::All(splits) if n_different(&splits) == 1 || are_parts(&files) => {
                Some(splits)
            }
            SplitNames::Some { named, other, .. } if are_parts(&files) => {
                return Err(half_split(root, named, other));
            }
            _ => None,
        };
        // Authors or chapters in alphabetical order would make row groups of one kind.
        let mut order: Vec<_> = (0..files.len()).collect();
        Rng::for_name(ORDER_SEED, Purpose::Order, "texts").shuffle(&mut order);
        let mut sets = SourcesBySplit::new();
        for i in order {
            let split = splits.as_ref().map(|splits| splits[i]);
            let sources = self.file(&files[i])?.ok_or_else(|| Error::Source {
                path: files[i].clone(),
                reason: self.expected().to_owned(),
            })?;
            sets.entry(split).or_default().extend(sources);
        }
        Ok(sets)
    }

    /// Tells a file's kind by its first bytes, and texts by their names; `None` where it is none
    /// that holds such samples.
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
