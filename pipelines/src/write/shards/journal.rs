//! The journal of a dataset that is being written, from which a killed run resumes.
//!
//! The order of a source is fixed, and the rows of a shard depend only on that order and the settings.
//! So an entry per complete shard is enough: the number of samples that it and the shards before it
//! have consumed, and for token datasets the tokens left over for the next block. Everything after the
//! last entry is written again. The journal is in the dataset's folder under `.write`:
//!
//! - `job.json`: the settings and the source's fingerprint; once there is a shard, a run with other
//!   settings is refused.
//! - `lease.json`: the process that writes.
//! - `<shard>.json`: one entry per finished shard, written after the shard is renamed.
//! - `<shard>.tmp`: the shard that is being written. For a dataset in a store, it and the quarantine
//!   file are in a temporary folder of this machine, and are uploaded when the shard is complete.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::quarantine::QUARANTINE_NAME;
use crate::shard::{MANIFEST_NAME, Manifest, ManifestShard};
use crate::store::{Folder, Lease, Scratch};
use crate::write::shards::bad_samples::{BadSamples, read_if_exists};
use crate::{Error, Result};

/// Folder of the journal, next to the shards.
const JOURNAL_DIR: &str = ".write";

/// Settings that must not change between a run and the run that resumes it.
pub(crate) trait ResumeSettings: Serialize + DeserializeOwned {
    /// Returns the names of the settings that differ between `self`, the earlier run's, and `now`.
    fn changed_settings(&self, now: &Self) -> Vec<String>;
}

/// The entry of one finished shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    /// Samples of the source that this shard and those before it consumed, good and bad.
    pub(crate) next_sample: u64,
    /// Bad samples among them.
    pub(crate) quarantined: u64,
    /// Length of the quarantine file when the shard was finished.
    pub(crate) quarantine_bytes: u64,
    /// Tokens of those samples that are left over for the next block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) carry: Vec<u32>,
    /// Rows of the sample `next_sample` in this shard; the next shard has the rest.
    #[serde(default)]
    pub(crate) rows_of_next: usize,
    /// Tokens of the shard's blocks, without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    pub(crate) shard: ManifestShard,
}

/// The journal of one dataset, for one writer.
#[derive(Debug)]
pub(crate) struct Journal {
    dataset: Folder,
    folder: Folder,
    /// Folder of incomplete files: the journal's, or a temporary one for a dataset in a store.
    staging: PathBuf,
    /// The quarantine file: in the dataset, or in the temporary folder.
    quarantine: PathBuf,
    /// Hash of the quarantine file as last uploaded; `None` if there is none.
    quarantine_sent: Cell<Option<u64>>,
    lease: Lease,
    _scratch: Option<Scratch>,
}

/// Result of an earlier run.
pub(crate) enum EarlierRun {
    /// The dataset is complete: its manifest is written.
    Finished(Manifest),
    /// The finished shards, in order; empty at the start.
    Unfinished(Vec<JournalEntry>),
}

impl Journal {
    /// Opens the journal and takes the lease of the dataset. Refuses a folder with shards but without a
    /// journal.
    pub(crate) fn open(dataset: &Folder) -> Result<Self> {
        let folder = dataset.join(JOURNAL_DIR);
        if folder.read("job.json")?.is_none() && holds_shards(dataset)? {
            return Err(Error::Config(vec![format!(
                "--to {}: contains shards that this command did not write\nhint: choose another folder",
                dataset.url()
            )]));
        }
        let lease = dataset.lease(&format!("{JOURNAL_DIR}/lease.json"))?;
        let (staging, quarantine, scratch) = if let Some(dataset) = dataset.local() {
            (
                dataset.join(JOURNAL_DIR),
                dataset.join(QUARANTINE_NAME),
                None,
            )
        } else {
            let scratch = Scratch::new()?;
            let quarantine = scratch.path().join(QUARANTINE_NAME);
            if let Some(lines) = dataset.read(QUARANTINE_NAME)? {
                let written = fs::write(&quarantine, lines);
                written.map_err(|source| Error::Io {
                    path: quarantine.clone(),
                    source,
                })?;
            }
            (scratch.path().to_owned(), quarantine, Some(scratch))
        };
        let this = Self {
            dataset: dataset.clone(),
            folder,
            staging,
            quarantine,
            quarantine_sent: Cell::default(),
            lease,
            _scratch: scratch,
        };
        this.quarantine_sent.set(this.quarantine_hash()?);
        Ok(this)
    }

    /// Returns the folder of the dataset.
    pub(crate) fn dataset(&self) -> &Folder {
        &self.dataset
    }

    /// Returns the local path of the quarantine file.
    pub(crate) fn quarantine_path(&self) -> &Path {
        &self.quarantine
    }

    /// Returns the path at which a shard is written until it is complete.
    pub(crate) fn temporary(&self, shard: &str) -> PathBuf {
        self.staging.join(format!("{shard}.tmp"))
    }

