//! Forward passes of Hugging Face models.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use understudy::interop::hugging_face::{audio, text, vision};
use understudy::model::{
    AudioEncoder, Beit, Classifier, Encoder, EncoderConfig, EncoderInput, Linear,
    MaskedLanguageHead, Masks, Pooler, SentenceHead, TextEncoder, View,
};
use understudy::params;

use crate::case::{Case, Golden, Goldens, below};
use crate::compare::{Comparison, values};
use crate::formula;
use crate::losses::{cross_entropy, ctc};

const OUTPUTS: &str = "outputs";

pub(crate) fn check(case: &Case, device: &Device) {
    let io = case.tensors("io.safetensors");
    let weights = match case.kind() {
        "hf_forward" => below(&case.tensors("model.safetensors"), ""),
        _ => formula::weights(case.json("weights_formula.json")),
    };
    let mut comparison = Comparison::new(case, &io);
    match case.text("modality") {
        "image" => check_image(&mut comparison, case, &io, weights, device),
        "audio" => check_audio(&mut comparison, case, &io, weights, device),
        "text" => check_text(&mut comparison, case, &io, weights, device),
        other => panic!("unknown modality {other}"),
    }
    comparison.require_all(|name| name.starts_with("in."));
    comparison.finish();
}

type Weights = BTreeMap<String, TensorData>;

/// Removes the tensors whose name begins with `prefix` and returns them without the prefix.
fn take(weights: &mut Weights, prefix: &str) -> Weights {
    let (taken, left): (Weights, Weights) = std::mem::take(weights)
        .into_iter()
        .partition(|(name, _)| name.starts_with(prefix));
    *weights = left;
    let stripped = taken
        .into_iter()
        .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor));
    stripped.collect()
}

/// Builds a module and loads the weights of `prefix`, if there are any.
fn head<M: Module>(
    weights: &mut Weights,
    prefix: &str,
    module: impl FnOnce(&Weights) -> M,
) -> Option<M> {
    let own = take(weights, prefix);
    (!own.is_empty()).then(|| params::load(module(&own), own).unwrap())
}

fn check_image(
    comparison: &mut Comparison<'_>,
    case: &Case,
    io: &Goldens,
    weights: Weights,
    device: &Device,
) {
    let folder: vision::VisionFolder = serde_json::from_value(case.config.clone()).unwrap();
    let config = folder.encoder().unwrap();
    let mut weights = vision::import(weights).unwrap();
    let input = EncoderInput::Images(io["in.pixel_values"].tensor(device));

    if weights.contains_key("head.weight") {
        let n_classes = weights["head.weight"].shape()[0];
        let model = Classifier::new(&config, n_classes, device);
        let model = params::load(model, weights).unwrap();
        let encoder = Encoder::Beit(model.encoder.clone());
        let tokens = layers(
            comparison,
            "",
            &encoder,
            &input,
            EncoderConfig::Beit(&config),
        );
        let logits = model.classify(tokens);
        comparison.tensor("logits", OUTPUTS, logits.clone());
        comparison.scalar("loss", "losses", cross_entropy(logits, &io["in.labels"]));
        return;
    }
    let model = if folder.use_mean_pooling {
        Beit::for_classification(&config, device)
    } else {
        Beit::new(&config, device)
    };
    let model = params::load(model, take(&mut weights, "encoder.")).unwrap();
    let encoder = Encoder::Beit(model);
    let config = EncoderConfig::Beit(&config);
    let tokens = layers(comparison, "", &encoder, &input, config);
    comparison.tensor("last_hidden_state", OUTPUTS, encoder.normed(tokens));
    if let Some(mask) = io.get("in.bool_masked_pos") {
        let tokens = masked(&encoder, &input, mask, config, device);
        comparison.tensor("masked.last_hidden_state", OUTPUTS, tokens);
    }
}

