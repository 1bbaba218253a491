//! What data2vec 1.0's pre-training case has of its own.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::Value;
use understudy::import::data2vec_vision;
use understudy::model::{
    Data2Vec1Config, ModelConfig, Network, Network1, Norm, RelativePosition, TargetConfig,
    Vit1Config,
};
use understudy::objective::Data2Vec;
use understudy::params;
use understudy::schedule::EmaSchedule;

use crate::case::{Case, Goldens};
use crate::compare::Comparison;
use crate::pretrain::{Method, number, optim, size};

pub(crate) fn method(case: &Case) -> Method {
    let config = &case.config;
    let model = model(config);
    check_decay(case, &model);
    Method {
        model,
        optim: optim(case),
        ema: EmaSchedule {
            decay: number(&config["ema"], "init"),
            end_decay: number(&config["ema"], "end"),
            anneal_steps: size(&config["ema"], "anneal_steps") as u64,
        },
        images: "in.pixel_values",
        n_masks: 1,
        ema_from_zero: true,
        mean_loss: true,
        ema_decay_factor: 1.0,
        import: |tensors| data2vec_vision::import(tensors).unwrap(),
        check_start,
        check_update: |_, _, _, _, _, _| (),
    }
}

fn model(config: &Value) -> ModelConfig {
    let vit = &config["model"];
    let relative_position = match (&vit["use_shared_rel_pos_bias"], &vit["use_rel_pos_bias"]) {
        (Value::Bool(true), Value::Bool(false)) => RelativePosition::Shared,
        (Value::Bool(false), Value::Bool(true)) => RelativePosition::PerLayer,
        other => panic!("unknown positions {other:?}"),
    };
    let depth = size(vit, "depth");
    let target_layers: Vec<usize> =
        serde_json::from_value(config["target_layers"].clone()).unwrap();
    let top_k = target_layers.len();
    assert!(
        target_layers.into_iter().eq(depth - top_k..depth),
        "targets are the last blocks"
    );
    let post_norm = config["post_target_layer_norm"].as_bool().unwrap();
    ModelConfig::Data2vec1(Data2Vec1Config {
        image: Vit1Config {
            image_size: size(vit, "img_size"),
            patch_size: size(vit, "patch_size"),
            embed_dim: size(vit, "embed_dim"),
            depth,
            n_heads: size(vit, "num_heads"),
            mlp_ratio: number(vit, "mlp_ratio"),
            norm_eps: 1e-6,
            layer_scale: number(vit, "init_values"),
            relative_position,
            drop_path_prob: number(vit, "drop_path_rate"),
            attention_drop_prob: number(vit, "attn_drop_rate"),
        },
        targets: TargetConfig {
            top_k,
            each: Norm::Layer,
            average: if post_norm { Norm::Layer } else { Norm::None },
        },
        loss_beta: number(config, "l1_beta"),
    })
}

/// Our rule decays what the reference decays.
fn check_decay(case: &Case, model: &ModelConfig) {
    let no_decay: Vec<String> =
        serde_json::from_value(case.config["optimizer"]["no_decay"].clone()).unwrap();
    let mut ours: Vec<String> = params::shapes(&Network::student(model, &Device::flex()))
        .into_iter()
        .filter(|(name, shape)| !optim(case).decayed.covers(name, shape))
        .map(|(name, _)| name)
        .collect();
    let mut theirs: Vec<String> = no_decay
        .iter()
        .filter_map(|name| data2vec_vision::our_name(name))
        .collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs, "parameters without weight decay");
}

fn check_start(
    comparison: &mut Comparison<'_>,
    io: &Goldens,
    objective: &Data2Vec,
    device: &Device,
) {
    let ModelConfig::Data2vec1(config) = &objective.config else {
        unreachable!()
    };
    let images: Tensor<4> = io["in.pixel_values"].tensor(device);

    let Network::V1(teacher) = &objective.teacher else {
        unreachable!()
    };
    let first = teacher.encoder.depth() - config.targets.top_k;
    layers(teacher, images.clone(), |block_idx, hidden, _| {
        if block_idx >= first {
            let [_, n_tokens, _] = hidden.dims();
            let patches = hidden.narrow(1, 1, n_tokens - 1);
            comparison.tensor(
                &format!("teacher.block_out.{block_idx}"),
                "update_0",
                patches,
            );
        }
    });
    comparison.tensor("target.full", "update_0", objective.targets(images.clone()));

    let Network::V1(student) = &objective.student.valid() else {
        unreachable!()
    };
    let last = layers(student, images, |block_idx, hidden, ffn| {
        comparison.tensor(&format!("eval.block_out.{block_idx}"), "update_0", hidden);
        let name = format!("eval.ffn_branch.{block_idx}");
        if io.contains_key(&name) {
            comparison.tensor(&name, "update_0", ffn);
        }
    });
    comparison.tensor("eval.norm", "update_0", student.encoder.normed(last));
}

/// Runs all blocks with nothing masked; `each` gets a block's output and its MLP branch.
fn layers(
    network: &Network1,
    images: Tensor<4>,
    mut each: impl FnMut(usize, Tensor<3>, Tensor<3>),
) -> Tensor<3> {
    let encoder = &network.encoder;
    let tokens = encoder.tokens(encoder.local(images), None);
    encoder.encode(tokens, &mut |block_idx, output| {
        each(block_idx, output.hidden.clone(), output.ffn.clone());
    })
}
