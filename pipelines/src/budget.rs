//! One byte budget over every buffer of the pipeline.
//!
//! `memory` is divided once, at the start, among the four kinds of buffers:
//!
//! | share | holds | taken |
//! | --- | --- | --- |
//! | batches | batches in filling, prefetched, and in use by the trainer | one by one |
//! | samples | crops, waveforms and tokens that wait for their turn | before a sample goes to a thread |
//! | windows | fetched row groups | before a read starts |
//! | decoding | decoded media and the decoders' scratch | after the header, before the pixels |
//!
//! The pipeline is free of deadlocks because no stage takes from another stage's share: a decoder
//! waits only for other decoders, which end by themselves, and a lane can always fetch its next window
//! once its last one is used up (see `pipeline/fetch.rs`).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result, SampleError};

/// The sizes that the shares must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) micro_batch_bytes: u64,
    /// Micro-batches that are alive at once.
    pub(crate) n_micro_batches: u64,
    pub(crate) sample_bytes: u64,
    /// Samples that must be held at once: all of a micro-batch, where it is only made when all its
    /// samples are there.
    pub(crate) least_samples: u64,
    /// Samples that keep all threads busy; fewer are enough if memory is short.
    pub(crate) n_samples: u64,
    pub(crate) windows: Windows,
    pub(crate) n_lanes: u64,
}

/// Memory of the windows of all lanes of a rank, in bytes. A row group that several lanes use is
/// held once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    /// One window of each lane.
    pub(crate) least_bytes: u64,
    /// Two windows of each lane: one in use and the next.
    pub(crate) ahead_bytes: u64,
}

impl Windows {
    /// Returns what the lanes of a dataset need: `window_bytes` each, and no more than the dataset.
    pub(crate) fn of(window_bytes: u64, dataset_bytes: u64, n_lanes: u64) -> Self {
        let windows = |n: u64| window_bytes.saturating_mul(n).min(dataset_bytes);
        Self {
            least_bytes: windows(n_lanes),
            ahead_bytes: windows(2 * n_lanes),
        }
    }

    /// Adds the windows of another dataset.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            least_bytes: self.least_bytes.saturating_add(other.least_bytes),
            ahead_bytes: self.ahead_bytes.saturating_add(other.ahead_bytes),
        }
    }
}

/// Returns how many bytes the decoding of one sample may take: a quarter of `memory`. A sample that
/// takes more is bad. This depends on the config alone, so that all runs of it have the same samples.
pub(crate) fn decode_limit(memory_bytes: u64) -> u64 {
    memory_bytes / DECODE_SHARE
}

/// The share of decoding is at least the inverse of this.
const DECODE_SHARE: u64 = 4;

impl Needs {
    /// Returns the least `memory` that is enough, in bytes.
    pub(crate) fn least_bytes(&self) -> u64 {
        with_decoding(
            self.batches_bytes()
                .saturating_add(self.windows.least_bytes),
        )
    }

    /// Returns the least `memory`, in bytes, that holds two windows of each lane, keeps all threads
    /// busy and leaves a quarter for decoding.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        let more_samples = self.n_samples.saturating_sub(self.least_samples);
        let samples_bytes = more_samples.saturating_mul(self.sample_bytes);
        let rest = self.windows.ahead_bytes.saturating_add(samples_bytes);
        // Waiting samples may take an eighth.
        let rest = rest.max(samples_bytes.saturating_mul(8));
        with_decoding(self.batches_bytes().saturating_add(rest))
    }

    fn batches_bytes(&self) -> u64 {
        let batches_bytes = self.micro_batch_bytes.saturating_mul(self.n_micro_batches);
        batches_bytes.saturating_add(self.sample_bytes.saturating_mul(self.least_samples))
    }
}

/// Returns the `memory` of which this and [`decode_limit`] are all.
fn with_decoding(bytes: u64) -> u64 {
    bytes.saturating_add(bytes.div_ceil(DECODE_SHARE - 1))
}

