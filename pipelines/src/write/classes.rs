//! Maps labels to class numbers, by one list of class names for all datasets of a command, or by the
//! list of another dataset.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use serde_json::Value;

use crate::shard::{MANIFEST_NAME, Manifest};
use crate::store::{Folder, StoreOptions};
use crate::{Error, Result, SampleError};

/// Maximum number of classes: more distinct names are texts (`ImageNet`-21k has 21,841).
const MAX_CLASSES: usize = 100_000;

/// A label as the source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawLabel {
    /// The sample has no label.
    None,
    /// A number without a name.
    Index(i64),
    /// A class name.
    Name(String),
    /// A value that cannot be a label, and the reason.
    Bad(String),
}

impl RawLabel {
    /// Reads an integer as a class number and any other text as a class name.
    pub(crate) fn of_text(text: &str) -> Self {
        let text = text.trim();
        match text.parse() {
            Ok(index) => Self::Index(index),
            Err(_) if text.is_empty() => Self::None,
            Err(_) => Self::Name(text.to_owned()),
        }
    }

    /// Reads a JSON value; `null` means that there is no label.
    pub(crate) fn of_json(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::None,
            Some(Value::Number(n)) if n.is_i64() => Self::Index(n.as_i64().unwrap_or_default()),
            Some(Value::String(name)) => Self::Name(name.clone()),
            Some(other) => Self::Bad(format!("in json: {other} is neither an integer nor a name")),
        }
    }
}

/// Labels found by a first pass over the source.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SeenLabels {
    /// Class names from folders, tar members or a column of strings.
    pub(crate) names: BTreeSet<String>,
    /// A class list in the source's order, as in Hugging Face's `ClassLabel`.
    pub(crate) list: Option<Vec<String>>,
    /// True if some labels are numbers without names.
    pub(crate) numbers: bool,
}

impl SeenLabels {
    /// Adds the class name of a sample.
    pub(crate) fn name(&mut self, name: &str) {
        if self.names.len() <= MAX_CLASSES && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }

    /// Adds the label of a sample.
    pub(crate) fn label(&mut self, label: &RawLabel) {
        match label {
            RawLabel::Name(name) => self.name(name),
            RawLabel::Index(_) => self.numbers = true,
            RawLabel::None | RawLabel::Bad(_) => {}
        }
    }

    /// Adds the class list of a source. Lists that differ are merged as a set of names.
    pub(crate) fn list(&mut self, list: Vec<String>) {
        match &self.list {
            Some(known) if *known != list => {
                self.names.extend(self.list.take().into_iter().flatten());
                self.names.extend(list);
            }
            _ => self.list = Some(list),
        }
    }

    /// Merges the labels of several datasets, which share one class list.
    pub(crate) fn merged<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut merged = Self::default();
        for seen in all {
            merged.names.extend(seen.names.iter().cloned());
            merged.numbers |= seen.numbers;
            if let Some(list) = &seen.list {
                merged.list(list.clone());
            }
        }
        merged
    }

    /// Returns the class list for these labels; `None` if all are numbers or there are none.
    fn into_classes(mut self) -> Result<Option<Vec<String>>, String> {
        let named = self.list.is_some() || !self.names.is_empty();
        if named && self.numbers {
            return Err(
                "labels are both numbers and names\nhint: give the class list with --labels, or \
                 write the sources one at a time"
                    .to_owned(),
            );
        }
        if self.names.len() > MAX_CLASSES {
            return Err(format!(
                "more than {MAX_CLASSES} different labels, so they are texts, not classes\n\
                 hint: name the label column with --columns label=NAME, or ignore it with \
                 --columns label="
            ));
        }
        if self.names.is_empty() {
            return Ok(self.list);
        }
        self.names.extend(self.list.into_iter().flatten());
        Ok(Some(self.names.into_iter().collect()))
    }
}

/// Maps a source's labels to the numbers of the column `label`.
#[derive(Debug)]
pub(crate) struct LabelMap {
    /// Class names in the order of their numbers; `None` if labels have no names.
    pub(crate) classes: Option<Vec<String>>,
    index: HashMap<String, i64>,
}

impl LabelMap {
    /// Builds the map from the list of `--labels`, or from the labels found in the source. Fails if the
    /// given list lacks a class of the source, before anything is written.
    pub(crate) fn build(seen: SeenLabels, given: Option<(String, Vec<String>)>) -> Result<Self> {
        let config = |reason: String| Error::Config(vec![reason]);
        let Some((from, given)) = given else {
            let classes = seen.into_classes().map_err(config)?;
            return Ok(Self::new(classes));
        };
        let known: BTreeSet<_> = given.iter().collect();
        let all = seen.names.iter().chain(seen.list.iter().flatten());
        let unknown: BTreeSet<_> = all.filter(|name| !known.contains(name)).collect();
        if let Some(first) = unknown.first() {
            return Err(config(format!(
                "--labels {from}: class `{first}` of the source is not among its {} classes ({} \
                 such classes)\nhint: add them there, or remove them from the source",
                given.len(),
                unknown.len()
            )));
        }
        Ok(Self::new(Some(given)))
    }

    fn new(classes: Option<Vec<String>>) -> Self {
        let names = classes.iter().flatten();
        let index = names
            .enumerate()
            .map(|(i, name)| (name.clone(), i as i64))
            .collect();
        Self { classes, index }
    }

