//! What data2vec 2.0's pre-training case has of its own.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;
use understudy::import::fairseq;
use understudy::model::{
    Data2Vec2Config, DecoderConfig, ModelConfig, Network, Network2, Norm, TargetConfig, Vit2Config,
};
use understudy::objective::{Data2Vec, Output};
use understudy::schedule::EmaSchedule;

use crate::case::{Case, Golden, Goldens};
use crate::compare::{Comparison, values};
use crate::pretrain::{Method, losses, number, optim, scalar, size, tensors};

pub(crate) fn method(case: &Case, io: &Goldens) -> Method {
    let config = &case.config["model"];
    Method {
        model: model(config, io["in.source"].shape[0]),
        optim: optim(case),
        ema: EmaSchedule {
            decay: number(config, "ema_decay"),
            end_decay: number(config, "ema_end_decay"),
            anneal_steps: size(config, "ema_anneal_end_step") as u64,
        },
        images: "in.source",
        n_masks: size(config, "clone_batch"),
        ema_from_zero: false,
        mean_loss: false,
        ema_decay_factor: 1000.0,
        import: |tensors| fairseq::import(tensors).unwrap(),
        check_start,
        check_update,
    }
}

fn model(config: &Value, batch: usize) -> ModelConfig {
    let modality = &config["modality"];
    let decoder = &modality["decoder"];
    let is_set = |key: &str| config[key].as_bool().unwrap_or(false);
    let norm = |layer: &str, instance: &str| match (is_set(layer), is_set(instance)) {
        (true, false) => Norm::Layer,
        (false, true) => Norm::Instance,
        (false, false) => Norm::None,
        (true, true) => panic!("one norm at a time"),
    };
    for key in ["layer_norm_first", "end_of_block_targets"] {
        assert!(!is_set(key), "{key} is no part of our model");
    }
    for key in [
        "encoder_dropout",
        "post_mlp_drop",
        "attention_dropout",
        "activation_dropout",
        "loss_beta",
    ] {
        assert_eq!(
            config[key].as_f64(),
            Some(0.0),
            "{key} is no part of our model"
        );
    }
    assert!(
        config["loss_scale"].is_null(),
        "the loss is scaled by 1 / sqrt(D)"
    );
    ModelConfig::Data2vec2(Data2Vec2Config {
        image: Vit2Config {
            image_size: size(modality, "input_size"),
            patch_size: size(modality, "patch_size"),
            embed_dim: size(config, "embed_dim"),
            prenet_depth: size(modality, "prenet_depth"),
            depth: size(config, "depth"),
            n_heads: size(config, "num_heads"),
            mlp_ratio: number(config, "mlp_ratio"),
            norm_eps: number(config, "norm_eps"),
        },
        decoder: DecoderConfig {
            n_layers: size(decoder, "decoder_layers"),
            dim: size(decoder, "decoder_dim"),
            kernel: size(decoder, "decoder_kernel"),
            groups: size(decoder, "decoder_groups"),
        },
        targets: TargetConfig {
            top_k: size(config, "average_top_k_layers"),
            each: norm("layer_norm_target_layer", "instance_norm_target_layer"),
            average: norm("layer_norm_targets", "instance_norm_targets"),
        },
        noise_std: number(modality, "mask_noise_std"),
        cls_loss_weight: number(config, "cls_loss"),
        // Ours is normalised to a batch; the case's own makes both equal.
        cls_batch: batch,
    })
}

fn check_start(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    objective: &Data2Vec,
    device: &Device,
) {
    let images: Tensor<4> = io["in.source"].tensor(device);
    let Network::V2(teacher) = &objective.teacher else {
        unreachable!()
    };
    let encoder = &teacher.encoder;
    encoder.encode(
        encoder.positioned(encoder.local(images.clone())),
        &mut |block_idx, output| {
            let [_, n_tokens, _] = output.ffn.dims();
            let patches = output.ffn.clone().narrow(1, 1, n_tokens - 1);
            comparison.tensor(&format!("teacher.ffn_out.{block_idx}"), "update_0", patches);
        },
    );
    comparison.tensor("target.full", "update_0", objective.targets(images.clone()));

    let Network::V2(student) = &objective.student.valid() else {
        unreachable!()
    };
    let encoder = &student.encoder;
    let local = encoder.local(images);
    comparison.tensor("features.local", "update_0", local.clone());
    let tokens = encoder.encode(encoder.positioned(local), &mut |block_idx, output| {
        comparison.tensor(
            &format!("features.ffn_out.{block_idx}"),
            "update_0",
            output.ffn.clone(),
        );
    });
    comparison.tensor("features.x", "update_0", tokens);
}