fn check_audio(
    comparison: &mut Comparison<'_>,
    case: &Case,
    io: &Goldens,
    weights: Weights,
    device: &Device,
) {
    let folder: audio::AudioFolder = serde_json::from_value(case.config.clone()).unwrap();
    let config = folder.encoder().unwrap();
    let mut weights = audio::import(weights).unwrap();
    let ctc_head = head(&mut weights, "ctc.", |own| {
        let [n_classes, dim] = own["weight"].shape()[..] else {
            panic!("a matrix")
        };
        Linear::new(dim, n_classes, device)
    });
    let has_mask = weights.contains_key("encoder.mask_emb");
    let model = AudioEncoder::new(&config, has_mask, device);
    let model = params::load(model, take(&mut weights, "encoder.")).unwrap();
    let extractor = model.local().unwrap().clone();
    let encoder = Encoder::Audio(model);
    let encoder_config = EncoderConfig::Audio(&config);

    let waveforms: Tensor<2> = io["in.input_values"].tensor(device);
    let lengths = io
        .get("in.attention_mask")
        .map(|mask| mask.count_per_row(|valid| valid != 0.0));
    let n_positions: Option<Vec<f64>> = lengths.as_ref().map(|lengths| {
        let positions = lengths.iter().map(|&n| config.n_positions(n) as f64);
        positions.collect()
    });
    let input = EncoderInput::Waveforms {
        waveforms: waveforms.clone(),
        lengths: lengths.clone(),
    };
    for name in ["feature_vector_lengths", "input_lengths"] {
        if let Some(expected) = io.get(name) {
            comparison.values(name, expected, n_positions.as_ref().unwrap(), 0.5);
        }
    }
    let convolved = extractor.convolved(waveforms.clone());
    let normed = extractor.normed(convolved);
    comparison.tensor_if_any("extract_features", OUTPUTS, normed);
    let tokens = layers(comparison, "", &encoder, &input, encoder_config);
    comparison.tensor_if_any("last_hidden_state", OUTPUTS, tokens.clone());

    if io.contains_key("single.last_hidden_state") {
        let n_frames = lengths.unwrap()[0];
        let single = EncoderInput::Waveforms {
            waveforms: waveforms.narrow(0, 0, 1).narrow(1, 0, n_frames),
            lengths: None,
        };
        let tokens = layers(comparison, "single.", &encoder, &single, encoder_config);
        comparison.tensor("single.last_hidden_state", OUTPUTS, tokens);
    }
    if let Some(mask) = io.get("in.mask_time_indices") {
        let tokens = masked(&encoder, &input, mask, encoder_config, device);
        comparison.tensor("masked.last_hidden_state", OUTPUTS, tokens);
    }
    if let Some(ctc_head) = ctc_head {
        let logits = ctc_head.forward(tokens);
        comparison.tensor("logits", OUTPUTS, logits.clone());
        if let Some(labels) = io.get("in.labels") {
            check_ctc(comparison, io, &logits, labels, &n_positions.unwrap());
        }
    }
}

fn check_ctc(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    logits: &Tensor<3>,
    labels: &Golden,
    n_positions: &[f64],
) {
    let best = values(logits.clone().argmax(2).float());
    comparison.values("argmax_ids", &io["argmax_ids"], &best, 0.5);
    let rows: Vec<(f64, f64)> = labels
        .values
        .chunks_exact(labels.shape[1])
        .enumerate()
        .map(|(row, labels)| {
            let targets: Vec<usize> = labels
                .iter()
                .filter(|&&label| label >= 0.0)
                .map(|&label| label as usize)
                .collect();
            let logits = logits.clone().narrow(0, row, 1).squeeze_dim::<2>(0);
            let n = n_positions[row] as usize;
            (
                ctc(logits.narrow(0, 0, n), &targets),
                targets.len().max(1) as f64,
            )
        })
        .collect();
    let sum = rows.iter().map(|(loss, _)| loss).sum();
    comparison.scalar("loss_sum", "losses", sum);
    let per_character: Vec<f64> = rows.iter().map(|(loss, n)| loss / n).collect();
    let mean = per_character.iter().sum::<f64>() / rows.len() as f64;
    comparison.scalar("loss_mean", "losses", mean);
    comparison.scalars("loss_per_row_none", "losses", &per_character);
}

