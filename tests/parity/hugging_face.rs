//! Folders of Hugging Face models: forward passes.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use understudy::import::hugging_face::{VisionConfig, import};
use understudy::model::{Classifier, Vit1};
use understudy::params;

use crate::case::{Case, Golden, Goldens, below};
use crate::compare::Comparison;
use crate::formula;

pub(crate) fn check(case: &Case, device: &Device) {
    let config: VisionConfig = serde_json::from_value(case.config.clone()).unwrap();
    let encoder_config = config.encoder().unwrap();
    let io = case.tensors("io.safetensors");
    let images = io["in.pixel_values"].tensor(device);
    let weights = match case.kind() {
        "hf_forward" => below(&case.tensors("model.safetensors"), ""),
        _ => formula::weights(case.json("weights_formula.json")),
    };
    let weights = import(weights).unwrap();
    let mut comparison = Comparison::new(case, &io);

    if case.kind() == "hf_forward" && case.text("head") == "cls" {
        let n_classes = weights["head.weight"].shape()[0];
        let model = Classifier::new(&encoder_config, n_classes, device);
        let model = params::load(model, weights).unwrap();
        let tokens = check_layers(&mut comparison, &io, &model.encoder, images);
        let logits = model.classify(tokens);
        comparison.tensor("logits", "outputs", logits.clone());
        comparison.scalar("loss", "losses", cross_entropy(logits, &io["in.labels"]));
    } else {
        let model = if config.use_mean_pooling {
            Vit1::for_classification(&encoder_config, device)
        } else {
            Vit1::new(&encoder_config, device)
        };
        let model = params::load(model, of_encoder(weights)).unwrap();
        let tokens = check_layers(&mut comparison, &io, &model, images.clone());
        comparison.tensor("last_hidden_state", "outputs", model.normed(tokens));
        if let Some(mask) = io.get("in.bool_masked_pos") {
            let tokens = model.tokens(model.local(images), Some(mask.tensor(device)));
            let tokens = model.normed(model.encode(tokens, &mut |_, _| ()));
            comparison.tensor("masked.last_hidden_state", "outputs", tokens);
        }
    }
    comparison.finish();
}

/// Compares what goes into the blocks and what each makes of it, as far as the file has it.
/// Returns the last block's output.
fn check_layers(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    encoder: &Vit1,
    images: Tensor<4>,
) -> Tensor<3> {
    let mut check = |layer_idx: usize, found: Tensor<3>| {
        let name = format!("hidden_states.{layer_idx}");
        if let Some(expected) = io.get(&name) {
            // Large models have every third token stored.
            let [_, n_found, _] = found.dims();
            let n_stored = expected.shape[1];
            let found = if n_stored == n_found {
                found
            } else {
                assert_eq!(
                    n_stored,
                    n_found.div_ceil(3),
                    "{name} holds every third token"
                );
                let every_third = (0..n_stored as i64)
                    .map(|token| 3 * token)
                    .collect::<Vec<_>>();
                let index = TensorData::new(every_third, [n_stored]);
                found
                    .clone()
                    .select(1, Tensor::from_data(index, &found.device()))
            };
            comparison.tensor(&name, "outputs", found);
        }
    };
    let tokens = encoder.tokens(encoder.local(images), None);
    check(0, tokens.clone());
    encoder.encode(tokens, &mut |block_idx, output| {
        check(block_idx + 1, output.hidden.clone());
    })
}

/// Tensors of a bare encoder.
fn of_encoder(tensors: BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
    let stripped = tensors.into_iter().map(|(name, tensor)| {
        (
            name.strip_prefix("encoder.").unwrap_or(&name).to_owned(),
            tensor,
        )
    });
    stripped.collect()
}

/// Mean cross-entropy.
fn cross_entropy(logits: Tensor<2>, labels: &Golden) -> f64 {
    let [_, n_classes] = logits.dims();
    let log_probs = crate::compare::values(burn::tensor::activation::log_softmax(logits, 1));
    let losses = labels
        .values
        .iter()
        .enumerate()
        .map(|(row, &label)| -log_probs[row * n_classes + label as usize]);
    losses.sum::<f64>() / labels.values.len() as f64
}
