//! Verification of a dataset: hashes, labels, and that every sample decodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use rayon::prelude::*;

use crate::config::Limits;
use crate::decode::{decode_audio, decode_image, text};
use crate::shard::{Dataset, Kind, Rows, unpadded_tokens};
use crate::{Error, Result, SampleError};

/// Row groups that are read ahead of the one that is checked.
const GROUPS_AHEAD: usize = 2;

/// One fault of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the shard, relative to the dataset.
    pub shard: String,
    /// Row in the shard, from 0; `None` if the file or one of its row groups is faulty.
    pub row: Option<u64>,
    /// Description of the fault.
    pub reason: String,
}

/// Counts of a verification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verification {
    /// Number of rows read.
    pub rows: u64,
    /// Number of shards whose hash was compared with the manifest; 0 without a manifest.
    pub hashed_shards: usize,
    /// Number of rows without a hash.
    pub unhashed_rows: u64,
    /// Number of rows without a label.
    pub unlabelled_rows: u64,
    /// Number of rows whose label is a name, in a dataset without a list of class names.
    pub unlisted_labels: u64,
    /// Number of problems found.
    pub problems: u64,
    /// Whether `stop` ended the verification early.
    pub interrupted: bool,
}

/// Checks each file against the manifest, and each row: its hash, its label, and that it decodes.
/// Calls `found` with each problem, and `progress` with the rows done and all rows. Ends early when
/// `stop` is set.
///
/// # Errors
///
/// Only those of opening the dataset, and of the store.
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
        let dataset = Dataset::open(url, &Kind::ALL, columns).await?;
        let mut done = Verification::default();
        let mut report = |done: &mut Verification, problem| {
            done.problems += 1;
            found(problem);
        };
        if let Some(manifest) = dataset.read_manifest().await? {
            for shard in &dataset.shards {
                // A pattern may select some shards only, and may select files that are not in the manifest.
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
                        "hash mismatch: xxh3 {} in the manifest, {hash} in the file",
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
        let groups = dataset.shards.iter().enumerate().flat_map(|(s, shard)| {
            let starts = shard.groups.iter().scan(0, |row, group| {
                let start = *row;
                *row += group.rows;
                Some(start)
            });
            starts.enumerate().map(move |(g, start)| (s, g, start))
        });
        let reads = groups.map(|(s, g, start)| {
            let dataset = &dataset;
            async move { (s, g, start, dataset.read_group(s, g).await) }
        });
        let mut reads = std::pin::pin!(futures::stream::iter(reads).buffered(GROUPS_AHEAD));
        while let Some((s, g, start, rows)) = reads.next().await {
            if stop.load(Ordering::Relaxed) {
                done.interrupted = true;
                break;
            }
            let shard = &dataset.shards[s].path;
            match rows {
                Ok(rows) => {
                    done.rows += rows.len() as u64;
                    for (row, reason) in check_rows(&dataset, &rows, &mut done) {
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
                // The reason contains the row group.
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
            let passed = dataset.shards[s].first_row + start + dataset.shards[s].groups[g].rows;
            progress(passed, dataset.rows);
        }
        Ok(done)
    })
}

/// Checks the rows of one group. Returns the bad ones, in order.
fn check_rows(
    dataset: &Dataset,
    rows: &Rows,
    done: &mut Verification,
) -> Vec<(usize, SampleError)> {
    let n_rows = 0..rows.len();
    done.unhashed_rows += n_rows
        .clone()
        .filter(|&row| rows.xxh3(row).is_none())
        .count() as u64;
    done.unlabelled_rows += n_rows.clone().filter(|&row| !rows.is_labelled(row)).count() as u64;
    done.unlisted_labels += n_rows
        .clone()
        .filter(|&row| rows.has_unlisted_label(row))
        .count() as u64;
    let bad = n_rows
        .into_par_iter()
        .filter_map(|row| Some((row, check_row(dataset, rows, row).err()?)));
    bad.collect()
}

fn check_row(dataset: &Dataset, rows: &Rows, row: usize) -> Result<(), SampleError> {
    let bytes = rows.checked(row)?;
    if rows.is_labelled(row) && !rows.has_unlisted_label(row) {
        rows.label(row)?;
    }
    let limits = Limits::default();
    match (dataset.kind, &dataset.tokenizer) {
        (Kind::Image, _) => decode_image(bytes, &limits).map(drop),
        (Kind::Audio, _) => decode_audio(bytes, &limits, None).map(drop),
        (Kind::Tokens, Some(info)) => unpadded_tokens(info, bytes, rows.n_tokens(row)).map(drop),
        (Kind::Text | Kind::Tokens, _) => {
            let second = rows.second(row).unwrap_or_default();
            text(bytes).and_then(|_| text(second)).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// Verifies a dataset of three texts with these labels, and the class names `a` and `b` if asked.
    fn verified(labels: ArrayRef, classes: bool) -> (Verification, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["one", "two", "three"]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("text", texts, false),
            ("label", labels, true),
        ]);
        let batch = batch.expect("columns of one length");
        let names =
            r#"{"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}"#;
        let metadata = classes.then(|| ("huggingface".to_owned(), names.to_owned()));
        let schema = batch.schema().as_ref().clone();
        let schema = schema.with_metadata(
            metadata
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
        let schema = Arc::new(schema);
        let batch = batch
            .with_schema(Arc::clone(&schema))
            .expect("the same columns");
        write(&folder.path().join("a.parquet"), &batch);
        let url = folder.path().to_str().expect("UTF-8");
        let mut problems = Vec::new();
        let done = verify(
            url,
            &BTreeMap::new(),
            &mut |problem| problems.push(problem.reason),
            &mut |_, _| {},
            &AtomicBool::new(false),
        );
        (done.expect("a dataset"), problems)
    }

    fn write(path: &Path, batch: &RecordBatch) {
        let file = std::fs::File::create(path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(batch).expect("written");
        writer.close().expect("closed");
    }

    #[test]
    fn verify_accepts_labels_without_a_number() {
        let names = || Arc::new(StringArray::from(vec![Some("a"), Some("cat"), None]));
        let (done, problems) = verified(names(), false);
        assert_eq!(problems, [""; 0]);
        assert_eq!((done.unlisted_labels, done.unlabelled_rows), (2, 1));
        let (done, problems) = verified(names(), true);
        assert_eq!(
            problems,
            ["label `cat` is not one of the dataset's classes"]
        );
        assert_eq!((done.unlisted_labels, done.unlabelled_rows), (0, 1));
    }

    #[test]
    fn verify_takes_class_minus_one_for_no_label() {
        let numbers = |third| Arc::new(Int64Array::from(vec![-1, 1, third]));
        let (done, problems) = verified(numbers(-1), true);
        assert_eq!(problems, [""; 0]);
        assert_eq!(done.unlabelled_rows, 2);
        let (done, problems) = verified(numbers(2), true);
        assert_eq!(problems, ["label 2 is not in the dataset's 2 classes"]);
        assert_eq!(done.unlabelled_rows, 1);
    }
}
