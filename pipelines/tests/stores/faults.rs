//! The fault table: what a run makes of each fault between it and an S3 server.
//!
//! It finishes with exactly the right batches, or it stops with a clear error; it never gives other
//! data, never is silent for more than ten seconds, never dies.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use understudy_pipelines::DataConfig;
use understudy_pipelines::config::CacheConfig;

use crate::lab::alone::{alone, is_alone};
use crate::lab::http::serve_folder;
use crate::lab::hub::{self, Hub};
use crate::lab::proxy::{Fault, Line, Proxy, When};
use crate::lab::reader::{Outcome, Reading};
use crate::lab::seaweed::Seaweed;
use crate::sets::{BUCKET, FOLDER, Set, config_of, put_to_seaweed, read_meanwhile, s3_environment};

/// A wait of more than ten seconds is told of; the rest is for a machine that is busy.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);
/// What is waited for was told and stays the same: it is told again after half a minute.
const LONGEST_SILENCE_ONCE_TOLD: Duration = Duration::from_secs(45);

/// The store behind a proxy, and the set in it.
struct Lab {
    set: Set,
    store: Seaweed,
    proxy: Proxy,
}

impl Lab {
    fn new() -> Option<Self> {
        let set = Set::new();
        let store = set.in_seaweed()?;
        let proxy = Proxy::start("127.0.0.1:0", store.address()).expect("a port");
        Some(Self { set, store, proxy })
    }

    /// Reads the set through the proxy while something happens, and notes what came of it.
    fn read(&mut self, what: &str, meanwhile: impl FnMut(&mut Seaweed, usize)) -> Reading {
        let config = patient(&format!("s3://{BUCKET}/{FOLDER}"));
        self.read_as(what, &config, LONGEST_SILENCE, meanwhile)
    }

    fn read_as(
        &mut self,
        what: &str,
        config: &DataConfig,
        may_be_silent: Duration,
        mut meanwhile: impl FnMut(&mut Seaweed, usize),
    ) -> Reading {
        let before = self.proxy.counts();
        let environment = s3_environment(self.proxy.address);
        let reading = read_meanwhile(config, &environment, |n| meanwhile(&mut self.store, n));
        let after = self.proxy.counts();
        let outcome = match &reading.outcome {
            outcome if *outcome == self.set.expected => {
                "finished, exactly the right batches".into()
            }
            Outcome::Finished(digest) if Some(&digest.media) == self.set.media().as_ref() => {
                "finished, exactly the right pictures, OTHER LABELS".into()
            }
            Outcome::Finished(_) => "OTHER DATA".into(),
            Outcome::Stopped(error) => format!("stopped: {error}"),
            other => format!("{other:?}"),
        };
        let row = format!(
            "| {what} | {} of {} | {outcome} | {:.1} s | {:.1} s |",
            after.faults - before.faults,
            after.reads - before.reads,
            reading.took.as_secs_f64(),
            reading.longest_silence.as_secs_f64()
        );
        self.proxy.set_fault(None);
        self.proxy.set_line(Line::default());
        println!("{row}");
        assert!(
            reading.longest_silence < may_be_silent,
            "{what}: {reading:?}"
        );
        reading
    }

    /// Some of the reads meet a fault, and the run gives what it gives without.
    fn withstands(&mut self, what: &str, fault: Fault, when: When) {
        self.proxy.set_fault(Some((fault, when)));
        let before = self.proxy.counts().faults;
        let reading = self.read(what, |_, _| {});
        assert_eq!(reading.outcome, self.set.expected, "{what}: {reading:?}");
        assert!(
            self.proxy.counts().faults > before + 1,
            "{what}: it did not happen"
        );
    }
}

/// The set at `url`, with a store that is waited for.
fn patient(url: &str) -> DataConfig {
    DataConfig {
        retry_for: "2min".to_owned(),
        ..config_of(url)
    }
}

/// So many of every `every` reads, in a row.
fn every(every: u64, burst: u64) -> When {
    When::Every {
        every,
        burst,
        from: 3,
    }
}

