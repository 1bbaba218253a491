//! Intermediate tensors of student and teacher, compared if the file has them.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use understudy::model::{BlockOutput, Encoder, EncoderConfig, EncoderInput, Norm, Sequence, View};
use understudy::objective::{Data2Vec, Inputs, ModelConfig, Output, TargetOutput};

use crate::case::{Golden, Goldens};
use crate::compare::{Comparison, values};
use crate::pretrain::{losses, scalar, tensors};

/// Compares the teacher's blocks and targets, and the initial student's blocks with nothing masked.
pub(crate) fn check_start(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    objective: &Data2Vec,
    input: &EncoderInput,
    device: &Device,
) {
    const GROUP: &str = "update_0";
    let config = objective.config.encoder();
    let padding = input.padding(config);
    let padding = padding.as_ref();

    let encoder = &objective.teacher.encoder;
    let student_local = objective.local(input);
    let local = encoder
        .local(input)
        .unwrap_or_else(|| student_local.clone().inner());
    comparison.positions_if_any("teacher.input", GROUP, local.clone(), padding);
    let targets = objective.config.targets();
    let blocks = targets.block_indices(config.depth());
    let mut sum = None;
    run(encoder, local, padding, |block_idx, output| {
        let (name, x) = match objective.config.target_output() {
            TargetOutput::Block => ("block_out", output.hidden.clone()),
            TargetOutput::Mlp => ("ffn_out", output.ffn.clone()),
        };
        let x = encoder.without_extra(x);
        let name = format!("teacher.{name}");
        comparison.positions_if_any(&format!("{name}.{block_idx}"), GROUP, x.clone(), padding);
        let normed = normalised(targets.each, x);
        let name = format!("{name}_normed.{block_idx}");
        comparison.positions_if_any(&name, GROUP, normed.clone(), padding);
        for _ in blocks.iter().filter(|&&idx| idx == block_idx) {
            let normed = normed.clone();
            sum = Some(sum.take().map_or(normed.clone(), |sum| sum + normed));
        }
    });
    let mean = sum.unwrap().div_scalar(blocks.len() as f64);
    comparison.positions_if_any("target.mean", GROUP, mean, padding);
    let full = objective.targets(input, &student_local);
    comparison.positions_if_any("target.full", GROUP, full, padding);

    let student = objective.student.valid();
    for prefix in ["eval", "features"] {
        check_features(
            comparison,
            prefix,
            &student.encoder,
            input,
            &objective.config,
            padding,
        );
        let prefix = format!("{prefix}_padded");
        if let Some(input) = padded(io, &prefix, input, &objective.config, device) {
            let padding = input.padding(config);
            let encoder = &student.encoder;
            // Values at padding are compared here too.
            check_features(
                comparison,
                &prefix,
                encoder,
                &input,
                &objective.config,
                None,
            );
            let frames = format!("{prefix}.padding_mask_frames");
            comparison.tensor_if_any(&frames, GROUP, padding.unwrap());
        }
    }
}

/// Returns the input of a case's padded variant, if it has one.
fn padded(
    io: &Goldens,
    prefix: &str,
    input: &EncoderInput,
    config: &ModelConfig,
    device: &Device,
) -> Option<EncoderInput> {
    match (input, config.encoder()) {
        (EncoderInput::Waveforms { waveforms, .. }, _) => {
            let is_padding = io.get(&format!("in.{prefix}.padding_mask"))?;
            let keep: Tensor<2> = 1.0 - is_padding.tensor(device);
            Some(EncoderInput::Waveforms {
                waveforms: waveforms.clone() * keep,
                lengths: Some(is_padding.count_per_row(|value| value == 0.0)),
            })
        }
        (EncoderInput::Tokens { .. }, EncoderConfig::Text(config)) => {
            let tokens = io.get(&format!("in.{prefix}.source"))?;
            Some(tokens_of(tokens, config.pad_token, device))
        }
        _ => None,
    }
}

/// Returns rows of tokens that may end in padding.
pub(crate) fn tokens_of(tokens: &Golden, pad_token: usize, device: &Device) -> EncoderInput {
    let lengths = tokens.count_per_row(|token| token as usize != pad_token);
    let is_padded = lengths.iter().any(|&len| len < tokens.shape[1]);
    EncoderInput::Tokens {
        tokens: tokens.ids(device),
        lengths: is_padded.then_some(lengths),
    }
}

fn check_features(
    comparison: &mut Comparison<'_>,
    prefix: &str,
    encoder: &Encoder,
    input: &EncoderInput,
    config: &ModelConfig,
    ignored: Option<&Tensor<2>>,
) {
    const GROUP: &str = "update_0";
    let mut check = |name: &str, x: Tensor<3>| {
        comparison.positions_if_any(&format!("{prefix}.{name}"), GROUP, x, ignored);
    };
    let padding = input.padding(config.encoder());
    if let (Encoder::Audio(encoder), EncoderInput::Waveforms { waveforms, .. }) = (encoder, input) {
        let convolved = encoder.local().unwrap().convolved(waveforms.clone());
        check("conv_features", convolved.swap_dims(1, 2));
    }
    let local = encoder.local(input).unwrap();
    check("local", local.clone());
    let sequence = encoder.sequence(local, View::All, padding.as_ref());
    check("inner_states.0", sequence.x.clone());
    let last = encoder.run(sequence, &mut |block_idx, output| {
        check(&format!("block_out.{block_idx}"), output.hidden.clone());
        let after = block_idx + 1;
        check(&format!("inner_states.{after}"), output.hidden.clone());
        check(&format!("ffn_out.{block_idx}"), output.ffn.clone());
        check(&format!("ffn_branch.{block_idx}"), output.ffn.clone());
    });
    check("x", last.clone());
    check("norm", encoder.normed(last));
}