    /// Finds the shards of an earlier run, and writes the settings if there was none, or none with shards.
    pub(crate) fn begin<J: ResumeSettings>(
        &self,
        job: &J,
        shard_name: impl Fn(usize) -> String,
    ) -> Result<EarlierRun> {
        if let Some(text) = self.folder.read("job.json")? {
            let earlier: J = parse(&self.folder.url_of("job.json"), &text)?;
            let changed = earlier.changed_settings(job);
            if !changed.is_empty() && holds_shards(&self.dataset)? {
                return Err(Error::Config(vec![format!(
                    "--to {}: cannot resume: these settings differ: {}\nhint: repeat the earlier \
                     command, or choose another folder",
                    self.dataset.url(),
                    changed.join(", ")
                )]));
            }
            if !changed.is_empty() {
                // The earlier run has no shard, so the corrected command starts over.
                BadSamples::resume(self.quarantine.clone(), 0, 0)?.finish()?;
                self.write_json("job.json", job)?;
            }
        } else {
            self.write_json("job.json", job)?;
        }
        let recorded = self.folder.files()?.into_iter().map(|(name, _)| name);
        let recorded: BTreeSet<String> = recorded.collect();
        let entries = (0..).map(|i| entry_name(&shard_name(i)));
        let entries: Vec<String> = entries.take_while(|name| recorded.contains(name)).collect();
        let files: BTreeMap<String, u64> = self.dataset.files()?.into_iter().collect();
        let is_intact = |shard: &ManifestShard| files.get(&shard.path) == Some(&shard.bytes);
        if let Some(json) = self.dataset.read(MANIFEST_NAME)? {
            let manifest = Manifest::from_json(&json, &self.dataset.url_of(MANIFEST_NAME))?;
            let Some(lost) = manifest.shards.iter().find(|shard| !is_intact(shard)) else {
                // A writer may be killed while it removes its entries.
                let entries = entries_of(&manifest).filter(|entry| recorded.contains(entry));
                self.folder.remove(&entries.collect::<Vec<_>>())?;
                return Ok(EarlierRun::Finished(manifest));
            };
            tracing::warn!(
                "shard missing or changed: {}; writing the dataset again",
                lost.path
            );
            self.dataset.remove(&[MANIFEST_NAME.to_owned()])?;
        }
        let quarantine = fs::metadata(&self.quarantine).map_or(0, |file| file.len());
        let mut finished = Vec::new();
        for (name, text) in entries.iter().zip(self.folder.read_all(&entries)?) {
            let entry: JournalEntry = parse(&self.folder.url_of(name), &text.unwrap_or_default())?;
            if !is_intact(&entry.shard) || entry.quarantine_bytes > quarantine {
                tracing::warn!(
                    "shard or {QUARANTINE_NAME} missing or changed: {}; writing it \
                     and the shards after it again",
                    entry.shard.path
                );
                break;
            }
            finished.push(entry);
        }
        // An entry of a later shard would count again once the shards before it exist.
        self.folder.remove(&entries[finished.len()..])?;
        Ok(EarlierRun::Unfinished(finished))
    }

    /// Renames or uploads a complete shard, and writes its entry.
    pub(crate) fn commit(&self, entry: &JournalEntry) -> Result<()> {
        let name = &entry.shard.path;
        self.lease.check()?;
        self.send_quarantine()?;
        self.dataset.take_file(name, &self.temporary(name))?;
        self.write_json(&entry_name(name), entry)
    }

    /// Writes the manifest, which completes the dataset, and removes the entries.
    pub(crate) fn finish(&self, manifest: &Manifest) -> Result<()> {
        self.lease.check()?;
        self.send_quarantine()?;
        self.dataset.write(MANIFEST_NAME, manifest.to_json())?;
        self.folder
            .remove(&entries_of(manifest).collect::<Vec<_>>())
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec(value).expect("strings and numbers always become JSON");
        self.folder.write(name, json)
    }

    /// Uploads the quarantine file of a dataset in a store, if it changed.
    pub(crate) fn send_quarantine(&self) -> Result<()> {
        if self.dataset.local().is_some() {
            return Ok(());
        }
        let hash = self.quarantine_hash()?;
        if hash != self.quarantine_sent.get() {
            match read_if_exists(&self.quarantine)? {
                Some(lines) => self.dataset.write(QUARANTINE_NAME, lines)?,
                None => self.dataset.remove(&[QUARANTINE_NAME.to_owned()])?,
            }
            self.quarantine_sent.set(hash);
        }
        Ok(())
    }

    /// Returns the hash of the quarantine file, `None` if there is none.
    fn quarantine_hash(&self) -> Result<Option<u64>> {
        Ok(read_if_exists(&self.quarantine)?.map(|lines| xxh3_64(&lines)))
    }
}

fn entry_name(shard: &str) -> String {
    format!("{shard}.json")
}

fn entries_of(manifest: &Manifest) -> impl Iterator<Item = String> {
    manifest.shards.iter().map(|shard| entry_name(&shard.path))
}

fn holds_shards(dataset: &Folder) -> Result<bool> {
    let is_dataset_file = |name: &str| {
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        name == MANIFEST_NAME || end == "parquet" || end == "arrow"
    };
    Ok(dataset
        .files()?
        .iter()
        .any(|(name, _)| is_dataset_file(name)))
}

fn parse<T: for<'a> Deserialize<'a>>(url: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Corrupt {
        shard: url.to_owned(),
        reason: format!("{error}\nhint: delete the dataset's folder and write it again"),
    })
}
