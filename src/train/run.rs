//! The folder of a run: who writes it, where it goes on, and whether it may.
//!
//! ```text
//! runs/NAME/config.toml        the resolved config; `understudy train` goes on with it, or with --run repeats the run
//! runs/NAME/metrics.jsonl      one line per logged step
//! runs/NAME/quarantine.jsonl   samples that were bad, with reasons
//! runs/NAME/checkpoints/       step-NNNNNNNNN/
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::RunConfig;
use crate::train::checkpoint::{self, CheckpointError};

/// What `--resume` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Go on from the newest checkpoint of the run, or start if there is none.
    Auto,
    /// Start; refused where the run already has checkpoints.
    Never,
    /// Go on from this run or checkpoint.
    From(PathBuf),
}

impl From<&str> for Resume {
    fn from(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            path => Self::From(path.into()),
        }
    }
}

/// Why a run cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes this run.
    #[error("{0}: another process is training this run; give this one its own folder with --run")]
    Busy(PathBuf),
    /// `--resume never` on a run that has checkpoints.
    #[error(
        "{0}: this run has checkpoints already; go on with --resume auto, or choose another folder with --run"
    )]
    Started(PathBuf),
    /// Nothing to go on from.
    #[error("{0}: no checkpoint here")]
    NoCheckpoint(PathBuf),
    /// The run was made with a config that cannot be gone on from.
    #[error("{path}: cannot go on with another config (another run can, in its own folder: --run, and `init` to begin from this one's student); these keys differ:\n{}", .differences.join("\n"))]
    Incompatible {
        /// The checkpoint.
        path: PathBuf,
        /// `key: then → now`, one each.
        differences: Vec<String>,
    },
    /// The run was made on other data.
    #[error(
        "{path}: made on other data (fingerprint {then}, the set at {url} has {now}); start another run, or point data.train at a copy of the first set"
    )]
    OtherData {
        /// The checkpoint.
        path: PathBuf,
        /// The set as it is now.
        url: String,
        /// Fingerprint in the checkpoint.
        then: String,
        /// Fingerprint of the set.
        now: String,
    },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// An open run. The lock lasts as long as this value.
pub(super) struct Run {
    /// The run's folder.
    pub folder: PathBuf,
    _lock: File,
}

impl Run {
    /// Opens or makes the run in `folder`, for this process alone.
    pub(super) fn open(folder: &Path) -> Result<Self, RunError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(RunError::Busy(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(at(&path)(source)),
        }
    }

    /// Where its checkpoints lie.
    pub(super) fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    /// The checkpoint to go on from, if any.
    pub(super) fn start(&self, resume: &Resume) -> Result<Option<PathBuf>, RunError> {
        let own = newest(&self.checkpoints())?;
        match (resume, own) {
            (Resume::Auto, own) => Ok(own),
            (Resume::Never, None) => Ok(None),
            (Resume::Never, Some(_)) => Err(RunError::Started(self.folder.clone())),
            // Saving below newer checkpoints would mix two histories in one folder.
            (Resume::From(path), own) => match (find_checkpoint(path)?, own) {
                (from, Some(own)) if !same_file(&from, &own) => {
                    Err(RunError::Started(self.folder.clone()))
                }
                (from, _) => Ok(Some(from)),
            },
        }
    }

    /// Stores the resolved config.
    pub(super) fn write_config(&self, config: &RunConfig) -> Result<(), RunError> {
        let path = self.folder.join("config.toml");
        fs::write(&path, config.to_toml()).map_err(at(&path))
    }
}

/// The checkpoint that `path` names: itself, or the newest of the run there.
pub fn find_checkpoint(path: &Path) -> Result<PathBuf, RunError> {
    if path.join("state.json").exists() {
        return Ok(path.to_owned());
    }
    newest(&path.join("checkpoints"))?.ok_or_else(|| RunError::NoCheckpoint(path.to_owned()))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn newest(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(checkpoint::list(folder)?.pop().map(|(_, path)| path))
}

/// Keys that may differ between a run and what goes on from it: none of them changes what a step
/// computes, but for those of [`WARNED`].
const FREE: [&str; 12] = [
    "init",
    "data.cache",
    "data.retry_for",
    "data.train", // A copied set resumes: the fingerprint decides.
    "data.val",
    "data.memory",
    "data.limits",
    "data.max_bad_fraction",
    "guard",
    "train.log_every",
    "train.save_every",
    "train.keep_every_steps",
];

/// Keys that may differ with a word of warning: the objective is the same, the numbers are not
/// bit for bit.
const WARNED: [&str; 3] = ["steps", "threads", "train.micro_batches"];

/// Compares the config of the checkpoint at `path` with the one to go on with. Returns warnings.
pub(super) fn compare(
    path: &Path,
    then: &RunConfig,
    now: &RunConfig,
) -> Result<Vec<String>, RunError> {
    let (then, now) = (flatten(then), flatten(now));
    let mut differences = Vec::new();
    let mut warnings = Vec::new();
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for key in keys {
        let (a, b) = (then.get(key), now.get(key));
        if a == b || within(key, &FREE) {
            continue;
        }
        let show = |value: Option<&String>| value.cloned().unwrap_or_else(|| "not set".to_owned());
        let difference = format!("{key}: {} → {}", show(a), show(b));
        if within(key, &WARNED) {
            warnings.push(difference);
        } else {
            differences.push(difference);
        }
    }
    if differences.is_empty() {
        Ok(warnings)
    } else {
        Err(RunError::Incompatible {
            path: path.to_owned(),
            differences,
        })
    }
}

fn within(key: &str, list: &[&str]) -> bool {
    list.iter().any(|item| {
        key == *item
            || key
                .strip_prefix(item)
                .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Dotted key → value, as text.
fn flatten(config: &RunConfig) -> std::collections::BTreeMap<String, String> {
    fn walk(
        prefix: &str,
        value: &toml::Value,
        out: &mut std::collections::BTreeMap<String, String>,
    ) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let key = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}.{key}")
                    };
                    walk(&key, value, out);
                }
            }
            value => {
                out.insert(prefix.to_owned(), value.to_string());
            }
        }
    }
    let mut out = std::collections::BTreeMap::new();
    let table = toml::Value::try_from(config).expect("a config holds only what TOML can say");
    walk("", &table, &mut out);
    out
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |source| RunError::Io {
        path: path.to_owned(),
        source,
    }
}
