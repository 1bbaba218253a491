//! Learning rate and EMA decay equal the reference classes' values.

#[path = "parity/options.rs"]
#[expect(
    dead_code,
    reason = "schedules have fewer kinds of options than models"
)]
mod options;
#[path = "../pipelines/tests/support/skip.rs"]
mod skip;

use std::path::PathBuf;

use options::Options;
use serde_json::Value;
use skip::skip;
use understudy::optim::{EmaSchedule, LrSchedule};

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Returns the schedule of a golden entry as a function of the step; every parameter is mapped.
fn ours(entry: &Value) -> Box<dyn Fn(u64) -> f64> {
    let parameters = Options::new(&entry["parameters"]);
    let function = match entry["kind"].as_str().expect("a kind") {
        "cosine" => cosine(&parameters),
        "beit_cosine" => beit_cosine(&parameters),
        "ema_decay" => ema_decay(&parameters),
        "tri_stage" => tri_stage(&parameters),
        "polynomial_decay" => polynomial_decay(&parameters),
        kind => panic!("unknown kind {kind}"),
    };
    parameters.require_all();
    function
}

/// Returns the learning rate of a run of `steps` by a schedule that our config accepts.
fn rate(schedule: LrSchedule, peak: f64, steps: u64) -> Box<dyn Fn(u64) -> f64> {
    assert_eq!(schedule.problems(), [""; 0]);
    Box::new(move |step| schedule.lr(peak, step, steps))
}

fn count(parameters: &Options<'_>, key: &str) -> u64 {
    parameters.size_or(key, 0) as u64
}

/// Reads the peak: fairseq has a list of rates by epoch, of which its schedules take one.
fn peak(parameters: &Options<'_>) -> f64 {
    let rates = parameters.get("lr").as_array().expect("a list of rates");
    assert_eq!(rates.len(), 1, "lr: one rate for all epochs");
    number(&rates[0])
}

fn cosine(parameters: &Options<'_>) -> Box<dyn Fn(u64) -> f64> {
    let (peak, steps) = (peak(parameters), count(parameters, "max_update"));
    let warmup_steps = count(parameters, "warmup_updates");
    let init_lr = parameters.number_or("warmup_init_lr", -1.0);
    let period = parameters.number_or("lr_period_updates", -1.0);
    assert!(
        period <= 0.0 || period as u64 == steps - warmup_steps,
        "lr_period_updates = {period} is not supported: a run has one period"
    );
    // Of periods after the first.
    parameters.ignore(&["lr_shrink", "t_mult"]);
    let schedule = LrSchedule::Cosine {
        warmup_steps,
        // Below 0 the reference starts at min_lr, as we do without it.
        init_lr: (init_lr >= 0.0).then_some(init_lr),
        final_lr: parameters.number_or("min_lr", 0.0),
    };
    rate(schedule, peak, steps)
}

fn beit_cosine(parameters: &Options<'_>) -> Box<dyn Fn(u64) -> f64> {
    let per_epoch = count(parameters, "niter_per_epoch");
    let epochs = count(parameters, "warmup_epochs");
    let given = parameters.number_or("warmup_steps", -1.0);
    let schedule = LrSchedule::BeitCosine {
        warmup_steps: if given > 0.0 {
            given as u64
        } else {
            epochs * per_epoch
        },
        init_lr: Some(parameters.number_or("start_warmup_value", 0.0)),
        final_lr: parameters.number("final"),
    };
    let steps = count(parameters, "epochs") * per_epoch;
    rate(schedule, parameters.number("base"), steps)
}

fn ema_decay(parameters: &Options<'_>) -> Box<dyn Fn(u64) -> f64> {
    let schedule = EmaSchedule {
        decay: parameters.number("start"),
        end_decay: parameters.number("end"),
        anneal_steps: count(parameters, "anneal_end_step"),
    };
    Box::new(move |step| schedule.decay(step))
}

fn tri_stage(parameters: &Options<'_>) -> Box<dyn Fn(u64) -> f64> {
    let steps = count(parameters, "max_update");
    let given = ["warmup_steps", "hold_steps", "decay_steps"].map(|key| count(parameters, key));
    let [warmup_steps, hold_steps, decay_steps] = match parameters.get("phase_ratio").as_array() {
        Some(ratios) => [0, 1, 2].map(|phase| (steps as f64 * number(&ratios[phase])) as u64),
        None => given,
    };
    let schedule = LrSchedule::TriStage {
        warmup_steps,
        hold_steps,
        decay_steps,
        init_scale: parameters.number_or("init_lr_scale", 0.01),
        final_scale: parameters.number_or("final_lr_scale", 0.01),
    };
    rate(schedule, peak(parameters), steps)
}

fn polynomial_decay(parameters: &Options<'_>) -> Box<dyn Fn(u64) -> f64> {
    parameters.require("power", 1.0);
    parameters.require("force_anneal", Value::Null);
    let schedule = LrSchedule::Linear {
        warmup_steps: count(parameters, "warmup_updates"),
        final_lr: Some(parameters.number_or("end_learning_rate", 0.0)),
    };
    rate(
        schedule,
        peak(parameters),
        count(parameters, "total_num_update"),
    )
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
