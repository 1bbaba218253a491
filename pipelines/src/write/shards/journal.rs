//! What a killed run leaves, and how the next one goes on from it.
//!
//! The order of a source is fixed and the rows of a shard depend on nothing but that order and the
//! settings. So it is enough to note, when a shard is complete, how many samples it and those
//! before it have consumed (of token sets also the tokens that waited for their block to fill);
//! everything after the last note is written again. The notes lie in the set's folder under
//! `.write`:
//!
//! - `job.json`: the settings and the source's fingerprint; once there is a shard, a run with others
//!   is refused.
//! - `lease.json`: who writes.
//! - `<shard>.json`: one per finished shard, written after the shard has its name.
//! - `<shard>.tmp`: the shard that is being written. That of a set in a store grows in a temporary
//!   folder of this machine, as does the list of bad samples, and goes up when it is complete.

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
use crate::write::shards::bad_samples::{BadSamples, read_if_there};
use crate::{Error, Result};

/// The folder of notes, beside the shards.
const NOTES_FOLDER: &str = ".write";

/// What must be the same for a run to go on where another stopped.
pub(crate) trait ResumeSettings: Serialize + DeserializeOwned {
    /// Those in which `self`, an earlier run's, and `now` differ, by name.
    fn differences(&self, now: &Self) -> Vec<String>;
}

/// The note of one finished shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    /// Samples of the source that this shard and those before it consumed, good and bad.
    pub(crate) next_sample: u64,
    /// Bad samples among them.
    pub(crate) quarantined: u64,
    /// Length of the quarantine file when the shard was finished.
    pub(crate) quarantine_bytes: u64,
    /// Tokens of those samples that wait for their block to fill.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) carry: Vec<u32>,
    /// Rows that this shard has of the sample `next_sample`, which goes on in the next shard.
    #[serde(default)]
    pub(crate) rows_of_next: usize,
    /// Tokens of the shard's blocks, without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    pub(crate) shard: ManifestShard,
}

/// The folder of a set and the notes in it, for one writer.
#[derive(Debug)]
pub(crate) struct Journal {
    set: Folder,
    folder: Folder,
    /// Where files are until they are complete: with the notes, or on this machine.
    staging: PathBuf,
    /// The list of bad samples as it grows: in the set, or on this machine.
    quarantine: PathBuf,
    /// Of a set in a store: hash of the list as the store has it.
    quarantine_sent: Cell<Option<u64>>,
    lease: Lease,
    _scratch: Option<Scratch>,
}

/// How far a set is.
pub(crate) enum EarlierRun {
    /// Its manifest is written.
    Finished(Manifest),
    /// These shards are finished, perhaps none.
    Unfinished(Vec<JournalEntry>),
}

impl Journal {
    /// Begins to write the set, for this process alone. Refuses a folder with shards that no run of
    /// ours has noted.
    pub(crate) fn open(set: &Folder) -> Result<Self> {
        let notes = set.join(NOTES_FOLDER);
        if notes.read("job.json")?.is_none() && holds_shards(set)? {
            return Err(Error::Config(vec![format!(
                "--to {}: holds shards that this command did not write; choose another folder",
                set.url()
            )]));
        }
        let lease = set.lease(&format!("{NOTES_FOLDER}/lease.json"))?;
        let (staging, quarantine, scratch) = if let Some(set) = set.local() {
            (set.join(NOTES_FOLDER), set.join(QUARANTINE_NAME), None)
        } else {
            let scratch = Scratch::new()?;
            let quarantine = scratch.path().join(QUARANTINE_NAME);
            if let Some(lines) = set.read(QUARANTINE_NAME)? {
                let written = fs::write(&quarantine, lines);
                written.map_err(|source| Error::Io {
                    path: quarantine.clone(),
                    source,
                })?;
            }
            (scratch.path().to_owned(), quarantine, Some(scratch))
        };
        let this = Self {
            set: set.clone(),
            folder: notes,
            staging,
            quarantine,
            quarantine_sent: Cell::default(),
            lease,
            _scratch: scratch,
        };
        this.quarantine_sent.set(this.quarantine_hash()?);
        Ok(this)
    }

    /// The folder of the set.
    pub(crate) fn set(&self) -> &Folder {
        &self.set
    }

    /// The list of bad samples as it grows.
    pub(crate) fn quarantine_path(&self) -> &Path {
        &self.quarantine
    }

    /// Where the shard is written until it is complete.
    pub(crate) fn temporary(&self, shard: &str) -> PathBuf {
        self.staging.join(format!("{shard}.tmp"))
    }

