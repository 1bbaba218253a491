//! The directory of a run: its lock, its files, and the checkpoint to resume from.
//!
//! [`layout`](crate::checkpoint::layout) has the names of its files.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use understudy_pipelines::Error as StoreError;
use understudy_pipelines::quarantine::QUARANTINE_NAME;
use understudy_pipelines::store::{Folder, Lease, Scratch, StoreOptions};

use super::error::RunError;
use crate::checkpoint;
use crate::checkpoint::find::{find_checkpoint, newest};
use crate::checkpoint::layout::{CHECKPOINTS, CONFIG, LOCK};
use crate::config::RunConfig;

/// Value of `--resume`.
#[derive(Debug, Clone)]
pub enum Resume {
    /// Resume from the newest checkpoint of the run, or start if there is none.
    Auto,
    /// Start; an error where the run already has checkpoints.
    Never,
    /// Resume from this run or checkpoint.
    From(Folder),
}

impl Resume {
    /// Parses `auto`, `never`, or a path or URL.
    pub fn parse(text: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            place => Self::From(Folder::open(place, options)?),
        })
    }
}

/// How a run resumes from its checkpoint.
#[derive(Debug, Clone)]
pub struct ResumeOptions {
    /// The checkpoint to resume from.
    pub from: Resume,
    /// Settings that may differ from the checkpoint's.
    pub allow: Vec<Allow>,
    /// Step to resume at, if it is after the checkpoint's: the samples of the steps between are left
    /// out.
    pub skip_to: Option<u64>,
}

/// Settings that may differ from the checkpoint's on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Allow {
    /// The table `[optim]`, and a number of steps that changes the learning rate.
    Optim,
}

impl From<Resume> for ResumeOptions {
    fn from(from: Resume) -> Self {
        Self {
            from,
            allow: Vec::new(),
            skip_to: None,
        }
    }
}

/// An open run, locked for this process as long as this value lives.
pub(super) struct RunDir {
    /// The run's folder.
    pub folder: Folder,
    /// Local folder of growing files: the run's own, or a temporary one of a run in object storage.
    local: PathBuf,
    /// Bytes of the list of bad samples that are uploaded.
    quarantine_uploaded: Cell<usize>,
    lease: Lease,
    _scratch: Option<Scratch>,
}

impl RunDir {
    /// Opens or creates the run in `folder` and locks it for this process.
    pub(super) fn open(folder: &Folder) -> Result<Self, RunError> {
        let lease = folder.lease(LOCK)?;
        let (local, scratch) = if let Some(local) = folder.local() {
            (local.to_owned(), None)
        } else {
            let scratch = Scratch::new()?;
            (scratch.path().to_owned(), Some(scratch))
        };
        let run = Self {
            folder: folder.clone(),
            local,
            quarantine_uploaded: Cell::default(),
            lease,
            _scratch: scratch,
        };
        if folder.local().is_none()
            && let Some(lines) = folder.read(QUARANTINE_NAME)?
        {
            let path = run.quarantine_path();
            fs::write(&path, &lines).map_err(|source| StoreError::Io { path, source })?;
            run.quarantine_uploaded.set(lines.len());
        }
        Ok(run)
    }

    /// Returns the folder of its checkpoints.
    pub(super) fn checkpoints(&self) -> Folder {
        self.folder.join(CHECKPOINTS)
    }

    /// Returns the local folder that uploads pass through; a local run uploads nothing.
    pub(super) fn staging_dir(&self) -> &Path {
        &self.local
    }

    /// Returns the local path of the list of bad samples.
    pub(super) fn quarantine_path(&self) -> PathBuf {
        self.local.join(QUARANTINE_NAME)
    }

    /// Fails if another process has taken over the run.
    pub(super) fn check_lease(&self) -> Result<(), StoreError> {
        self.lease.check()
    }

    /// Uploads the list of bad samples of a run in object storage, if it grew.
    pub(super) fn upload_quarantine(&self) -> Result<(), StoreError> {
        let path = self.quarantine_path();
        if self.folder.local().is_some() || !path.exists() {
            return Ok(());
        }
        let lines = fs::read(&path).map_err(|source| StoreError::Io { path, source })?;
        let n_bytes = lines.len();
        if n_bytes > self.quarantine_uploaded.get() {
            self.folder.write(QUARANTINE_NAME, lines)?;
            self.quarantine_uploaded.set(n_bytes);
        }
        Ok(())
    }

    /// Returns the checkpoint to resume from, if any.
    pub(super) fn resume_from(&self, resume: &Resume) -> Result<Option<Folder>, RunError> {
        let own = newest(&self.checkpoints())?;
        let damaged = checkpoint::damaged(&self.checkpoints())?;
        for (path, file) in &damaged {
            tracing::warn!(
                "incomplete checkpoint is ignored: {} has no {file}",
                path.display()
            );
        }
        match (resume, own) {
            // Starting again would overwrite a run that a new copy of the checkpoint may repair.
            (Resume::Auto, None) if !damaged.is_empty() => {
                let (path, file) = damaged[damaged.len() - 1].clone();
                Err(RunError::Damaged { path, file })
            }
            (Resume::Auto, own) => Ok(own),
            (Resume::Never, None) => Ok(None),
            (Resume::Never, Some(_)) => Err(RunError::Started(self.folder.url())),
            // Saving next to newer checkpoints would mix two histories in one folder.
            (Resume::From(folder), own) => match (find_checkpoint(folder)?, own) {
                (from, Some(own)) if !is_same(&from, &own) => {
                    Err(RunError::Started(self.folder.url()))
                }
                (from, _) => Ok(Some(from)),
            },
        }
    }

    /// Writes the resolved config.
    pub(super) fn write_config(&self, config: &RunConfig) -> Result<(), RunError> {
        Ok(self.folder.write(CONFIG, config.to_toml())?)
    }
}

/// Returns whether two folders are the same one.
fn is_same(a: &Folder, b: &Folder) -> bool {
    match (a.local(), b.local()) {
        (Some(a), Some(b)) => {
            matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
        }
        _ => a.url().trim_end_matches('/') == b.url().trim_end_matches('/'),
    }
}