fn check_update(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    objective: &Data2Vec,
    device: &Device,
    output: &Output,
    k: usize,
) {
    let sample_size = io[&format!("sample_size.{k}")].scalar();
    comparison.require(output.count.to_bits() == sample_size.to_bits(), || {
        format!(
            "{} patches are masked, expected {sample_size}",
            output.count
        )
    });
    let regression = scalar(output.regression_sum.clone());
    comparison.scalar(&format!("loss_IMAGE_regression.{k}"), losses(k), regression);
    if let Some(cls_sum) = output.cls_sum.clone() {
        comparison.scalar(&format!("loss_cls.{k}"), losses(k), scalar(cls_sum));
    }
    let Network::V2(student) = &objective.student.valid() else {
        unreachable!()
    };
    let parts = student_parts(student, io, device, k);
    comparison.tensor(
        &format!("cls.pred.{k}"),
        tensors(k),
        parts.class_tokens.clone(),
    );
    if k == 0 {
        comparison.tensor("student.cls", "update_0", parts.class_tokens);
        comparison.tensor("student.encoder_out_full", "update_0", parts.encoder_out);
        comparison.tensor("decoder.input_full", "update_0", parts.decoder_in);
        comparison.tensor("decoder.out_full", "update_0", parts.decoder_out);
    }
    let targets = objective.targets(io["in.source"].tensor(device));
    let [b, _, dim] = targets.dims();
    let n_masks = io[&format!("in.mask.{k}")].shape[0] / b;
    let means = targets
        .mean_dim(1)
        .repeat(&[1, n_masks, 1])
        .reshape([b * n_masks, dim]);
    comparison.tensor(&format!("cls.target.{k}"), tensors(k), means);
}

/// What the student computes on its way, put together by plainer means than the objective's.
struct Parts {
    class_tokens: Tensor<2>,
    encoder_out: Tensor<3>,
    decoder_in: Tensor<3>,
    decoder_out: Tensor<3>,
}

fn student_parts(student: &Network2, io: &Goldens, device: &Device, k: usize) -> Parts {
    let encoder = &student.encoder;
    let mask = &io[&format!("in.mask.{k}")];
    let [n_rows, n] = mask.shape[..] else {
        panic!("masks are [R, N]")
    };
    let patches = encoder.positioned(encoder.local(io["in.source"].tensor(device)));
    let [b, _, dim] = patches.dims();

    let mut class_tokens = Vec::new();
    let mut out = vec![0.0; n_rows * n * dim];
    for (row, mask) in mask.values.chunks_exact(n).enumerate() {
        let kept: Vec<usize> = (0..n).filter(|&patch| mask[patch] == 0.0).collect();
        let index: Vec<i64> = kept.iter().map(|&patch| patch as i64).collect();
        let index = TensorData::new(index, [kept.len()]);
        let index = Tensor::<1, Int>::from_data(index, device);
        let sample = patches.clone().narrow(0, row / (n_rows / b), 1);
        let tokens = encoder.encode(sample.select(1, index), &mut |_, _| ());
        class_tokens.push(tokens.clone().narrow(1, 0, 1).reshape([1, dim]));
        let tokens = values(tokens);
        for (place, patch) in kept.into_iter().enumerate() {
            let start = (row * n + patch) * dim;
            out[start..start + dim].copy_from_slice(&tokens[(place + 1) * dim..(place + 2) * dim]);
        }
    }
    let encoder_out: Tensor<3> = Golden {
        shape: vec![n_rows, n, dim],
        values: out,
    }
    .tensor(device);
    // The stored noise is zero where patches are kept.
    let decoder_in = encoder_out.clone() + io[&format!("in.noise.{k}")].tensor(device);
    let decoder = student.decoder.as_ref().unwrap();
    let decoded = decoder.forward(decoder_in.clone());
    let [_, _, decoder_dim] = decoded.dims();
    let decoder_out = decoder.project(decoded.reshape([n_rows * n, decoder_dim]));
    Parts {
        class_tokens: Tensor::cat(class_tokens, 0),
        encoder_out,
        decoder_in,
        decoder_out: decoder_out.reshape([n_rows, n, dim]),
    }
}
