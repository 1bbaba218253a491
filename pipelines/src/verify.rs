//! Proof that a set of shards is whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use rayon::prelude::*;

use crate::config::Limits;
use crate::decode::{decode_audio, decode_image, text};
use crate::shard::{Dataset, Kind, Rows, unpadded_tokens};
use crate::{Error, Result, SampleError};

/// Row groups that are fetched while another is checked.
const GROUPS_AHEAD: usize = 2;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the shard, relative to the set.
    pub shard: String,
    /// Row within the shard, from 0; `None` where the file or a row group of it is wrong.
    pub row: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verification {
    /// Rows that were read.
    pub rows: u64,
    /// Shards whose hash was compared with the manifest's: none where there is no manifest.
    pub hashed_shards: usize,
    /// Rows without a hash of their own.
    pub unhashed_rows: u64,
    /// Rows without a label.
    pub unlabelled_rows: u64,
    /// Everything that is wrong.
    pub problems: u64,
    /// Whether the check was stopped before its end.
    pub interrupted: bool,
}

/// Checks every file against the manifest, and every row: its hash, its label, that it decodes.
/// `found` is told each problem, `progress` the rows done and all rows. Ends early once `stop` is
/// set.
///
/// # Errors
///
/// Only what keeps the set from being opened, or the store from answering.
pub fn verify(
    url: &str,
    columns: &BTreeMap<String, String>,
    found: &mut dyn FnMut(Problem),
    progress: &mut dyn FnMut(u64, u64),
    stop: &AtomicBool,
) -> Result<Verification> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::Io {
            path: "the I/O runtime".into(),
            source,
        })?;
    runtime.block_on(async {
        let set = Dataset::open(url, &Kind::ALL, columns).await?;
        let mut done = Verification::default();
        let mut report = |done: &mut Verification, problem| {
            done.problems += 1;
            found(problem);
        };
        if let Some(manifest) = set.read_manifest().await? {
            for shard in &set.shards {
                // A pattern names some of them, and may name files that the set does not count.
                let listed = manifest
                    .shards
                    .iter()
                    .find(|listed| listed.path == shard.path);
                let Some(listed) = listed else { continue };
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                done.hashed_shards += 1;
                let reason = match shard.hash().await.map(|hash| format!("{hash:016x}")) {
                    Ok(hash) if hash == listed.xxh3 => None,
                    Ok(hash) => Some(format!(
                        "the manifest says xxh3 {}, the file has {hash}",
                        listed.xxh3
                    )),
                    Err(Error::Corrupt { reason, .. }) => Some(reason),
                    Err(error) => return Err(error),
                };
                if let Some(reason) = reason {
                    report(
                        &mut done,
                        Problem {
                            shard: shard.path.clone(),
                            row: None,
                            reason,
                        },
                    );
                }
            }
        }
        let groups = set.shards.iter().enumerate().flat_map(|(s, shard)| {
            let starts = shard.groups.iter().scan(0, |row, group| {
                let start = *row;
                *row += group.rows;
                Some(start)
            });
            starts.enumerate().map(move |(g, start)| (s, g, start))
        });
        let reads = groups.map(|(s, g, start)| {
            let set = &set;
            async move { (s, g, start, set.read_group(s, g).await) }
        });
        let mut reads = std::pin::pin!(futures::stream::iter(reads).buffered(GROUPS_AHEAD));
        while let Some((s, g, start, rows)) = reads.next().await {
            if stop.load(Ordering::Relaxed) {
                done.interrupted = true;
                break;
            }
            let shard = &set.shards[s].path;
            match rows {
                Ok(rows) => {
                    done.rows += rows.len() as u64;
                    for (row, reason) in check_rows(&set, &rows, &mut done) {
                        let row = Some(start + row as u64);
                        report(
                            &mut done,
                            Problem {
                                shard: shard.clone(),
                                row,
                                reason: reason.to_string(),
                            },
                        );
                    }
                }
                // The reason names the row group.
                Err(Error::Corrupt { reason, .. }) => {
                    report(
                        &mut done,
                        Problem {
                            shard: shard.clone(),
                            row: None,
                            reason,
                        },
                    );
                }
                Err(error) => return Err(error),
            }
            let passed = set.shards[s].first_row + start + set.shards[s].groups[g].rows;
            progress(passed, set.rows);
        }
        Ok(done)
    })
}

/// The bad rows of one group, in order.
fn check_rows(set: &Dataset, rows: &Rows, done: &mut Verification) -> Vec<(usize, SampleError)> {
    let n_rows = 0..rows.len();
    done.unhashed_rows += n_rows
        .clone()
        .filter(|&row| rows.xxh3(row).is_none())
        .count() as u64;
    done.unlabelled_rows += n_rows.clone().filter(|&row| !rows.is_labelled(row)).count() as u64;
    let bad = n_rows
        .into_par_iter()
        .filter_map(|row| Some((row, check_row(set, rows, row).err()?)));
    bad.collect()
}

fn check_row(set: &Dataset, rows: &Rows, row: usize) -> Result<(), SampleError> {
    let bytes = rows.checked(row)?;
    if rows.is_labelled(row) {
        rows.label(row)?;
    }
    let limits = Limits::default();
    match (set.kind, &set.tokenizer) {
        (Kind::Image, _) => decode_image(bytes, &limits).map(drop),
        (Kind::Audio, _) => decode_audio(bytes, &limits, None).map(drop),
        (Kind::Tokens, Some(info)) => unpadded_tokens(info, bytes, rows.n_tokens(row)).map(drop),
        (Kind::Text | Kind::Tokens, _) => {
            let second = rows.second(row).unwrap_or_default();
            text(bytes).and_then(|_| text(second)).map(drop)
        }
    }
}