#[test]
fn the_table() {
    alone("faults::the_table", || {
        let Some(mut lab) = Lab::new() else {
            return;
        };
        let reading = lab.read("nothing", |_, _| {});
        assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");
        // A busy machine may have to be waited for.
        let is_wait =
            |line: &String| line.contains("waiting for") || line.contains("answers again");
        assert!(reading.warnings.iter().all(is_wait), "{reading:?}");

        let refusal = Fault::TooManyRequests {
            retry_after_secs: 1,
        };
        lab.withstands(
            "429 with Retry-After: 1, every 20th read",
            refusal,
            every(20, 1),
        );
        lab.withstands(
            "503 SlowDown, 2 of every 40 reads",
            Fault::SlowDown,
            every(40, 2),
        );
        lab.withstands(
            "503 SlowDown, 10 of every 40 reads",
            Fault::SlowDown,
            every(40, 10),
        );
        let share = When::Share {
            share: 0.05,
            seed: 1,
        };
        lab.withstands("500, 5 % of the reads", Fault::ServerError, share);
        lab.withstands(
            "reset in mid-body, every 10th read",
            Fault::Reset,
            every(10, 1),
        );
        let stall = Fault::Stall(Duration::from_secs(30));
        lab.withstands(
            "30 s stall in mid-body, every 60th read",
            stall,
            every(60, 1),
        );
        lab.withstands(
            "truncated body, every 10th read",
            Fault::Truncate,
            every(10, 1),
        );
        lab.withstands(
            "bit flip in a page, every 10th read",
            Fault::Flip,
            every(10, 1),
        );

        lab.proxy.set_line(Line {
            latency: Duration::from_millis(100),
            ..Line::default()
        });
        let reading = lab.read("100 ms of latency", |_, _| {});
        assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");
        // The whole set is about 0.5 MB.
        lab.proxy.set_line(Line {
            bytes_per_sec: Some(150_000),
            ..Line::default()
        });
        let reading = lab.read("150 kB/s", |_, _| {});
        assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");

        lab.slow_down();
        let reading = lab.read("server stopped for 4 s, connections open", |store, n| {
            if n == 5 {
                store.signal("STOP");
                std::thread::sleep(Duration::from_secs(4));
                store.signal("CONT");
            }
        });
        assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");

        let restart = |store: &mut Seaweed, n| {
            if n == 5 {
                store.restart();
            }
        };
        lab.slow_down();
        // A server that has just started answers 500 for as long as it looks for its volumes.
        let config = patient(&format!("s3://{BUCKET}/{FOLDER}"));
        let reading = lab.read_as(
            "server killed and restarted",
            &config,
            LONGEST_SILENCE_ONCE_TOLD,
            restart,
        );
        assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");

        lab.slow_down();
        let other = lab
            .set
            .files()
            .into_iter()
            .nth(2)
            .expect("several shards")
            .1;
        let reading = lab.read("an object replaced during the run", |store, n| {
            if n == 1 {
                put_to_seaweed(store, "train-00002.parquet", other.clone());
            }
        });
        let Outcome::Stopped(error) = &reading.outcome else {
            panic!("{reading:?}");
        };
        assert!(
            error.contains("changed since the set was opened"),
            "{error}"
        );
    });
}

impl Lab {
    /// So that something can happen while the set is read.
    fn slow_down(&self) {
        self.proxy.set_line(Line {
            bytes_per_sec: Some(300_000),
            ..Line::default()
        });
    }
}

#[test]
fn a_cache_that_is_full_or_damaged_costs_time_alone() {
    alone(
        "faults::a_cache_that_is_full_or_damaged_costs_time_alone",
        || {
            let Some(mut lab) = Lab::new() else {
                return;
            };
            let folder = tempfile::tempdir().expect("a folder");
            let cached = |folder: &Path| DataConfig {
                cache: Some(CacheConfig {
                    folder: folder.to_owned(),
                    size: "1GiB".to_owned(),
                }),
                ..patient(&format!("s3://{BUCKET}/{FOLDER}"))
            };
            let config = cached(folder.path());
            let n_reads = |lab: &mut Lab, what: &str| {
                let before = lab.proxy.counts().reads;
                let reading = lab.read_as(what, &config, LONGEST_SILENCE, |_, _| {});
                assert_eq!(reading.outcome, lab.set.expected, "{what}: {reading:?}");
                lab.proxy.counts().reads - before
            };
            let first = n_reads(&mut lab, "a cache, empty at first");
            let second = n_reads(&mut lab, "the same cache, full");
            assert!(
                second * 4 < first,
                "{second} reads after {first}: it kept nothing"
            );
            let n_damaged = damage(folder.path());
            assert!(n_damaged > 50, "{n_damaged} entries: this tests nothing");
            let third = n_reads(&mut lab, "one bit of each cache entry turned over");
            assert!(
                third * 2 > first,
                "{third} reads after {first}: damage was taken for data"
            );

            let other = tempfile::tempdir().expect("a folder");
            let config = cached(other.path());
            for flips in [Some((Fault::Flip, every(3, 1))), None] {
                lab.proxy.set_fault(flips);
                let what = "a cache filled while every third read has a bit flipped, then used";
                let reading = lab.read_as(what, &config, LONGEST_SILENCE, |_, _| {});
                assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");
            }

            let small = tempfile::tempdir().expect("a folder");
            let mut mount = Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"])
                .arg(small.path());
            if !is_alone() || !mount.status().is_ok_and(|status| status.success()) {
                println!("note: no small file system here: a full disk is not tried");
                return;
            }
            let config = cached(small.path());
            let reading = lab.read_as("the cache's disk full", &config, LONGEST_SILENCE, |_, _| {});
            assert_eq!(reading.outcome, lab.set.expected, "{reading:?}");
            let told = |line: &String| line.contains("space left");
            assert!(
                reading.warnings.iter().any(told),
                "nobody was told: {reading:?}"
            );
        },
    );
}

