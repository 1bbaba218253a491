//! Translates the references' configs to ours.

use serde_json::Value;
use understudy::model::Norm;
use understudy::objective::ModelConfig;
use understudy::optim::{Decayed, EmaSchedule, EpsForm, LrSchedule, OptimConfig};

use crate::case::Case;

/// Returns the optimizer config of a case, with a constant rate.
pub(crate) fn optim(case: &Case) -> OptimConfig {
    let config = &case.config["optimizer"];
    let number = |key: &str| {
        config[key]
            .as_f64()
            .unwrap_or_else(|| panic!("optimizer.{key}"))
    };
    let (eps_form, decayed) = match config["name"].as_str().unwrap() {
        "torch AdamW" => (EpsForm::AfterCorrection, Decayed::Matrices),
        "fairseq adam" => (EpsForm::BeforeCorrection, Decayed::All),
        other => panic!("unknown optimizer {other}"),
    };
    OptimConfig {
        lr: number("lr"),
        betas: [0, 1].map(|i| config["betas"][i].as_f64().unwrap()),
        eps: number("eps"),
        eps_form,
        weight_decay: number("weight_decay"),
        decayed,
        clip_norm: None,
        // Not asked: each step is given its rate.
        schedule: LrSchedule::Cosine {
            warmup_steps: 0,
            final_lr: 0.0,
        },
    }
}

/// Reads a number of the case's config; panics if it is missing.
pub(crate) fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("config.json has no number `{key}`"))
}

/// Reads a size of the case's config; panics if it is missing.
pub(crate) fn size(value: &Value, key: &str) -> usize {
    number(value, key) as usize
}

/// Reads a switch of the case's config; false if it is missing.
pub(crate) fn is_set(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or(false)
}

/// Reads fairseq's switches of the targets' norms: of each block's output, and of the average.
pub(crate) fn norms(config: &Value) -> [Norm; 2] {
    let norm = |layer: &str, instance: &str| match (is_set(config, layer), is_set(config, instance))
    {
        (true, false) => Norm::Layer,
        (false, true) => Norm::Instance,
        (false, false) => Norm::None,
        (true, true) => panic!("one norm at a time"),
    };
    [
        norm("layer_norm_target_layer", "instance_norm_target_layer"),
        norm("layer_norm_targets", "instance_norm_targets"),
    ]
}

/// Reads fairseq's schedule of τ.
pub(crate) fn ema_schedule(config: &Value) -> EmaSchedule {
    EmaSchedule {
        decay: number(config, "ema_decay"),
        end_decay: number(config, "ema_end_decay"),
        anneal_steps: size(config, "ema_anneal_end_step") as u64,
    }
}

/// Checks that fairseq's scale of the loss is that of our model.
pub(crate) fn check_loss_scale(config: &Value, model: &ModelConfig) {
    let dim = model.encoder().embed_dim() as f64;
    let theirs = config["loss_scale"].as_f64().unwrap_or(dim.sqrt().recip());
    assert!((theirs / model.loss_scale() - 1.0).abs() < 1e-12);
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
