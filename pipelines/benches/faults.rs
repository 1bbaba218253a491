//! For `benches/faults.py`: the proxy with faults for any reader of a store, and this crate's reader.
//!
//! `faults proxy TARGET` prints its address and then executes lines of its input: `fault NAME EVERY
//! BURST [SECONDS]`, `no fault`, `line LATENCY_MS BYTES_PER_SEC` (0 = no limit), `counts`. It answers
//! each with one line of JSON. `faults read CONFIG` reads each image of a config's dataset once, and
//! prints a hash of all decoded images in order.
#![expect(clippy::print_stdout, reason = "the result")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "some of the proxy is not used here"
)]

#[path = "../tests/support/lab/fault.rs"]
mod fault;
#[path = "../tests/support/lab/message.rs"]
mod message;
#[path = "../tests/support/lab/proxy.rs"]
mod proxy;

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fault::{Fault, When};
use proxy::{Counts, Line, Proxy};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Media;
use understudy_pipelines::config::Overrides;
use understudy_pipelines::pipeline::{Options, Pipeline};
use xxhash_rust::xxh3::Xxh3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["proxy", target] => proxy(target),
        ["read", config] => return read(Path::new(config)),
        _ => println!("usage: faults proxy HOST:PORT | faults read CONFIG"),
    }
    ExitCode::SUCCESS
}

fn proxy(target: &str) {
    let target = target.parse().expect("an address such as 127.0.0.1:8333");
    let proxy = Proxy::start("127.0.0.1:0", target).expect("a port");
    println!("{}", proxy.address);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        execute(&proxy, &line);
        let Counts {
            requests,
            reads,
            faults,
            bytes,
            most_in_flight,
        } = proxy.counts();
        println!(
            "{}",
            serde_json::json!({
                "requests": requests, "reads": reads, "faults": faults, "bytes": bytes,
                "most_in_flight": most_in_flight,
            })
        );
    }
}

fn execute(proxy: &Proxy, line: &str) {
    let fields: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| -> u64 {
        let value = fields.get(at).and_then(|field| field.parse().ok());
        value.unwrap_or_else(|| panic!("{line}: field {at} is not a number"))
    };
    match fields[0] {
        "counts" => {}
        "no" => proxy.set_fault(None),
        "line" => proxy.set_line(Line {
            latency: Duration::from_millis(number(1)),
            bytes_per_sec: Some(number(2)).filter(|&limit| limit > 0),
            is_down: false,
        }),
        "fault" => {
            let fault = match fields[1] {
                "429" => Fault::TooManyRequests {
                    retry_after_secs: number(4),
                },
                "503" => Fault::SlowDown,
                "reset" => Fault::Reset,
                "stall" => Fault::Stall(Duration::from_secs(number(4))),
                "truncate" => Fault::Truncate,
                "flip" => Fault::Flip,
                other => panic!("unknown fault: {other}"),
            };
            let when = When::Every {
                every: number(2),
                burst: number(3),
                from: 2,
            };
            proxy.set_fault(Some((fault, when)));
        }
        _ => panic!("unknown command: {line}"),
    }
}

fn read(config: &Path) -> ExitCode {
    let log = tracing_subscriber::fmt().with_ansi(false);
    log.with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    match try_read(config) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn try_read(config: &Path) -> understudy_pipelines::Result<serde_json::Value> {
    let config = DataConfig::read(config, &Overrides::default())?;
    let (mut n, mut digest) = (0, Xxh3::new());
    let mut last = Instant::now();
    let mut longest_wait = Duration::ZERO;
    let options = Options {
        threads: 2,
        ..Options::default()
    };
    for batch in Pipeline::evaluate(
        &config,
        config.train.one().unwrap_or_default(),
        16,
        &options,
    )? {
        let batch = batch?;
        longest_wait = longest_wait.max(last.elapsed());
        last = Instant::now();
        let Media::Images { pixels, .. } = &batch.media else {
            unreachable!("a dataset of images");
        };
        digest.update(pixels);
        for (sample, label) in batch.samples.iter().zip(&batch.labels) {
            digest.update(&sample.row.to_le_bytes());
            digest.update(&label.to_le_bytes());
        }
        n += batch.n_samples;
        // Shows progress to the watching script.
        println!("{n}");
    }
    Ok(serde_json::json!({
        "samples": n, "digest": format!("{:016x}", digest.digest()),
        "longest_wait": longest_wait.as_secs_f64(),
    }))
}
