//! The folder of a run: who writes it, where it goes on, and whether it may.
//!
//! ```text
//! runs/NAME/config.toml        the resolved config; `understudy train` goes on with it, or with --run repeats the run
//! runs/NAME/metrics.jsonl      one line per logged step
//! runs/NAME/quarantine.jsonl   samples that were bad, with reasons
//! runs/NAME/checkpoints/       step-NNNNNNNNN/
//! ```
//!
//! The same in a store, but for `metrics/step-NNNNNNNNN.jsonl` in place of `metrics.jsonl`.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use understudy_pipelines::Error as StoreError;
use understudy_pipelines::store::{Folder, Lease, Scratch, StoreOptions};

use crate::config::RunConfig;
use crate::train::checkpoint::{self, CheckpointError};

/// The list of bad samples.
const QUARANTINE: &str = "quarantine.jsonl";

/// What `--resume` asks for.
#[derive(Debug, Clone)]
pub enum Resume {
    /// Go on from the newest checkpoint of the run, or start if there is none.
    Auto,
    /// Start; refused where the run already has checkpoints.
    Never,
    /// Go on from this run or checkpoint.
    From(Folder),
}

impl Resume {
    /// `auto`, `never`, or a path or URL.
    pub fn parse(text: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            place => Self::From(Folder::open(place, options)?),
        })
    }
}

/// Why a run cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file system or the store said no.
    #[error(transparent)]
    Store(StoreError),
    /// Another process writes this run.
    #[error(
        "{url}: another process is training this run ({holder}); give this one its own folder with --run, or wait"
    )]
    Busy {
        /// The run.
        url: String,
        /// Who trains it.
        holder: String,
    },
    /// `--resume never` on a run that has checkpoints.
    #[error(
        "{0}: this run has checkpoints already; go on with --resume auto, or choose another folder with --run"
    )]
    Started(String),
    /// Nothing to go on from.
    #[error("{0}: no checkpoint here")]
    NoCheckpoint(String),
    /// The run was made with a config that cannot be gone on from.
    #[error("{path}: cannot go on with another config (another run can, in its own folder: --run, and `init` to begin from this one's student); these keys differ:\n{}", .differences.join("\n"))]
    Incompatible {
        /// The checkpoint.
        path: String,
        /// `key: then → now`, one each.
        differences: Vec<String>,
    },
    /// The run was made on other data.
    #[error(
        "{path}: made on other data (fingerprint {then}, the set at {url} has {now}); start another run, or point data.train at a copy of the first set"
    )]
    OtherData {
        /// The checkpoint.
        path: String,
        /// The set as it is now.
        url: String,
        /// Fingerprint in the checkpoint.
        then: String,
        /// Fingerprint of the set.
        now: String,
    },
    /// There are checkpoints, and none is whole.
    #[error(
        "{}: has no {file}, and no other checkpoint is whole; copy it again, or begin anew in another folder with --run", .path.display()
    )]
    Damaged {
        /// The newest checkpoint.
        path: PathBuf,
        /// The file that it lacks.
        file: &'static str,
    },
    /// The run was made with another vocabulary.
    #[error(
        "{path}: made with another vocabulary than the one that data.text.tokenizer names; its ids mean other tokens. Point data.text.tokenizer at a copy of the first one"
    )]
    OtherVocabulary {
        /// The checkpoint.
        path: String,
    },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// An open run, of this process alone as long as this value lives.
pub(super) struct Run {
    /// The run's folder.
    pub folder: Folder,
    /// Where its files grow: there, or, if that is in a store, on this machine.
    growing: PathBuf,
    /// Bytes of the list of bad samples that the store has.
    quarantine_sent: Cell<usize>,
    lease: Lease,
    _scratch: Option<Scratch>,
}

