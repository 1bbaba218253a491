//! Files in folders, or files that a list names.
//!
//! They are written in a random order: reading files in any order costs the same, and sorted by class
//! or speaker they would make row groups of one kind, which training then has to mix. The order is
//! keyed by a fixed seed, so the same files always come in the same order.
//!
//! Images: `root/<class>/**/*.jpg`; without folders there are no labels. Audio: class folders too,
//! unless there are transcripts (`*.trans.txt`): then the folder is LibriSpeech's tree of speakers.
//! Names and transcripts are held in memory while a dataset is written, media never.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::{fs, ops::ControlFlow};

use crate::config::Modality;
use crate::rng::{Purpose, Rng};
use crate::write::classes::RawLabel;
use crate::write::discover::directory::{walk, why_no_file};
use crate::write::discover::file_names::{AUDIO, ends_in, is_hidden};
use crate::write::sample::{Body, Facts, RawSample, Sink, Survey};
use crate::write::source::speech_corpora::{Transcripts, UtteranceList};
use crate::{Error, Result, SampleError};

/// Seed of the order in which files are written. Changing it changes every dataset.
pub(crate) const ORDER_SEED: u64 = 0x5eed_0f54_a4d5;

/// The files of one folder or list.
#[derive(Debug, Default)]
pub(crate) struct FileList {
    /// Folder that names are relative to.
    pub(super) root: PathBuf,
    /// Names relative to the root, one after another.
    names: String,
    entries: Vec<Entry>,
    /// Real names of the few entries whose names are not UTF-8, by index. In `names` they are lossy, and
    /// two may be equal.
    real_names: HashMap<usize, PathBuf>,
    /// Label and further columns of each entry; empty for images.
    facts: Vec<(RawLabel, Facts)>,
    /// Class folders, sorted; empty if there are none.
    classes: Vec<String>,
    /// True for a folder that holds only files, without labels and transcripts.
    is_bare: bool,
    /// Indices of entries in the order in which they are written.
    order: Vec<u32>,
    ignored: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name_end: usize,
    /// Size in bytes; `None` if there is no file: it is only listed, or a broken link.
    bytes: Option<u64>,
    /// Offset in bytes, if the entry is a range of a file.
    offset: Option<u64>,
}

impl FileList {
    /// Lists the files below `root`.
    pub(crate) fn folder(root: &Path, modality: Modality) -> Result<Self> {
        let mut this = Self {
            root: root.to_owned(),
            ..Self::default()
        };
        match modality {
            Modality::Audio => this.list_audio()?,
            Modality::Image | Modality::Text => this.list_all()?,
        }
        let is_unknown = |facts: &Facts| {
            !matches!(
                facts,
                Facts::Speech {
                    transcript: Some(_),
                    ..
                }
            )
        };
        this.is_bare = this.classes.is_empty() && this.facts.iter().all(|(_, f)| is_unknown(f));
        this.shuffle();
        Ok(this)
    }

    /// Returns the audio files of a list.
    pub(crate) fn listed(list: UtteranceList) -> Self {
        let mut this = Self {
            root: list.root,
            ..Self::default()
        };
        for (_, utterance) in list.utterances {
            let (name, offset) = (&utterance.name, utterance.range.map(|(offset, _)| offset));
            let bytes = match utterance.range {
                Some((_, length)) => Some(length),
                None => fs::metadata(this.root.join(name))
                    .ok()
                    .map(|file| file.len()),
            };
            this.push(name, bytes, offset);
            this.facts.push((utterance.label, utterance.facts));
        }
        this.shuffle();
        this
    }

    fn list_all(&mut self) -> Result<()> {
        for file in walk(&self.root) {
            let (name, path, bytes) = file?;
            if is_hidden(path.file_name().unwrap_or_default()) {
                self.ignored += 1;
            } else {
                self.push_found(&name, &path, bytes);
            }
        }
        self.find_classes()
    }

    fn list_audio(&mut self) -> Result<()> {
        let mut transcripts = Transcripts::default();
        for file in walk(&self.root) {
            let (name, path, bytes) = file?;
            if ends_in(&path, &[".trans.txt"]) {
                transcripts.read(&path)?;
            } else if ends_in(&path, &AUDIO) && !is_hidden(path.file_name().unwrap_or_default()) {
                self.push_found(&name, &path, bytes);
            } else {
                self.ignored += 1;
            }
        }
        if transcripts.is_empty() {
            self.find_classes()?;
        }
        for i in 0..self.entries.len() {
            let facts = transcripts.facts(self.name(i));
            self.facts.push((RawLabel::None, facts));
        }
        Ok(())
    }

