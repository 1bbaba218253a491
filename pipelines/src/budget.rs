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

use crate::{Error, Result};

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
    /// Bytes of the largest window of one lane.
    pub(crate) window_bytes: u64,
    pub(crate) n_lanes: u64,
}

impl Needs {
    /// Returns the least `memory` that is enough, in bytes.
    pub(crate) fn least_bytes(&self) -> u64 {
        let windows_bytes = self.window_bytes.saturating_mul(self.n_lanes);
        self.batches_bytes().saturating_add(windows_bytes) + 1
    }

    /// Returns the least `memory`, in bytes, that holds two windows of each lane, keeps all threads
    /// busy and leaves a quarter for decoding.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        let more_samples = self.n_samples.saturating_sub(self.least_samples);
        let samples_bytes = more_samples.saturating_mul(self.sample_bytes);
        let windows_bytes = self.window_bytes.saturating_mul(2 * self.n_lanes);
        let rest = (windows_bytes / 3)
            .saturating_mul(4)
            .saturating_add(samples_bytes);
        // Waiting samples may take an eighth.
        self.batches_bytes()
            .saturating_add(rest.max(8 * samples_bytes))
    }

    fn batches_bytes(&self) -> u64 {
        let batches_bytes = self.micro_batch_bytes.saturating_mul(self.n_micro_batches);
        batches_bytes.saturating_add(self.sample_bytes.saturating_mul(self.least_samples))
    }
}

/// The four shares of `memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) memory_bytes: u64,
    pub(crate) n_samples: usize,
    pub(crate) windows_bytes: u64,
    pub(crate) decode_bytes: u64,
}

impl Shares {
    /// Divides `memory_bytes`; fails if batches and windows leave nothing for decoding.
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
        let after_batches = memory_bytes
            .checked_sub(batches_bytes)
            .and_then(|rest| rest.checked_sub(least_samples_bytes))
            .ok_or_else(|| {
                short(
                    format!("holding {} micro-batches", needs.n_micro_batches),
                    batches_bytes.saturating_add(least_samples_bytes),
                    "the size of a step (`batch`), the prefetch, or the number of masks; or use more micro-batches per step",
                )
            })?;
        // Waiting samples may take an eighth, and half of what windows leave; the least must fit in
        // any case.
        let least_windows = needs.window_bytes.saturating_mul(needs.n_lanes);
        let samples_bytes =
            (after_batches / 8).min(after_batches.saturating_sub(least_windows) / 2);
        let least = needs.least_samples;
        let n_samples =
            (samples_bytes / needs.sample_bytes.max(1)).clamp(least, needs.n_samples.max(least));
        let rest = after_batches.saturating_sub((n_samples - least) * needs.sample_bytes);

        if rest <= least_windows {
            return Err(short(
                format!(
                    "one window of row groups for each of {} lanes",
                    needs.n_lanes
                ),
                least_windows.saturating_add(memory_bytes - rest),
                "`window_chunks` or `lanes`, or write shards with smaller row groups",
            ));
        }
        // One window in use and one ahead per lane, as long as a quarter is left for decoding.
        let windows_bytes = least_windows
            .saturating_mul(2)
            .min(rest / 4 * 3)
            .max(least_windows);
        Ok(Shares {
            memory_bytes,
            n_samples: n_samples as usize,
            windows_bytes,
            decode_bytes: rest - windows_bytes,
        })
    }
}

/// The share of the decoders: a semaphore in bytes.
#[derive(Debug)]
pub(crate) struct DecodeShare {
    memory_bytes: u64,
    share_bytes: u64,
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
    pub(crate) fn new(shares: &Shares) -> Self {
        Self {
            memory_bytes: shares.memory_bytes,
            share_bytes: shares.decode_bytes,
            free: Mutex::new(Free {
                bytes: shares.decode_bytes,
                next_ticket: 0,
                now_serving: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits until `bytes` are free and reserves them until the guard is dropped.
    ///
    /// `what` names the sample in the error for one that can never fit.
    pub(crate) fn take(&self, bytes: u64, what: impl FnOnce() -> String) -> Result<Reserved<'_>> {
        if bytes > self.share_bytes {
            // The other shares are needed too.
            let needed_bytes = self.memory_bytes - self.share_bytes + bytes;
            return Err(Error::Budget {
                what: what(),
                needed_bytes,
                memory_bytes: self.memory_bytes,
                lower: "the limit of such samples (`limits.pixels` for images, `limits.seconds` for audio, `limits.bytes` for texts), `window_chunks`, `lanes` or `batch`",
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
        window_bytes: 50,
        n_lanes: 4,
    };

    #[test]
    fn shares_add_up_to_memory() {
        for memory in [680, 1_000, 5_000, 1_000_000] {
            let shares = Shares::divide(memory, &NEEDS).expect("fits");
            let sum =
                400 + shares.n_samples as u64 * 10 + shares.windows_bytes + shares.decode_bytes;
            assert_eq!(sum, memory);
            assert!(shares.windows_bytes >= 200 && shares.n_samples >= 1);
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
        let shares = Shares::divide(900, &needs).expect("fits");
        assert_eq!(shares.n_samples, 20);
        assert_eq!(400 + 200 + shares.windows_bytes + shares.decode_bytes, 900);
        assert!(Shares::divide(780, &needs).is_err(), "20 samples less");
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
        let shares = Shares::divide(1_000_000, &NEEDS).expect("fits");
        let share = DecodeShare::new(&Shares {
            decode_bytes: 100,
            ..shares
        });
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (share, held) = (&share, &held);
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = 1 + (thread * 37 + i * 13) % 100;
                        let _reserved = share.take(bytes, || "an image".into()).expect("fits");
                        assert!(held.fetch_add(bytes, Ordering::SeqCst) + bytes <= 100);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        let error = share
            .take(101, || "an image of 9×9 pixels".into())
            .expect_err("too large");
        assert!(error.to_string().contains("9×9") && error.to_string().contains("limits.pixels"));
    }
}
