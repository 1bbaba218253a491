//! Reads samples, encodes them on all threads, and returns the results in the source's order.
//!
//! Samples are sent in blocks through channels of one block each. At most five blocks are in memory at
//! any time, whatever the size of the corpus.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, bounded};
use rayon::prelude::*;

use crate::tokenize::Tokenizer;
use crate::write::classes::LabelMap;
use crate::write::encode::{Encoded, encode};
use crate::write::options::EncodeOptions;
use crate::write::sample::{BadSample, Body, RawSample};
use crate::write::source::SampleSource;
use crate::{Error, Result};

/// A block is closed at this many samples …
const BLOCK_SAMPLES: usize = 256;
/// … or this many bytes of encoded media, whichever comes first.
const BLOCK_BYTES: u64 = 16 << 20;

/// Results for the samples of one block, in order.
pub(crate) type Outcomes = Vec<Result<Encoded, BadSample>>;

/// Input of the worker threads.
#[derive(Clone, Copy)]
pub(crate) struct EncodeTask<'a> {
    pub(crate) sources: &'a [SampleSource],
    /// Number of first samples to skip: finished shards contain them.
    pub(crate) skip: u64,
    pub(crate) options: &'a EncodeOptions,
    pub(crate) labels: &'a LabelMap,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
}

/// Encodes all samples of the sources on `pool` and calls `each` for each block, in order. Returns
/// `Break` once `stop` is set.
pub(crate) fn encode_all(
    task: EncodeTask,
    pool: &rayon::ThreadPool,
    stop: &AtomicBool,
    mut each: impl FnMut(Outcomes) -> Result<()>,
) -> Result<ControlFlow<()>> {
    let (block_sender, blocks) = bounded::<Result<Vec<RawSample>>>(1);
    let (outcome_sender, outcomes) = bounded::<Result<Outcomes>>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || read_blocks(task, &block_sender));
        scope.spawn(move || {
            for block in blocks {
                let outcome = block.and_then(|block| pool.install(|| encode_block(block, task)));
                if outcome_sender.send(outcome).is_err() {
                    break;
                }
            }
        });
        // Leaving this loop drops the receiver, which ends both threads.
        for outcome in outcomes {
            if stop.load(Ordering::Relaxed) {
                return Ok(ControlFlow::Break(()));
            }
            each(outcome?)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn encode_block(block: Vec<RawSample>, task: EncodeTask) -> Result<Outcomes> {
    block
        .into_par_iter()
        .map(|sample| encode(sample, task.options, task.labels, task.tokenizer))
        .collect()
}

fn read_blocks(task: EncodeTask, blocks: &Sender<Result<Vec<RawSample>>>) {
    let mut block = Vec::new();
    let mut bytes = 0;
    let mut skip = task.skip;
    for source in task.sources {
        let read = source.read(skip, &mut |sample| {
            bytes += match &sample.body {
                Body::File(_, bytes) | Body::Slice(_, _, bytes) => *bytes,
                Body::Bytes(bytes) => bytes.len() as u64,
                Body::Bad(_) => 0,
            };
            block.push(sample);
            if block.len() < BLOCK_SAMPLES && bytes < BLOCK_BYTES {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            match blocks.send(Ok(std::mem::take(&mut block))) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        match read {
            Ok(ControlFlow::Continue(rest)) => skip = rest,
            Ok(ControlFlow::Break(())) => return,
            Err(error) => return send_error(error, block, blocks),
        }
    }
    if !block.is_empty() {
        // If the receiver is gone, it has reported the reason already.
        let _ = blocks.send(Ok(block));
    }
}

/// Sends the samples read before an error of the source, then the error.
fn send_error(error: Error, block: Vec<RawSample>, blocks: &Sender<Result<Vec<RawSample>>>) {
    let _ = blocks
        .send(Ok(block))
        .and_then(|()| blocks.send(Err(error)));
}