impl Run {
    /// Opens or makes the run in `folder`, for this process alone.
    pub(super) fn open(folder: &Folder) -> Result<Self, RunError> {
        let lease = folder.lease("lock")?;
        let (growing, scratch) = if let Some(local) = folder.local() {
            (local.to_owned(), None)
        } else {
            let scratch = Scratch::new()?;
            (scratch.path().to_owned(), Some(scratch))
        };
        let run = Self {
            folder: folder.clone(),
            growing,
            quarantine_sent: Cell::default(),
            lease,
            _scratch: scratch,
        };
        if folder.local().is_none()
            && let Some(lines) = folder.read(QUARANTINE)?
        {
            let path = run.quarantine_path();
            fs::write(&path, &lines).map_err(|source| StoreError::Io { path, source })?;
            run.quarantine_sent.set(lines.len());
        }
        Ok(run)
    }

    /// Where its checkpoints lie.
    pub(super) fn checkpoints(&self) -> Folder {
        self.folder.join("checkpoints")
    }

    /// Through which files go that end in a store; of a run on this machine none does.
    pub(super) fn passage(&self) -> &Path {
        &self.growing
    }

    /// Where bad samples are listed.
    pub(super) fn quarantine_path(&self) -> PathBuf {
        self.growing.join(QUARANTINE)
    }

    /// Whether this process may still write the run.
    pub(super) fn check_lease(&self) -> Result<(), StoreError> {
        self.lease.check()
    }

    /// Brings the list of bad samples to a run in a store, if it grew.
    pub(super) fn send_quarantine(&self) -> Result<(), StoreError> {
        let path = self.quarantine_path();
        if self.folder.local().is_some() || !path.exists() {
            return Ok(());
        }
        let lines = fs::read(&path).map_err(|source| StoreError::Io { path, source })?;
        let n_bytes = lines.len();
        if n_bytes > self.quarantine_sent.get() {
            self.folder.write(QUARANTINE, lines)?;
            self.quarantine_sent.set(n_bytes);
        }
        Ok(())
    }

    /// The checkpoint to go on from, if any.
    pub(super) fn start(&self, resume: &Resume) -> Result<Option<Folder>, RunError> {
        let own = newest(&self.checkpoints())?;
        let damaged = checkpoint::damaged(&self.checkpoints())?;
        for (path, file) in &damaged {
            tracing::warn!("{}: left aside, it has no {file}", path.display());
        }
        match (resume, own) {
            // To begin anew would lose what is there, and may yet be mended.
            (Resume::Auto, None) if !damaged.is_empty() => {
                let (path, file) = damaged[damaged.len() - 1].clone();
                Err(RunError::Damaged { path, file })
            }
            (Resume::Auto, own) => Ok(own),
            (Resume::Never, None) => Ok(None),
            (Resume::Never, Some(_)) => Err(RunError::Started(self.folder.url())),
            // Saving below newer checkpoints would mix two histories in one folder.
            (Resume::From(folder), own) => match (find_checkpoint(folder)?, own) {
                (from, Some(own)) if !is_same(&from, &own) => {
                    Err(RunError::Started(self.folder.url()))
                }
                (from, _) => Ok(Some(from)),
            },
        }
    }

    /// Stores the resolved config.
    pub(super) fn write_config(&self, config: &RunConfig) -> Result<(), RunError> {
        Ok(self.folder.write("config.toml", config.to_toml())?)
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { url, holder } => Self::Busy { url, holder },
            error => Self::Store(error),
        }
    }
}

/// The checkpoint that `folder` is, or the newest of the run there.
pub fn find_checkpoint(folder: &Folder) -> Result<Folder, RunError> {
    if checkpoint::is_one(folder)? {
        return Ok(folder.clone());
    }
    newest(&folder.join("checkpoints"))?.ok_or_else(|| RunError::NoCheckpoint(folder.url()))
}

fn is_same(a: &Folder, b: &Folder) -> bool {
    match (a.local(), b.local()) {
        (Some(a), Some(b)) => {
            matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
        }
        _ => a.url().trim_end_matches('/') == b.url().trim_end_matches('/'),
    }
}

fn newest(checkpoints: &Folder) -> Result<Option<Folder>, CheckpointError> {
    Ok(checkpoint::list(checkpoints)?
        .pop()
        .map(|(_, folder)| folder))
}
