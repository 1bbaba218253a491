//! Learning rate and EMA decay equal the reference classes' values.

#[path = "../pipelines/tests/support/skip.rs"]
mod skip;

use std::path::PathBuf;

use serde_json::Value;
use skip::skip;
use understudy::optim::{EmaSchedule, LrSchedule};

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Returns the schedule of a golden entry as a function of the step.
fn ours(entry: &Value) -> Box<dyn Fn(u64) -> f64> {
    let parameter = |name: &str| number(&entry["parameters"][name]);
    let count = |name: &str| parameter(name) as u64;
    match entry["kind"].as_str().expect("a kind") {
        "cosine" => {
            let (peak, steps) = (number(&entry["parameters"]["lr"][0]), count("max_update"));
            let schedule = LrSchedule::Cosine {
                warmup_steps: count("warmup_updates"),
                final_lr: parameter("min_lr"),
            };
            // The reference's warm-up starts at min_lr where its own start is below 0.
            let start = parameter("warmup_init_lr");
            assert!(start < 0.0 || (start - parameter("min_lr")).abs() < 1e-15);
            Box::new(move |step| schedule.lr(peak, step, steps))
        }
        "beit_cosine" => {
            let per_epoch = count("niter_per_epoch");
            let schedule = LrSchedule::BeitCosine {
                warmup_steps: count("warmup_epochs") * per_epoch,
                final_lr: parameter("final"),
            };
            let (peak, steps) = (parameter("base"), count("epochs") * per_epoch);
            Box::new(move |step| schedule.lr(peak, step, steps))
        }
        "ema_decay" => {
            let schedule = EmaSchedule {
                decay: parameter("start"),
                end_decay: parameter("end"),
                anneal_steps: count("anneal_end_step"),
            };
            Box::new(move |step| schedule.decay(step))
        }
        "tri_stage" => {
            let phase = |name: &str| number(&entry["derived"][name]) as u64;
            let (peak, steps) = (number(&entry["parameters"]["lr"][0]), count("max_update"));
            let schedule = LrSchedule::TriStage {
                warmup_steps: phase("warmup"),
                hold_steps: phase("hold"),
                decay_steps: phase("decay"),
                init_scale: parameter("init_lr_scale"),
                final_scale: parameter("final_lr_scale"),
            };
            Box::new(move |step| schedule.lr(peak, step, steps))
        }
        "polynomial_decay" => {
            let peak = number(&entry["parameters"]["lr"][0]);
            let steps = count("total_num_update");
            let schedule = LrSchedule::Linear {
                warmup_steps: count("warmup_updates"),
            };
            Box::new(move |step| schedule.lr(peak, step, steps))
        }
        kind => panic!("unknown kind {kind}"),
    }
}

#[test]
fn schedules_equal_the_references() {
    let folder = std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/parity")),
        PathBuf::from,
    );
    let path = folder.join("schedules/schedules.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        skip(
            "parity",
            &format!("no golden schedules at {}", path.display()),
        );
        return;
    };
    let entries: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("schedules");
    let mut n_checked = 0;
    for (name, entry) in &entries {
        let ours = ours(entry);
        // The reference's cosine starts a new period at its end, after the last update.
        let last = match entry["kind"].as_str() {
            Some("cosine") => entry["parameters"]["max_update"].as_u64(),
            _ => None,
        };
        for point in entry["values"].as_array().expect("values") {
            let (step, expected) = (point[0].as_u64().expect("a step"), number(&point[1]));
            if last.is_some_and(|last| step >= last) {
                continue;
            }
            let found = ours(step);
            let slack = 1e-9 * expected.abs() + 1e-15;
            assert!(
                (found - expected).abs() <= slack,
                "{name} at {step}: {found}, not {expected}"
            );
            n_checked += 1;
        }
    }
    assert!(n_checked > 0, "nothing to check in {}", path.display());
}