/// Turns over one bit in the middle of each file below a folder; how many there were.
fn damage(folder: &Path) -> usize {
    let entries = walkdir::WalkDir::new(folder).into_iter();
    let files = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| {
            entry.file_type().is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        });
    files
        .map(|file| {
            let mut bytes = std::fs::read(file.path()).expect("an entry");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            std::fs::write(file.path(), bytes).expect("written");
        })
        .count()
}

/// The same client reads from web servers and the Hub: the faults that differ by protocol.
#[test]
fn web_servers_and_the_hub() {
    alone("faults::web_servers_and_the_hub", || {
        let set = Set::new();
        let files = set.files().into_iter().collect();
        let hub = Hub::start(files, 20);
        let of_hub = Proxy::start("127.0.0.1:0", hub.address).expect("a port");
        let environment = [
            ("HF_ENDPOINT", format!("http://{}", of_hub.address)),
            ("HF_TOKEN", hub::TOKEN.to_owned()),
        ];
        let web = serve_folder(set.folder.path());
        let of_web = Proxy::start("127.0.0.1:0", web).expect("a port");
        // What the Hub itself answers is lists, without a hash: a flip there ends in a clear error at
        // best. Objects come from another host, past this proxy.
        let of_lists = [Fault::SlowDown, Fault::Reset, Fault::Truncate];
        let of_objects = [Fault::SlowDown, Fault::Reset, Fault::Truncate, Fault::Flip];
        let hub_url = format!("hf://datasets/{}", hub::REPOSITORY);
        let web_url = format!("http://{}", of_web.address);
        let hub_and_web = [
            (hub_url, of_hub, &of_lists[..]),
            (web_url, of_web, &of_objects[..]),
        ];
        for (url, proxy, faults) in hub_and_web {
            for &fault in faults {
                proxy.set_fault(Some((fault, every(4, 1))));
                let config = patient(&url);
                let before = proxy.counts().faults;
                let reading = read_meanwhile(&config, &environment, |_| {});
                assert_eq!(
                    reading.outcome, set.expected,
                    "{url} {fault:?}: {reading:?}"
                );
                assert!(
                    proxy.counts().faults > before,
                    "{url} {fault:?}: it did not happen"
                );
            }
        }
        assert!(!hub.token_has_leaked(), "the other host was sent the token");
    });
}

#[test]
fn an_outage_ends_in_a_clear_error() {
    alone("faults::an_outage_ends_in_a_clear_error", || {
        let Some(mut lab) = Lab::new() else {
            return;
        };
        let impatient = DataConfig {
            retry_for: "12s".to_owned(),
            ..patient(&format!("s3://{BUCKET}/{FOLDER}"))
        };
        lab.slow_down();
        let reading = lab.read_as(
            "server killed for good",
            &impatient,
            LONGEST_SILENCE,
            |store, n| {
                if n == 5 {
                    store.kill();
                }
            },
        );
        assert_gave_up(&reading);
        lab.store.start_again();
        lab.slow_down();
        let reading = lab.read_as(
            "server stopped, connections open",
            &impatient,
            LONGEST_SILENCE,
            |store, n| {
                if n == 5 {
                    store.signal("STOP");
                }
            },
        );
        lab.store.signal("CONT");
        assert_gave_up(&reading);
    });
}

#[track_caller]
fn assert_gave_up(reading: &Reading) {
    let Outcome::Stopped(error) = &reading.outcome else {
        panic!("{reading:?}");
    };
    assert!(error.contains("retry_for"), "{error}");
    assert!(error.contains("s3://"), "{error}");
    let told = reading
        .warnings
        .iter()
        .any(|line| line.contains("waiting for"));
    assert!(told, "nobody was told of the wait: {reading:?}");
}

/// Footers, manifests and page headers are hit as well as pictures. Each bit is turned over on the
/// way, so a second read is right.
#[test]
fn flips_anywhere_never_give_other_data() {
    alone("faults::flips_anywhere_never_give_other_data", || {
        let Some(mut lab) = Lab::new() else {
            return;
        };
        let expected = lab.set.expected.clone();
        let mut n_finished = 0;
        for seed in 0..20 {
            let when = When::Share { share: 0.3, seed };
            lab.proxy.set_fault(Some((Fault::FlipAnywhere, when)));
            let reading = lab.read(
                &format!("30 % of the reads flipped, seed {seed}"),
                |_, _| {},
            );
            match &reading.outcome {
                Outcome::Finished(_) => {
                    assert_eq!(reading.outcome, expected, "seed {seed}: {reading:?}");
                    n_finished += 1;
                }
                Outcome::Stopped(error) => assert!(error.contains("damaged"), "{error}"),
                _ => panic!("seed {seed}: {reading:?}"),
            }
        }
        assert!(
            n_finished > 10,
            "only {n_finished} of 20 went on after a second read"
        );
    });
}