/// The four shares of `memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) n_samples: usize,
    pub(crate) windows_bytes: u64,
    /// At least the [`decode_limit`].
    pub(crate) decode_bytes: u64,
}

impl Shares {
    /// Divides `memory_bytes`; fails if batches and windows leave less than the [`decode_limit`].
    pub(crate) fn divide(memory_bytes: u64, needs: &Needs) -> Result<Shares> {
        let short = |what: String, needed_bytes: u64, lower: &'static str| Error::Budget {
            what,
            needed_bytes,
            memory_bytes,
            lower,
        };
        let batches_bytes = needs
            .micro_batch_bytes
            .saturating_mul(needs.n_micro_batches);
        let least_samples_bytes = needs.sample_bytes.saturating_mul(needs.least_samples);
        let decode_limit = decode_limit(memory_bytes);
        let after_batches = (memory_bytes - decode_limit)
            .checked_sub(batches_bytes)
            .and_then(|rest| rest.checked_sub(least_samples_bytes))
            .ok_or_else(|| {
                short(
                    format!("holding {} micro-batches", needs.n_micro_batches),
                    with_decoding(batches_bytes.saturating_add(least_samples_bytes)),
                    "the size of a step (`batch`), the prefetch, or the number of masks; or use more micro-batches per step",
                )
            })?;
        // Waiting samples may take an eighth, and half of what windows leave; the least must fit in
        // any case.
        let least_windows = needs.windows.least_bytes;
        let samples_bytes =
            (after_batches / 8).min(after_batches.saturating_sub(least_windows) / 2);
        let least = needs.least_samples;
        let n_samples =
            (samples_bytes / needs.sample_bytes.max(1)).clamp(least, needs.n_samples.max(least));
        let rest = after_batches.saturating_sub((n_samples - least) * needs.sample_bytes);

        if rest < least_windows {
            return Err(short(
                format!(
                    "one window of row groups for each of {} lanes",
                    needs.n_lanes
                ),
                needs.least_bytes(),
                "`window_chunks` or `lanes`, or write shards with smaller row groups",
            ));
        }
        // One window in use and one ahead per lane, if they fit.
        let windows_bytes = needs.windows.ahead_bytes.min(rest);
        Ok(Shares {
            n_samples: n_samples as usize,
            windows_bytes,
            decode_bytes: decode_limit + rest - windows_bytes,
        })
    }
}

/// The share of the decoders: a semaphore in bytes.
#[derive(Debug)]
pub(crate) struct DecodeShare {
    limit_bytes: u64,
    free: Mutex<Free>,
    changed: Condvar,
}

#[derive(Debug)]
struct Free {
    bytes: u64,
    /// Tickets are served in turn, so that a large image does not wait for ever.
    next_ticket: u64,
    now_serving: u64,
}

