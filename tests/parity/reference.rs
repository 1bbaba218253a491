//! Options that several of the references' configs share, in our words.

use serde_json::Value;
use understudy::model::Norm;
use understudy::objective::{TargetConfig, TargetOutput};
use understudy::optim::{Decayed, EmaSchedule, EpsForm, LrSchedule, OptimConfig};

use crate::options::Options;

/// Keys of a case's config that are not options: how the case was made and measured.
const RECORDS: [&str; 5] = [
    "provenance",
    "measured_fp32_vs_fp64",
    "outliers",
    "param_count",
    "parameters_with_mathematically_zero_gradient",
];

/// Returns the outermost table of a case's config, with its records read.
pub(crate) fn root(config: &Value) -> Options<'_> {
    let root = Options::new(config);
    root.ignore(&RECORDS);
    root
}

/// The optimizer of a case, with a constant rate.
pub(crate) fn optim(root: &Options<'_>) -> OptimConfig {
    let options = root.table("optimizer");
    let (eps_form, decayed) = match options.text("name") {
        "torch AdamW" => (EpsForm::AfterCorrection, Decayed::Matrices),
        "fairseq adam" => (EpsForm::BeforeCorrection, Decayed::All),
        other => panic!("unknown optimizer {other}"),
    };
    // Of the clipped run, which sets it itself.
    options.ignore(&["clip"]);
    OptimConfig {
        lr: options.number("lr"),
        betas: serde_json::from_value(options.get("betas").clone()).unwrap(),
        eps: options.number("eps"),
        eps_form,
        weight_decay: options.number("weight_decay"),
        decayed,
        clip_norm: None,
        // Not asked: each step is given its rate.
        schedule: LrSchedule::Cosine {
            warmup_steps: 0,
            init_lr: None,
            final_lr: 0.0,
        },
    }
}

/// Reads fairseq's targets: the outputs of the last of `depth` blocks, of their MLPs unless 2.0's
/// switch is set.
pub(crate) fn targets(options: &Options<'_>, depth: usize) -> TargetConfig {
    options.require_unset(&["batch_norm_target_layer", "group_norm_target_layer"]);
    let output = if options.is_set("end_of_block_targets") {
        TargetOutput::Block
    } else {
        TargetOutput::Mlp
    };
    TargetConfig {
        // The last K of a list are the whole list where there are fewer.
        top_k: Some(options.size_or("average_top_k_layers", 8).min(depth)),
        blocks: None,
        output: Some(output),
        each: norm(
            options,
            "layer_norm_target_layer",
            "instance_norm_target_layer",
        ),
        average: norm(options, "layer_norm_targets", "instance_norm_targets"),
    }
}

/// Reads a norm from two switches, of which at most one may be on.
pub(crate) fn norm(options: &Options<'_>, layer: &str, instance: &str) -> Norm {
    match (options.is_set(layer), options.is_set(instance)) {
        (true, false) => Norm::Layer,
        (false, true) => Norm::Instance,
        (false, false) => Norm::None,
        (true, true) => panic!("{layer} and {instance}: only one is supported"),
    }
}

/// fairseq's schedule of τ.
pub(crate) fn ema_schedule(options: &Options<'_>) -> EmaSchedule {
    EmaSchedule {
        decay: options.number_or("ema_decay", 0.999),
        end_decay: options.number_or("ema_end_decay", 0.9999),
        anneal_steps: match options.get("ema_anneal_end_step") {
            Value::Null => options.size("max_update"),
            _ => options.size("ema_anneal_end_step"),
        } as u64,
    }
}

/// Reads fairseq's scale of the loss; without it 1/√D.
pub(crate) fn loss_scale(options: &Options<'_>, dim: usize) -> f64 {
    options.number_or("loss_scale", (dim as f64).sqrt().recip())
}

/// Returns the ratio to `dim` of an MLP's width, which the references truncate to a whole number.
pub(crate) fn mlp_ratio(ratio: f64, dim: usize) -> f64 {
    (dim as f64 * ratio).trunc() / dim as f64
}

/// Parses fairseq's list of convolutions over the waveform, `[(32, 10, 5)] + [(32, 3, 2)] * 4`.
/// Returns their channels, and the kernel and stride of each.
pub(crate) fn parse_conv_layers(text: &str) -> (usize, Vec<[usize; 2]>) {
    let mut layers = Vec::new();
    let mut channels = Vec::new();
    for part in text.split('+') {
        let (layer, times) = part.split_once('*').unwrap_or((part, "1"));
        let numbers: Vec<usize> = layer
            .trim_matches(|c: char| !c.is_ascii_digit())
            .split(',')
            .map(|number| number.trim().parse().unwrap())
            .collect();
        let [n, kernel, stride] = numbers[..] else {
            panic!("{layer} is not a convolution")
        };
        let times: usize = times.trim().parse().unwrap();
        channels.extend(std::iter::repeat_n(n, times));
        layers.extend(std::iter::repeat_n([kernel, stride], times));
    }
    assert!(channels.iter().all(|&n| n == channels[0]));
    (channels[0], layers)
}