    /// Returns the class number of a label. −1 means *no label*, as in Hugging Face datasets.
    pub(crate) fn resolve(&self, label: &RawLabel) -> Result<Option<i64>, SampleError> {
        match label {
            RawLabel::None | RawLabel::Index(-1) => Ok(None),
            RawLabel::Index(i) => match &self.classes {
                Some(classes) if *i < 0 || *i >= classes.len() as i64 => {
                    Err(SampleError::Label(format!(
                        "{i} is out of range: the dataset has {} classes",
                        classes.len()
                    )))
                }
                None if *i < 0 => Err(SampleError::Label(format!("{i} is negative"))),
                _ => Ok(Some(*i)),
            },
            RawLabel::Name(name) => match self.index.get(name) {
                Some(i) => Ok(Some(*i)),
                None => Err(SampleError::Label(format!(
                    "`{name}` is not a class of the dataset"
                ))),
            },
            RawLabel::Bad(reason) => Err(SampleError::Label(reason.clone())),
        }
    }
}

/// Reads the class list of another dataset, from its manifest or a Parquet file's metadata.
pub(crate) fn read_classes(from: &str) -> Result<Vec<String>> {
    let fault = |reason: &str| Error::Config(vec![format!("--labels {from}: {reason}")]);
    let dataset = Folder::open(from, &StoreOptions::default())?;
    let is_file = dataset.local().is_some_and(Path::is_file);
    if !is_file && let Some(json) = dataset.read(MANIFEST_NAME)? {
        return Manifest::from_json(&json, &dataset.url_of(MANIFEST_NAME))?
            .classes
            .ok_or_else(|| fault("the dataset has no class names"));
    }
    let Some(local) = dataset.local() else {
        return Err(fault("no manifest.json"));
    };
    let file = first_parquet(local).ok_or_else(|| fault("no manifest.json and no Parquet file"))?;
    let io = |source| Error::Io {
        path: file.clone(),
        source,
    };
    let footer = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).map_err(io)?)
        .map_err(|e| Error::Corrupt {
            shard: file.display().to_string(),
            reason: e.to_string(),
        })?;
    let schema = footer.schema();
    let features = schema.metadata().get(understudy_schemas::HUGGINGFACE_KEY);
    features
        .and_then(|json| {
            let columns = schema.fields().iter().map(|f| f.name().as_str());
            std::iter::once("label")
                .chain(columns)
                .find_map(|column| understudy_schemas::class_names(json, column))
        })
        .ok_or_else(|| fault("no class names in its files (no ClassLabel in their metadata)"))
}

fn first_parquet(from: &Path) -> Option<std::path::PathBuf> {
    if from.is_file() {
        return Some(from.to_owned());
    }
    let walk = walkdir::WalkDir::new(from).max_depth(2).sort_by_file_name();
    walk.into_iter()
        .filter_map(|entry| Some(entry.ok()?.into_path()))
        .find(|path| path.extension().is_some_and(|end| end == "parquet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    fn seen(from: &[&str]) -> SeenLabels {
        SeenLabels {
            names: names(from).into_iter().collect(),
            ..SeenLabels::default()
        }
    }

    #[test]
    fn class_names_are_sorted_unless_listed() {
        let labels = LabelMap::build(seen(&["dog", "cat"]), None).unwrap();
        assert_eq!(labels.classes, Some(names(&["cat", "dog"])));
        assert_eq!(labels.resolve(&RawLabel::Name("dog".into())), Ok(Some(1)));

        let mut listed = SeenLabels::default();
        listed.list(names(&["dog", "cat"]));
        listed.list(names(&["dog", "cat"]));
        assert_eq!(
            listed.clone().into_classes(),
            Ok(Some(names(&["dog", "cat"])))
        );
        listed.list(names(&["ant", "dog"]));
        assert_eq!(
            listed.into_classes(),
            Ok(Some(names(&["ant", "cat", "dog"])))
        );
    }

    #[test]
    fn label_out_of_range_is_an_error_missing_label_is_not() {
        let labels = LabelMap::new(Some(names(&["a", "b"])));
        assert_eq!(labels.resolve(&RawLabel::Index(1)), Ok(Some(1)));
        assert_eq!(labels.resolve(&RawLabel::Index(-1)), Ok(None));
        assert_eq!(labels.resolve(&RawLabel::None), Ok(None));
        for bad in [
            RawLabel::Index(2),
            RawLabel::Index(-2),
            RawLabel::Name("c".into()),
        ] {
            assert!(labels.resolve(&bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            LabelMap::new(None).resolve(&RawLabel::Index(999)),
            Ok(Some(999))
        );
        assert!(LabelMap::new(None).resolve(&RawLabel::Index(-2)).is_err());
    }

    #[test]
    fn class_missing_from_given_list_is_an_error() {
        let given = names(&["a", "b"]);
        assert!(LabelMap::build(seen(&["b"]), Some(("x".to_owned(), given.clone()))).is_ok());
        let error = LabelMap::build(seen(&["b", "c"]), Some(("x".to_owned(), given)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`c`"), "{error}");
    }

    #[test]
    fn numbers_and_names_cannot_be_mixed() {
        let mixed = SeenLabels {
            numbers: true,
            ..seen(&["a"])
        };
        assert!(mixed.into_classes().is_err());
        let numbers = SeenLabels {
            numbers: true,
            ..SeenLabels::default()
        };
        assert_eq!(numbers.into_classes(), Ok(None));
    }
}