impl DecodeShare {
    /// Makes a share of `share_bytes`, of which one sample may take `limit_bytes`.
    pub(crate) fn new(share_bytes: u64, limit_bytes: u64) -> Self {
        Self {
            limit_bytes: limit_bytes.min(share_bytes),
            free: Mutex::new(Free {
                bytes: share_bytes,
                next_ticket: 0,
                now_serving: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits until `bytes` are free and reserves them until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`SampleError::Memory`] for more bytes than one sample may take.
    pub(crate) fn take(&self, bytes: u64) -> Result<Reserved<'_>, SampleError> {
        if bytes > self.limit_bytes {
            return Err(SampleError::Memory {
                needed_bytes: bytes,
                limit_bytes: self.limit_bytes,
                memory_bytes: bytes.saturating_mul(DECODE_SHARE),
            });
        }
        let mut free = self.lock();
        let ticket = free.next_ticket;
        free.next_ticket += 1;
        while free.now_serving != ticket || free.bytes < bytes {
            free = self
                .changed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        free.now_serving += 1;
        free.bytes -= bytes;
        self.changed.notify_all();
        Ok(Reserved { share: self, bytes })
    }

    /// Locks the counters. A thread that panicked leaves no half-done change, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes reserved in a [`DecodeShare`], freed on drop.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    share: &'a DecodeShare,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.share.lock().bytes += self.bytes;
        self.share.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const NEEDS: Needs = Needs {
        micro_batch_bytes: 100,
        n_micro_batches: 4,
        sample_bytes: 10,
        least_samples: 1,
        n_samples: 8,
        windows: Windows {
            least_bytes: 200,
            ahead_bytes: 400,
        },
        n_lanes: 4,
    };

    #[test]
    fn shares_add_up_to_memory() {
        for memory in [820, 1_000, 5_000, 1_000_000] {
            let shares = Shares::divide(memory, &NEEDS).expect("fits");
            let sum =
                400 + shares.n_samples as u64 * 10 + shares.windows_bytes + shares.decode_bytes;
            assert_eq!(sum, memory);
            assert!(shares.windows_bytes >= 200 && shares.n_samples >= 1);
            assert!(shares.decode_bytes >= decode_limit(memory));
        }
        // With plenty there are two windows a lane and all the samples asked for.
        let shares = Shares::divide(1_000_000, &NEEDS).expect("fits");
        assert_eq!((shares.windows_bytes, shares.n_samples), (400, 8));
    }

    #[test]
    fn divide_gives_room_to_samples_that_must_be_held_at_once() {
        let needs = Needs {
            least_samples: 20,
            ..NEEDS
        };
        let shares = Shares::divide(1100, &needs).expect("fits");
        assert_eq!(shares.n_samples, 20);
        assert_eq!(400 + 200 + shares.windows_bytes + shares.decode_bytes, 1100);
        assert!(Shares::divide(1060, &needs).is_err(), "20 samples less");
    }

    #[test]
    fn divide_accepts_the_least_memory_and_no_less() {
        for least_samples in [1, 2, 20] {
            let needs = Needs {
                least_samples,
                ..NEEDS
            };
            let least = needs.least_bytes();
            assert!(Shares::divide(least, &needs).is_ok(), "{least}");
            assert!(Shares::divide(least - 2, &needs).is_err(), "{least}");
            let ahead = Shares::divide(needs.ahead_bytes(), &needs).expect("more");
            assert_eq!(ahead.windows_bytes, 400);
        }
    }

    #[test]
    fn windows_hold_a_group_of_several_lanes_once() {
        // 32 lanes, each with a window of all of 31 MB.
        let windows = Windows::of(31, 31, 32);
        assert_eq!((windows.least_bytes, windows.ahead_bytes), (31, 31));
        let windows = Windows::of(5, 100, 16);
        assert_eq!((windows.least_bytes, windows.ahead_bytes), (80, 100));
        let windows = windows.plus(Windows::of(5, 1000, 16));
        assert_eq!((windows.least_bytes, windows.ahead_bytes), (160, 260));
    }

    #[test]
    fn divide_names_what_does_not_fit() {
        let error = |memory| {
            Shares::divide(memory, &NEEDS)
                .expect_err("too small")
                .to_string()
        };
        assert!(error(300).contains("4 micro-batches") && error(300).contains("`batch`"));
        assert!(error(600).contains("4 lanes") && error(600).contains("`window_chunks`"));
    }

    #[test]
    fn decoders_never_hold_more_than_their_share() {
        let share = DecodeShare::new(100, 90);
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (share, held) = (&share, &held);
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = 1 + (thread * 37 + i * 13) % 90;
                        let _reserved = share.take(bytes).expect("fits");
                        assert!(held.fetch_add(bytes, Ordering::SeqCst) + bytes <= 100);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        let error = share.take(91).expect_err("too large").to_string();
        assert!(error.contains("`data.memory`"), "{error}");
    }
}