    /// Finds how far an earlier run came, and notes the job if there was none, or none with shards.
    pub(crate) fn begin<J: ResumeSettings>(
        &self,
        job: &J,
        shard_name: impl Fn(usize) -> String,
    ) -> Result<EarlierRun> {
        if let Some(text) = self.folder.read("job.json")? {
            let earlier: J = parse(&self.folder.url_of("job.json"), &text)?;
            let differences = earlier.differences(job);
            if !differences.is_empty() && holds_shards(&self.set)? {
                return Err(Error::Config(vec![format!(
                    "--to {}: was begun with another {}; give the same command to go on, or choose \
                     another folder",
                    self.set.url(),
                    differences.join(" and another ")
                )]));
            }
            if !differences.is_empty() {
                // Nothing came of it, so that the corrected command begins anew.
                BadSamples::resume(self.quarantine.clone(), 0, 0)?.finish()?;
                self.write_note("job.json", job)?;
            }
        } else {
            self.write_note("job.json", job)?;
        }
        let noted = self.folder.files()?.into_iter().map(|(name, _)| name);
        let noted: BTreeSet<String> = noted.collect();
        let notes = (0..).map(|i| note_name(&shard_name(i)));
        let notes: Vec<String> = notes.take_while(|name| noted.contains(name)).collect();
        let files: BTreeMap<String, u64> = self.set.files()?.into_iter().collect();
        let is_whole = |shard: &ManifestShard| files.get(&shard.path) == Some(&shard.bytes);
        if let Some(json) = self.set.read(MANIFEST_NAME)? {
            let whole = Manifest::from_json(&json, &self.set.url_of(MANIFEST_NAME))?;
            let Some(lost) = whole.shards.iter().find(|shard| !is_whole(shard)) else {
                // A writer may be killed while it removes them.
                let notes = notes_of(&whole).filter(|note| noted.contains(note));
                self.folder.remove(&notes.collect::<Vec<_>>())?;
                return Ok(EarlierRun::Finished(whole));
            };
            tracing::warn!(
                "{} is not as it was written: the set is written again",
                lost.path
            );
            self.set.remove(&[MANIFEST_NAME.to_owned()])?;
        }
        let quarantine = fs::metadata(&self.quarantine).map_or(0, |file| file.len());
        let mut finished = Vec::new();
        for (name, text) in notes.iter().zip(self.folder.read_all(&notes)?) {
            let note: JournalEntry = parse(&self.folder.url_of(name), &text.unwrap_or_default())?;
            if !is_whole(&note.shard) || note.quarantine_bytes > quarantine {
                tracing::warn!(
                    "{} or {QUARANTINE_NAME} is not as it was written: it and the shards after it \
                     are written again",
                    note.shard.path
                );
                break;
            }
            finished.push(note);
        }
        // A note of a later shard would be believed once the shards before it are there again.
        self.folder.remove(&notes[finished.len()..])?;
        Ok(EarlierRun::Unfinished(finished))
    }

    /// Gives a complete shard its name and notes it.
    pub(crate) fn commit(&self, note: &JournalEntry) -> Result<()> {
        let name = &note.shard.path;
        self.lease.check()?;
        self.send_quarantine()?;
        self.set.take_file(name, &self.temporary(name))?;
        self.write_note(&note_name(name), note)
    }

    /// Writes the manifest, after which the set is whole, and removes the shards' notes.
    pub(crate) fn finish(&self, manifest: &Manifest) -> Result<()> {
        self.lease.check()?;
        self.send_quarantine()?;
        self.set.write(MANIFEST_NAME, manifest.to_json())?;
        self.folder.remove(&notes_of(manifest).collect::<Vec<_>>())
    }

    fn write_note(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec(value).expect("strings and numbers always become JSON");
        self.folder.write(name, json)
    }

    /// Brings the list of bad samples to a set in a store, if it changed.
    pub(crate) fn send_quarantine(&self) -> Result<()> {
        if self.set.local().is_some() {
            return Ok(());
        }
        let hash = self.quarantine_hash()?;
        if hash != self.quarantine_sent.get() {
            match read_if_there(&self.quarantine)? {
                Some(lines) => self.set.write(QUARANTINE_NAME, lines)?,
                None => self.set.remove(&[QUARANTINE_NAME.to_owned()])?,
            }
            self.quarantine_sent.set(hash);
        }
        Ok(())
    }

    /// Hash of the list of bad samples, or `None` where there is none.
    fn quarantine_hash(&self) -> Result<Option<u64>> {
        Ok(read_if_there(&self.quarantine)?.map(|lines| xxh3_64(&lines)))
    }
}

fn note_name(shard: &str) -> String {
    format!("{shard}.json")
}

fn notes_of(manifest: &Manifest) -> impl Iterator<Item = String> {
    manifest.shards.iter().map(|shard| note_name(&shard.path))
}

fn holds_shards(set: &Folder) -> Result<bool> {
    let is_of_set = |name: &str| {
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        name == MANIFEST_NAME || end == "parquet" || end == "arrow"
    };
    Ok(set.files()?.iter().any(|(name, _)| is_of_set(name)))
}

fn parse<T: for<'a> Deserialize<'a>>(url: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Corrupt {
        shard: url.to_owned(),
        reason: format!("{error}; remove the set's folder and write it again"),
    })
}
