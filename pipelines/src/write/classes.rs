//! LabelMap become numbers: one list of class names for all sets of a run, or another set's list.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use serde_json::Value;

use crate::shard::{MANIFEST_NAME, Manifest};
use crate::store::{Folder, StoreOptions};
use crate::{Error, Result, SampleError};

/// More distinct names than this are texts, not classes (`ImageNet`-21k has 21,841).
const MAX_CLASSES: usize = 100_000;

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

impl RawLabel {
    /// A whole number is a label as it stands, anything else is a class name.
    pub(crate) fn of_text(text: &str) -> Self {
        let text = text.trim();
        match text.parse() {
            Ok(index) => Self::Index(index),
            Err(_) if text.is_empty() => Self::None,
            Err(_) => Self::Name(text.to_owned()),
        }
    }

    /// A value of JSON, where there is one.
    pub(crate) fn of_json(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::None,
            Some(Value::Number(n)) if n.is_i64() => Self::Index(n.as_i64().unwrap_or_default()),
            Some(Value::String(name)) => Self::Name(name.clone()),
            Some(other) => Self::Bad(format!(
                "in json: {other} is neither a whole number nor a name"
            )),
        }
    }
}

/// The labels that a first pass over the source met.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SeenLabels {
    /// Names, from folders, members of a tar or a column of strings.
    pub(crate) names: BTreeSet<String>,
    /// A list in the source's own order, as Hugging Face's `ClassLabel` has it.
    pub(crate) list: Option<Vec<String>>,
    /// Numbers without names.
    pub(crate) numbers: bool,
}

impl SeenLabels {
    /// A sample with this name of a class.
    pub(crate) fn name(&mut self, name: &str) {
        if self.names.len() <= MAX_CLASSES && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }

    /// A sample with this label.
    pub(crate) fn label(&mut self, label: &RawLabel) {
        match label {
            RawLabel::Name(name) => self.name(name),
            RawLabel::Index(_) => self.numbers = true,
            RawLabel::None | RawLabel::Bad(_) => {}
        }
    }

    /// A source that comes with a list. Two that differ are joined as names.
    pub(crate) fn list(&mut self, list: Vec<String>) {
        match &self.list {
            Some(known) if *known != list => {
                self.names.extend(self.list.take().into_iter().flatten());
                self.names.extend(list);
            }
            _ => self.list = Some(list),
        }
    }

    /// The labels of several sets, which share one list.
    pub(crate) fn joined<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut joined = Self::default();
        for seen in all {
            joined.names.extend(seen.names.iter().cloned());
            joined.numbers |= seen.numbers;
            if let Some(list) = &seen.list {
                joined.list(list.clone());
            }
        }
        joined
    }

    /// The class list that these labels need: `None` where they are numbers alone, or none.
    fn into_classes(mut self) -> Result<Option<Vec<String>>, String> {
        let named = self.list.is_some() || !self.names.is_empty();
        if named && self.numbers {
            return Err(
                "some labels are numbers and some are names; give the list with --labels, \
                        or write the sources one at a time"
                    .to_owned(),
            );
        }
        if self.names.len() > MAX_CLASSES {
            return Err(format!(
                "more than {MAX_CLASSES} different labels: these are texts, not classes; name \
                 the label with --columns label=…, or leave it out with --columns label="
            ));
        }
        if self.names.is_empty() {
            return Ok(self.list);
        }
        self.names.extend(self.list.into_iter().flatten());
        Ok(Some(self.names.into_iter().collect()))
    }
}

/// How a source's labels become the numbers of the column `label`.
#[derive(Debug)]
pub(crate) struct LabelMap {
    /// The class names, if there are any.
    pub(crate) classes: Option<Vec<String>>,
    index: HashMap<String, i64>,
}

impl LabelMap {
    /// Settles the list: `given` by `--labels`, or what the source needs. A class of the source
    /// that is not in the given list is an error here, before anything is written.
    pub(crate) fn settle(seen: SeenLabels, given: Option<(String, Vec<String>)>) -> Result<Self> {
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
                "--labels {from}: its {} classes do not have `{first}`, which the source has \
                 ({} such in all); add them there, or take them out of the source",
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

    /// The number of a label. −1 is Hugging Face's word for *no label*.
    pub(crate) fn resolve(&self, label: &RawLabel) -> Result<Option<i64>, SampleError> {
        match label {
            RawLabel::None | RawLabel::Index(-1) => Ok(None),
            RawLabel::Index(i) => match &self.classes {
                Some(classes) if *i < 0 || *i >= classes.len() as i64 => Err(SampleError::Label(
                    format!("{i} is out of range: the set has {} classes", classes.len()),
                )),
                None if *i < 0 => Err(SampleError::Label(format!("{i} is negative"))),
                _ => Ok(Some(*i)),
            },
            RawLabel::Name(name) => match self.index.get(name) {
                Some(i) => Ok(Some(*i)),
                None => Err(SampleError::Label(format!(
                    "`{name}` is not a class of the set"
                ))),
            },
            RawLabel::Bad(reason) => Err(SampleError::Label(reason.clone())),
        }
    }
}

/// The class list of another set: of its manifest, or of a Parquet file's metadata.
pub(crate) fn read_classes(from: &str) -> Result<Vec<String>> {
    let fault = |reason: &str| Error::Config(vec![format!("--labels {from}: {reason}")]);
    let set = Folder::open(from, &StoreOptions::default())?;
    let is_file = set.local().is_some_and(Path::is_file);
    if !is_file && let Some(json) = set.read(MANIFEST_NAME)? {
        return Manifest::from_json(&json, &set.url_of(MANIFEST_NAME))?
            .classes
            .ok_or_else(|| fault("this set has no class names"));
    }
    let Some(local) = set.local() else {
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
        .ok_or_else(|| fault("its files name no classes (no ClassLabel in their metadata)"))
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
    fn names_are_sorted_and_a_list_keeps_its_order() {
        let labels = LabelMap::settle(seen(&["dog", "cat"]), None).unwrap();
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
    fn labels_out_of_range_are_told_from_missing_ones() {
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
    fn a_class_that_the_given_list_lacks_stops_the_run() {
        let given = names(&["a", "b"]);
        assert!(LabelMap::settle(seen(&["b"]), Some(("x".to_owned(), given.clone()))).is_ok());
        let error = LabelMap::settle(seen(&["b", "c"]), Some(("x".to_owned(), given)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`c`"), "{error}");
    }

    #[test]
    fn numbers_and_names_do_not_mix() {
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
