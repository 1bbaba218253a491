//! Samples in, rows out: read, checked on all threads, handed over in the source's order.
//!
//! Samples travel in blocks through channels that hold one block each, so at any time there are at
//! most five blocks in memory, whatever the size of the corpus.

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

/// A block is closed at so many samples …
const BLOCK_SAMPLES: usize = 256;
/// … or so many bytes of encoded media, whichever comes first.
const BLOCK_BYTES: u64 = 16 << 20;

/// What became of the samples of one block, in order.
pub(crate) type Outcomes = Vec<Result<Encoded, BadSample>>;

/// Everything that turns samples into rows.
#[derive(Clone, Copy)]
pub(crate) struct EncodeTask<'a> {
    pub(crate) sources: &'a [SampleSource],
    /// Samples that are in finished shards already.
    pub(crate) skip: u64,
    pub(crate) options: &'a EncodeOptions,
    pub(crate) labels: &'a LabelMap,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
}

/// Runs the sources through `pool` and gives each block to `each`, in order. Ends early, with
/// `BlockBoundary`, once `stop` is set.
pub(crate) fn stream(
    work: EncodeTask,
    pool: &rayon::ThreadPool,
    stop: &AtomicBool,
    mut each: impl FnMut(Outcomes) -> Result<()>,
) -> Result<ControlFlow<()>> {
    let (block_sender, blocks) = bounded::<Result<Vec<RawSample>>>(1);
    let (outcome_sender, outcomes) = bounded::<Result<Outcomes>>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || read_blocks(work, &block_sender));
        scope.spawn(move || {
            for block in blocks {
                let outcome = block.and_then(|block| pool.install(|| check(block, work)));
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

fn check(block: Vec<RawSample>, work: EncodeTask) -> Result<Outcomes> {
    block
        .into_par_iter()
        .map(|sample| encode(sample, work.options, work.labels, work.tokenizer))
        .collect()
}

fn read_blocks(work: EncodeTask, blocks: &Sender<Result<Vec<RawSample>>>) {
    let mut block = Vec::new();
    let mut bytes = 0;
    let mut skip = work.skip;
    for source in work.sources {
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
            Err(error) => return report(error, block, blocks),
        }
    }
    if !block.is_empty() {
        // A receiver that is gone has already said why.
        let _ = blocks.send(Ok(block));
    }
}

/// What came before a fault in the source still goes into shards.
fn report(error: Error, block: Vec<RawSample>, blocks: &Sender<Result<Vec<RawSample>>>) {
    let _ = blocks
        .send(Ok(block))
        .and_then(|()| blocks.send(Err(error)));
}