fn check_text(
    comparison: &mut Comparison<'_>,
    case: &Case,
    io: &Goldens,
    weights: Weights,
    device: &Device,
) {
    let folder: text::TextFolder = serde_json::from_value(case.config.clone()).unwrap();
    let config = folder.encoder().unwrap();
    let dim = config.embed_dim;
    let mut weights = text::import(weights).unwrap();
    let pooler = head(&mut weights, "pooler.", |_| Pooler::new(dim, device));
    let sentence = head(&mut weights, "sentence.", |own| {
        SentenceHead::new(dim, own["out_proj.bias"].shape()[0], device)
    });
    let language = head(&mut weights, "language.", |_| {
        MaskedLanguageHead::new(dim, config.vocab_size, config.norm_eps, device)
    });
    let model = TextEncoder::new(&config, device);
    let model = params::load(model, take(&mut weights, "encoder.")).unwrap();
    assert!(weights.is_empty(), "{:?}", weights.keys());
    let embedded = model.embed().unwrap().tokens.val();
    let encoder = Encoder::Text(model);

    let input = EncoderInput::Tokens {
        tokens: io["in.input_ids"].ids(device),
        lengths: Some(io["in.attention_mask"].count_per_row(|valid| valid != 0.0)),
    };
    let tokens = layers(
        comparison,
        "",
        &encoder,
        &input,
        EncoderConfig::Text(&config),
    );
    comparison.tensor_if_any("last_hidden_state", OUTPUTS, tokens.clone());
    if let (Some(pooler), true) = (pooler, io.contains_key("pooler_output")) {
        comparison.tensor("pooler_output", OUTPUTS, pooler.forward(tokens.clone()));
    }
    if let Some(sentence) = sentence {
        let logits = sentence.forward(tokens.clone());
        comparison.tensor("logits", OUTPUTS, logits.clone());
        comparison.scalar("loss", "losses", cross_entropy(logits, &io["in.labels"]));
    }
    if let Some(language) = language {
        let logits = language.forward(tokens, embedded);
        comparison.tensor("logits", OUTPUTS, logits.clone());
        let [b, l, vocab_size] = logits.dims();
        let logits = logits.reshape([b * l, vocab_size]);
        comparison.scalar("loss", "losses", cross_entropy(logits, &io["in.labels"]));
    }
}

/// Compares the input of the blocks and the output of each, if the file has them. Returns the
/// output of the last block.
fn layers(
    comparison: &mut Comparison<'_>,
    prefix: &str,
    encoder: &Encoder,
    input: &EncoderInput,
    config: EncoderConfig<'_>,
) -> Tensor<3> {
    let mut check = |layer_idx: usize, found: Tensor<3>| {
        let name = format!("{prefix}hidden_states.{layer_idx}");
        let Some(expected) = comparison.expected(&name) else {
            return;
        };
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
        comparison.tensor(&name, OUTPUTS, found);
    };
    let local = encoder.local(input).unwrap();
    let padding = input.padding(config);
    let sequence = encoder.sequence(local, View::All, padding.as_ref());
    check(0, sequence.x.clone());
    encoder.run(sequence, &mut |block_idx, output| {
        check(block_idx + 1, output.hidden.clone());
    })
}

/// Returns the last hidden state with some positions masked.
fn masked(
    encoder: &Encoder,
    input: &EncoderInput,
    mask: &Golden,
    config: EncoderConfig<'_>,
    device: &Device,
) -> Tensor<3> {
    let masks = Masks::new(&mask.bytes(), 1, mask.shape[1], device).unwrap();
    let local = encoder.local(input).unwrap();
    let padding = input.padding(config);
    let sequence = encoder.sequence(local, View::Masked(&masks), padding.as_ref());
    encoder.normed(encoder.run(sequence, &mut |_, _| ()))
}
