//! What people have, and how it becomes sets: which paths hold what, and which of them are `train`
//! and `val`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::class_folder::ClassFolder;
use super::columnar::Columnar;
use super::labels::SeenLabels;
use super::webdataset::Tar;
use crate::{Error, Result, SampleError};

/// One sample as its source has it.
#[derive(Debug)]
pub(crate) struct RawSample {
    /// Where it is, for the quarantine file: `train/rose/1.jpg`, `x.tar:0001.jpg`, `x.parquet#7`.
    pub(crate) place: String,
    /// The name that goes into the row.
    pub(crate) path: Option<String>,
    /// The encoded picture.
    pub(crate) body: Body,
    /// Its label, in the source's own terms.
    pub(crate) label: RawLabel,
}

/// The encoded picture, or where it is.
#[derive(Debug)]
pub(crate) enum Body {
    /// A file, read by the thread that checks the picture; its size in bytes.
    File(PathBuf, u64),
    /// Bytes that had to be read on the way.
    Bytes(Vec<u8>),
    /// There are none, and why.
    Bad(SampleError),
}

/// A label in the source's own terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawLabel {
    /// None given.
    None,
    /// A number that the source gives no name.
    Index(i64),
    /// A class name.
    Name(String),
    /// Something that cannot be a label.
    Bad(String),
}

/// Takes samples one after another; breaks when no more are wanted.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(RawSample) -> ControlFlow<()>;

/// What a first pass over a source's names (not its pictures) tells.
#[derive(Default)]
pub(crate) struct Survey {
    /// Samples, good and bad.
    pub(crate) samples: u64,
    /// Files that are no samples and are left out: hidden ones, those beside class folders.
    pub(crate) ignored: u64,
    /// Labels met.
    pub(crate) labels: SeenLabels,
    /// Names and sizes so far: a changed source gives another number.
    pub(crate) hash: Xxh3,
}

impl Survey {
    /// Adds a file's name and size to the fingerprint.
    pub(crate) fn hash_file(&mut self, name: &str, bytes: u64) {
        self.hash.update(&(name.len() as u64).to_le_bytes());
        self.hash.update(name.as_bytes());
        self.hash.update(&bytes.to_le_bytes());
    }
}

/// One piece of a set's source.
#[derive(Debug)]
pub(crate) enum Source {
    /// A folder with a folder per class, or with pictures alone.
    Folder(ClassFolder),
    /// A WebDataset tar.
    Tar(Tar),
    /// A Parquet or Arrow IPC file.
    Columnar(Columnar),
}

impl Source {
    /// Adds what this source holds to `survey`, without reading a picture.
    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.survey(survey),
            Self::Tar(tar) => tar.survey(survey),
            Self::Columnar(file) => file.survey(survey),
        }
    }

    /// Gives the samples to `sink` in their fixed order, after the first `skip`; returns how many
    /// of `skip` are still to be skipped in the next source.
    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        match self {
            Self::Folder(folder) => folder.read(skip, sink),
            Self::Tar(tar) => tar.read(skip, sink),
            Self::Columnar(file) => file.read(skip, sink),
        }
    }
}

/// A source per set: the key is `train`, `val`, `test`, or none where the source has no parts.
pub(crate) type Sets = BTreeMap<Option<&'static str>, Vec<Source>>;

/// Sorts the named paths into sets. `columns` maps our names of columns to the source's.
pub(crate) fn discover(paths: &[PathBuf], columns: &BTreeMap<String, String>) -> Result<Sets> {
    let mut sets = Sets::new();
    for path in paths {
        discover_path(path, columns, &mut sets)?;
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

fn discover_path(path: &Path, columns: &BTreeMap<String, String>, sets: &mut Sets) -> Result<()> {
    let error = |reason: String| Error::Source {
        path: path.to_owned(),
        reason,
    };
    let Ok(metadata) = fs::metadata(path) else {
        return Err(error("no such file or folder".to_owned()));
    };
    if metadata.is_file() {
        let source = open_file(path, columns)?
            .ok_or_else(|| error("not a tar, Parquet or Arrow file".to_owned()))?;
        sets.entry(None).or_default().push(source);
        return Ok(());
    }
    let (folders, files) = list(path)?;
    if folders.is_empty() && files.is_empty() {
        return Err(error("an empty folder".to_owned()));
    }
    let split_names: Option<Vec<_>> = folders.iter().map(|f| split_of(&name_of(f))).collect();
    if let Some(names) = split_names.filter(|names| !names.is_empty()) {
        for (folder, name) in folders.iter().zip(names) {
            for source in open_folder(folder, columns)?.into_values().flatten() {
                sets.entry(Some(name)).or_default().push(source);
            }
        }
        return Ok(());
    }
    for (name, sources) in open_folder(path, columns)? {
        sets.entry(name).or_default().extend(sources);
    }
    Ok(())
}

/// A folder of shards (here or one level down, as on Hugging Face), or of pictures.
fn open_folder(path: &Path, columns: &BTreeMap<String, String>) -> Result<Sets> {
    let (folders, mut files) = list(path)?;
    files.retain(|f| is_shard_name(f));
    for folder in &folders {
        files.extend(list(folder)?.1.into_iter().filter(|f| is_shard_name(f)));
    }
    files.sort();
    if files.is_empty() {
        let folder = Source::Folder(ClassFolder::open(path)?);
        return Ok(Sets::from([(None, vec![folder])]));
    }
    let mut sets = Sets::new();
    for file in files {
        let source = open_file(&file, columns)?.ok_or_else(|| Error::Source {
            path: file.clone(),
            reason: "its name says tar, Parquet or Arrow, its content does not".to_owned(),
        })?;
        // Hugging Face names the parts in the files: train-00000-of-00002.parquet.
        let name = name_of(&file);
        let split = split_of(name.split(['-', '.', '_']).next().unwrap_or_default());
        sets.entry(split).or_default().push(source);
    }
    Ok(sets)
}

/// Tells a file's kind by its first bytes; `None` where it is none of ours.
fn open_file(path: &Path, columns: &BTreeMap<String, String>) -> Result<Option<Source>> {
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
    Ok(if let Some(file) = Columnar::open(path, &head, columns) {
        Some(Source::Columnar(file))
    } else {
        Tar::open(path, &head, columns).map(Source::Tar)
    })
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

/// Names that systems leave in folders of pictures: `.DS_Store`, `._1.jpg`, `Thumbs.db`.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || ["Thumbs.db", "desktop.ini"].contains(&name.as_ref())
}

fn is_shard_name(path: &Path) -> bool {
    let name = name_of(path).to_lowercase();
    [".parquet", ".arrow", ".tar", ".tar.gz", ".tgz"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn split_of(name: &str) -> Option<&'static str> {
    match name {
        "train" => Some("train"),
        "val" | "valid" | "validation" => Some("val"),
        "test" => Some("test"),
        _ => None,
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
