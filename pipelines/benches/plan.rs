//! The cost of planning at a size that few datasets have: a million row groups, a billion rows, 1,024
//! ranks of one lane each. No dataset is read: a plan is a function of the rows of each group, and of
//! their lengths.
//!
//! `plan [count] [cost] [mix]`: prints wall seconds and resident memory of one rank's start and of its
//! work for each window. `cost` takes about 3 GB.
#![expect(clippy::print_stdout, reason = "the result")]

use std::time::Instant;

use understudy_pipelines::config::{Share, StepSize};
use understudy_pipelines::plan::{BadRows, Costs, Layout, Plan, PlanConfig};

const N_SHARDS: usize = 1000;
const GROUPS_PER_SHARD: usize = 1000;
const ROWS_PER_GROUP: u64 = 1000;
const RANKS: usize = 1024;
const N_ROWS: u64 = N_SHARDS as u64 * GROUPS_PER_SHARD as u64 * ROWS_PER_GROUP;
/// Highest cost of a row: rows cost between 2 and 10 seconds at 16 kHz.
const MOST: u32 = 160_000;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    for kind in ["count", "cost", "mix"] {
        if asked.is_empty() || asked.iter().any(|asked| asked == kind) {
            println!("by {kind}:");
            bench(kind);
        }
    }
}

fn bench(kind: &str) {
    let before = resident_mib();
    let by_cost = kind == "cost";
    let step = if by_cost {
        StepSize::Cost(RANKS as u64 * 1_000_000)
    } else {
        StepSize::Samples(RANKS * 8)
    };
    let config = PlanConfig {
        seed: 1,
        lanes: RANKS,
        step,
        window_chunks: 8,
    };
    let costs = by_cost.then(|| {
        timed("synthetic lengths of all rows", || {
            let mut costs = Costs::empty(MOST);
            for row in 0..N_ROWS {
                costs.push(
                    32_000 + (row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 47) as u32 % 128_000,
                );
            }
            costs
        })
    });
    let shard = vec![ROWS_PER_GROUP; GROUPS_PER_SHARD];
    let layout = timed("layout", || match kind {
        // Ten datasets of 100 shards.
        "mix" => Layout::joined((0..10).map(|_| Layout::new(vec![&shard[..]; N_SHARDS / 10]))),
        _ => Layout::new(vec![&shard[..]; N_SHARDS]),
    });
    let shares: Vec<Share> = (0..layout.n_datasets())
        .map(|set| Share::Weight(1.0 + set as f64))
        .collect();
    let plan = timed("plan", || {
        Plan::mixed(layout, config, costs, &shares).expect("a plan")
    });
    let none = BadRows::default();
    let bad: BadRows = (0..1000).map(|i| i * (N_ROWS / 1000) + i).collect();
    // A lane's share by cost holds about ten rows of 6 s.
    let per_lane = if by_cost { 10 } else { 8 };
    let steps_per_epoch = N_ROWS / (RANKS as u64 * per_lane);
    for (what, step, bad) in [
        ("a rank finds step 0", 0, &none),
        (
            "a rank finds its step in epoch 3",
            3 * steps_per_epoch + 7,
            &none,
        ),
        (
            "the same after 1,000 bad rows",
            3 * steps_per_epoch + 7,
            &bad,
        ),
    ] {
        let mut lanes = timed(what, || plan.lanes(5..6, step, bad).expect("good rows"));
        let windows = timed("  its first window of each dataset", || {
            lanes
                .iter_mut()
                .filter_map(Iterator::next)
                .collect::<Vec<_>>()
        });
        let n_slots: usize = windows.iter().map(|window| window.slots.len()).sum();
        println!("    {n_slots} samples");
    }
    if let Some(mib) = resident_mib().checked_sub(before) {
        println!("  added resident memory: {mib} MiB");
    }
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = run();
    println!(
        "  {what}: {:.4} s, {} MiB",
        start.elapsed().as_secs_f64(),
        resident_mib()
    );
    value
}

/// Returns the resident memory of this process in MiB, on Linux.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
