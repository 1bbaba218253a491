//! The fault table: the outcome of a run for each fault between it and an S3 server.
//!
//! The run must finish with exactly the right batches, or stop with a clear error. It must not give
//! other data, wait for more than ten seconds without a warning, or crash.

use std::time::Duration;

use understudy_pipelines::DataConfig;

use crate::datasets::{BUCKET, FOLDER, TestDataset, put_to_seaweed, read_meanwhile};
use crate::fault_lab::{LONGEST_SILENCE, LONGEST_SILENCE_AFTER_WARNING, Lab, every, patient};
use crate::lab::alone::alone;
use crate::lab::fault::{Fault, When};
use crate::lab::http::serve_folder;
use crate::lab::hub::{self, Hub};
use crate::lab::proxy::{Line, Proxy};
use crate::lab::reader::{Outcome, Reading};
use crate::lab::seaweed::Seaweed;

#[test]
fn reads_withstand_faults() {
    alone("faults::reads_withstand_faults", || {
        let Some(mut lab) = Lab::new() else {
            return;
        };
        let reading = lab.read("nothing", |_, _| {});
        assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");
        // A busy machine may cause waits.
        let is_wait =
            |line: &String| line.contains("waiting for") || line.contains("available again");
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
        assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");
        // The dataset has about 0.5 MB.
        lab.proxy.set_line(Line {
            bytes_per_sec: Some(150_000),
            ..Line::default()
        });
        let reading = lab.read("150 kB/s", |_, _| {});
        assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");

        lab.slow_down();
        let reading = lab.read("server stopped for 4 s, connections open", |store, n| {
            if n == 5 {
                store.signal("STOP");
                std::thread::sleep(Duration::from_secs(4));
                store.signal("CONT");
            }
        });
        assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");

        let restart = |store: &mut Seaweed, n| {
            if n == 5 {
                store.restart();
            }
        };
        lab.slow_down();
        // A server that has just started answers 500 until it has found its volumes.
        let config = patient(&format!("s3://{BUCKET}/{FOLDER}"));
        let reading = lab.read_as(
            "server killed and restarted",
            &config,
            LONGEST_SILENCE_AFTER_WARNING,
            restart,
        );
        assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");

        lab.slow_down();
        let other = lab
            .dataset
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
            error.contains("changed since the dataset was opened"),
            "{error}"
        );
    });
}

/// Web servers and the Hub have the same client: only faults that differ by protocol are tested.
#[test]
fn web_server_and_hub_reads_withstand_faults() {
    alone("faults::web_server_and_hub_reads_withstand_faults", || {
        let dataset = TestDataset::new();
        let files = dataset.files().into_iter().collect();
        let hub = Hub::start(files, 20);
        let of_hub = Proxy::start("127.0.0.1:0", hub.address).expect("a port");
        let environment = [
            ("HF_ENDPOINT", format!("http://{}", of_hub.address)),
            ("HF_TOKEN", hub::TOKEN.to_owned()),
        ];
        let web = serve_folder(dataset.folder.path());
        let of_web = Proxy::start("127.0.0.1:0", web).expect("a port");
        // The Hub itself answers listings, without a hash: a flip there ends in a clear error at
        // best. Objects come from another host, not through this proxy.
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
                    reading.outcome, dataset.expected,
                    "{url} {fault:?}: {reading:?}"
                );
                assert!(
                    proxy.counts().faults > before,
                    "{url} {fault:?}: the fault did not happen"
                );
            }
        }
        assert!(!hub.token_has_leaked(), "the other host was sent the token");
    });
}

#[test]
fn long_outage_ends_in_a_timeout_error() {
    alone("faults::long_outage_ends_in_a_timeout_error", || {
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
    assert!(error.contains("timed out after"), "{error}");
    assert!(error.contains("retry_for"), "{error}");
    assert!(error.contains("s3://"), "{error}");
    let has_warning = reading
        .warnings
        .iter()
        .any(|line| line.contains("waiting for"));
    assert!(has_warning, "no warning of the wait: {reading:?}");
}

/// Flips bits in footers, manifests, page headers and images. Each bit is flipped in transfer, so a
/// second read is correct.
#[test]
fn flipped_bits_never_give_other_data() {
    alone("faults::flipped_bits_never_give_other_data", || {
        let Some(mut lab) = Lab::new() else {
            return;
        };
        let expected = lab.dataset.expected.clone();
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
            "only {n_finished} of 20 finished after a second read"
        );
    });
}