/// Runs all blocks with nothing masked.
fn run(
    encoder: &Encoder,
    local: Tensor<3>,
    padding: Option<&Tensor<2>>,
    mut each: impl FnMut(usize, &BlockOutput),
) {
    let sequence = encoder.sequence(local, View::All, padding);
    encoder.run(sequence, &mut each);
}

/// Normalises targets, independently of the model's layers.
fn normalised(norm: Norm, x: Tensor<3>) -> Tensor<3> {
    let dim = match norm {
        Norm::None => return x,
        Norm::Layer => 2,
        Norm::Instance => 1,
    };
    let centered = x.clone() - x.mean_dim(dim);
    let variance = centered.clone().square().mean_dim(dim);
    centered / variance.add_scalar(1e-5).sqrt()
}

/// Compares the tensors of update k other than predictions and targets.
pub(crate) fn check_update(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    objective: &Data2Vec,
    inputs: &Inputs,
    output: &Output,
    k: usize,
) {
    if let Some(sample_size) = io.get(&format!("sample_size.{k}")) {
        comparison.values(
            &format!("sample_size.{k}"),
            sample_size,
            &[output.count],
            0.5,
        );
    }
    let n_positions = (inputs.masks.n_rows() * inputs.masks.n_positions) as f64;
    if let Some(share) = io.get(&format!("masked_pct.{k}")) {
        let found = output.count / n_positions;
        comparison.values(&format!("masked_pct.{k}"), share, &[found], 1e-9);
    }
    if io.contains_key(&format!("loss_IMAGE_regression.{k}")) {
        let regression = scalar(output.regression_sum.clone());
        comparison.scalar(&format!("loss_IMAGE_regression.{k}"), losses(k), regression);
    }
    if let Some(cls_sum) = output.cls_sum.clone() {
        comparison.scalar(&format!("loss_cls.{k}"), losses(k), scalar(cls_sum));
    }
    if let ModelConfig::Data2vec2(_) = objective.config {
        check_student2(comparison, io, objective, inputs, k);
    }
}

/// Compares the intermediate tensors of the student of 2.0. The decoder's input is assembled
/// independently of the objective.
fn check_student2(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    objective: &Data2Vec,
    inputs: &Inputs,
    k: usize,
) {
    let student = objective.student.valid();
    let encoder = &student.encoder;
    let mask = &io[&format!("in.mask.{k}")];
    let noise: Tensor<3> = io[&format!("in.noise.{k}")].tensor(&objective_device(inputs));
    let local = encoder.local(&inputs.input).unwrap();
    let sequence: Sequence = encoder.sequence(local.clone(), View::Kept(&inputs.masks), None);
    let tokens = encoder.run(sequence, &mut |_, _| ());
    let [n_rows, n_tokens, dim] = tokens.dims();
    let n_extra = encoder.n_extra();
    if n_extra == 1 {
        let class_tokens = tokens.clone().narrow(1, 0, 1);
        comparison.tensor_if_any(&format!("cls.pred.{k}"), tensors(k), class_tokens.clone());
        if k == 0 {
            comparison.tensor_if_any("student.cls", tensors(k), class_tokens);
        }
        let targets = objective.targets(&inputs.input, &local);
        let n_masks = inputs.masks.n_masks;
        let means = targets.mean_dim(1).repeat(&[1, n_masks, 1]);
        comparison.tensor_if_any(
            &format!("cls.target.{k}"),
            tensors(k),
            means.reshape([n_rows, dim]),
        );
    }
    if k > 0 {
        return;
    }
    let kept = values(encoder.without_extra(tokens));
    let mut kept = kept.chunks_exact(dim);
    let mut out = vec![0.0_f32; mask.values.len() * dim];
    for (row, _) in mask.values.iter().enumerate().filter(|(_, m)| **m == 0.0) {
        let token = kept.next().unwrap().iter().map(|&value| value as f32);
        out.splice(row * dim..(row + 1) * dim, token);
    }
    assert!(kept.next().is_none(), "{n_tokens} tokens per row");
    let shape = [n_rows, mask.shape[1], dim];
    let encoder_out: Tensor<3> = Tensor::from_data(TensorData::new(out, shape), &noise.device());
    comparison.tensor("student.encoder_out_full", "update_0", encoder_out.clone());
    // The stored noise is zero where positions are kept.
    let decoder_in = encoder_out + noise;
    comparison.tensor("decoder.input_full", "update_0", decoder_in.clone());
    let decoder = student.decoder.as_ref().unwrap();
    let decoded = decoder.forward(decoder_in);
    let [_, n, decoder_dim] = decoded.dims();
    let decoded = decoder.project(decoded.reshape([n_rows * n, decoder_dim]));
    comparison.tensor("decoder.out_full", "update_0", decoded);
}

fn objective_device(inputs: &Inputs) -> Device {
    match &inputs.input {
        EncoderInput::Images(images) => images.device(),
        EncoderInput::Waveforms { waveforms, .. } => waveforms.device(),
        EncoderInput::Tokens { tokens, .. } => tokens.device(),
    }
}