    /// Makes the folders with samples the classes. Files next to them (a list, a licence) are not
    /// samples.
    fn find_classes(&mut self) -> Result<()> {
        let mut classes = BTreeSet::new();
        for i in 0..self.entries.len() {
            let Some((class, _)) = self.name(i).split_once('/') else {
                continue;
            };
            if !classes.contains(class) {
                // Two names that differ in what is not UTF-8 would become one class.
                let real_class = self.real_name(i).iter().next().unwrap_or_default();
                if real_class != class {
                    return Err(Error::Source {
                        path: self.root.join(real_class),
                        reason: "class name is not UTF-8\nhint: rename the folder".to_owned(),
                    });
                }
                classes.insert(class.to_owned());
            }
        }
        if classes.is_empty() {
            return Ok(());
        }
        let mut kept = Self::default();
        for (i, entry) in self.entries.iter().enumerate() {
            if self.name(i).contains('/') {
                kept.push_found(self.name(i), self.real_name(i), entry.bytes);
            } else {
                self.ignored += 1;
            }
        }
        (self.names, self.entries) = (kept.names, kept.entries);
        self.real_names = kept.real_names;
        self.classes = classes.into_iter().collect();
        Ok(())
    }

    /// Adds a file that was found below the root.
    fn push_found(&mut self, name: &str, path: &Path, bytes: Option<u64>) {
        let real_name = path.strip_prefix(&self.root).unwrap_or(path);
        if real_name != Path::new(name) {
            let i = self.entries.len();
            self.real_names.insert(i, real_name.to_owned());
        }
        self.push(name, bytes, None);
    }

    fn push(&mut self, name: &str, bytes: Option<u64>, offset: Option<u64>) {
        self.names.push_str(name);
        self.entries.push(Entry {
            name_end: self.names.len(),
            bytes,
            offset,
        });
    }

    fn name(&self, i: usize) -> &str {
        let start = i
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].name_end);
        &self.names[start..self.entries[i].name_end]
    }

    /// Returns the name that opens the file.
    fn real_name(&self, i: usize) -> &Path {
        match self.real_names.get(&i) {
            Some(name) => name,
            None => Path::new(self.name(i)),
        }
    }

    fn shuffle(&mut self) {
        self.order = (0..self.entries.len() as u32).collect();
        Rng::for_name(ORDER_SEED, Purpose::Order, "files").shuffle(&mut self.order);
    }

    pub(crate) fn survey(&self, survey: &mut Survey) {
        for class in &self.classes {
            survey.labels.name(class);
        }
        for (i, entry) in self.entries.iter().enumerate() {
            survey.hash_file(self.real_name(i), entry.bytes.unwrap_or(u64::MAX));
        }
        for (label, _) in &self.facts {
            survey.labels.label(label);
        }
        survey.samples += self.entries.len() as u64;
        survey.ignored += self.ignored;
        survey.bare_folders += u64::from(self.is_bare);
    }

    pub(crate) fn read(&self, skip: u64, sink: Sink) -> ControlFlow<(), u64> {
        let n = self.order.len() as u64;
        for &i in self.order.iter().skip(skip.min(n) as usize) {
            if sink(self.sample(i as usize)).is_break() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(skip.saturating_sub(n))
    }

    fn sample(&self, i: usize) -> RawSample {
        let name = self.name(i);
        let path = self.root.join(self.real_name(i));
        let (label, facts) = match self.facts.get(i) {
            Some((RawLabel::None, facts)) => (self.class_of(name), facts.clone()),
            Some((label, facts)) => (label.clone(), facts.clone()),
            None => (self.class_of(name), Facts::None),
        };
        let place = path.display().to_string();
        let entry = self.entries[i];
        let body = match (entry.bytes, entry.offset) {
            (Some(bytes), None) => Body::File(path, bytes),
            (Some(bytes), Some(offset)) => Body::Slice(path, offset, bytes),
            (None, _) => Body::Bad(SampleError::Unsupported(why_no_file(&path))),
        };
        RawSample {
            place,
            path: Some(name.to_owned()),
            body,
            label,
            facts,
        }
    }

    fn class_of(&self, name: &str) -> RawLabel {
        match name.split_once('/') {
            Some((class, _)) if !self.classes.is_empty() => RawLabel::Name(class.to_owned()),
            _ => RawLabel::None,
        }
    }
}
