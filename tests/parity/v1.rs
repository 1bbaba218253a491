//! data2vec 1.0's pre-training cases: their configs, inputs and names.

use burn::tensor::Device;
use serde_json::Value;
use understudy::interop::fairseq::{data2vec_v1, data2vec_vision};
use understudy::model::{
    AudioConfig, BeitConfig, EncoderInput, Norm, RelativePosition, TextConfig,
};
use understudy::objective::{Data2Vec1Config, ModelConfig, Network, TargetConfig};
use understudy::optim::EmaSchedule;
use understudy::params;

use crate::case::{Case, Goldens};
use crate::forward::tokens_of;
use crate::pretrain::{Method, UpdateInput};
use crate::reference::{
    check_loss_scale, ema_schedule, is_set, norms, number, optim, parse_conv_layers, size,
};

/// The padding token of fairseq's dictionaries.
pub(crate) const PAD: usize = 1;

/// Epsilon of all norms in fairseq's transformer: PyTorch's default.
const NORM_EPS: f64 = 1e-5;

pub(crate) fn image(case: &Case) -> Method {
    let config = &case.config;
    let model = image_model(config);
    check_decay(case, &model);
    Method {
        model,
        optim: optim(case),
        ema: EmaSchedule {
            decay: number(&config["ema"], "init"),
            end_decay: number(&config["ema"], "end"),
            anneal_steps: size(&config["ema"], "anneal_steps") as u64,
        },
        update_input: |_, io, k, device| {
            Some(UpdateInput {
                input: EncoderInput::Images(io["in.pixel_values"].tensor(device)),
                student_tokens: None,
                mask: io.get(&format!("in.mask.{k}"))?.clone(),
            })
        },
        n_masks: 1,
        ema_from_zero: true,
        mean_loss: true,
        ema_decay_factor: 1.0,
        teacher_prefix: "_ema.",
        student: |tensors| data2vec_vision::import(tensors).unwrap(),
        teacher: |tensors| data2vec_vision::import(tensors).unwrap(),
    }
}

pub(crate) fn audio(case: &Case) -> Method {
    let config = &case.config["model"];
    assert!(is_set(config, "ema_transformer_only"));
    for key in ["layer_norm_first", "conv_bias"] {
        assert!(!is_set(config, key), "{key} must not be set: ours has none");
    }
    assert_eq!(config["extractor_mode"], "layer_norm");
    let (conv_dim, conv_layers) =
        parse_conv_layers(config["conv_feature_layers"].as_str().unwrap());
    let pos_conv_depth = size(config, "pos_conv_depth");
    let embed_dim = size(config, "encoder_embed_dim");
    let audio = AudioConfig {
        conv_dim,
        conv_layers,
        filter_bank: false,
        embed_dim,
        pos_conv_depth,
        pos_conv_kernel: (size(config, "conv_pos") / pos_conv_depth).max(3),
        pos_conv_groups: size(config, "conv_pos_groups"),
        clear_padding: true,
        shared_pos_conv: is_set(config, "ema_layers_only"),
        alibi: false,
        prenet_depth: 0,
        depth: size(config, "encoder_layers"),
        n_heads: size(config, "encoder_attention_heads"),
        mlp_ratio: number(config, "encoder_ffn_embed_dim") / embed_dim as f64,
        norm_eps: NORM_EPS,
        drop_prob: number(config, "dropout"),
        attention_drop_prob: number(config, "attention_dropout"),
        layer_drop_prob: number(config, "encoder_layerdrop"),
    };
    Method {
        update_input: |_, io, k, device| {
            Some(UpdateInput {
                input: EncoderInput::Waveforms {
                    waveforms: io["in.source"].tensor(device),
                    lengths: None,
                },
                student_tokens: None,
                mask: io.get(&format!("in.mask.{k}"))?.clone(),
            })
        },
        teacher_prefix: "_ema.",
        ..fairseq(case, Some(audio), None, None)
    }
}

pub(crate) fn text(case: &Case) -> Method {
    let config = &case.config["model"];
    let transformer = &config["transformer"];
    let encoder = &transformer["encoder"];
    assert!(is_set(config, "ema_transformer_layers_only"));
    for key in ["layernorm_embedding", "no_scale_embedding"] {
        assert!(
            is_set(transformer, key),
            "{key} must be set: ours always has it"
        );
    }
    assert!(!is_set(encoder, "normalize_before"));
    assert_eq!(size(config, "head_layers"), 2);
    let embed_dim = size(encoder, "embed_dim");
    let text = TextConfig {
        vocab_size: size(config, "vocab"),
        pad_token: PAD,
        max_tokens: size(transformer, "max_source_positions"),
        alibi: false,
        embed_dim,
        depth: size(encoder, "layers"),
        n_heads: size(encoder, "attention_heads"),
        mlp_ratio: number(encoder, "ffn_embed_dim") / embed_dim as f64,
        norm_eps: NORM_EPS,
        drop_prob: number(transformer, "dropout"),
        attention_drop_prob: number(transformer, "attention_dropout"),
    };
    Method {
        update_input: text_input,
        teacher_prefix: "encoder._ema.",
        // The reference's head is twice as wide between its layers.
        ..fairseq(case, None, Some(text), Some(2 * embed_dim))
    }
}

/// Returns the original tokens, the student's, and masks at the `<mask>` tokens of the latter.
fn text_input(case: &Case, io: &Goldens, k: usize, device: &Device) -> Option<UpdateInput> {
    let mask_token = size(&case.config["model"], "mask_index");
    let student = io.get(&format!("in.src_tokens.{k}"))?;
    let mut mask = student.clone();
    for token in &mut mask.values {
        *token = f64::from(*token as usize == mask_token);
    }
    Some(UpdateInput {
        input: tokens_of(&io["in.target_tokens"], PAD, device),
        student_tokens: Some(student.ids(device)),
        mask,
    })
}

/// Returns the common settings of fairseq's two cases; the caller replaces inputs and prefix.
fn fairseq(
    case: &Case,
    audio: Option<AudioConfig>,
    text: Option<TextConfig>,
    head_hidden_dim: Option<usize>,
) -> Method {
    let config = &case.config["model"];
    let [each, average] = norms(config);
    let model = ModelConfig::Data2vec1(Data2Vec1Config {
        image: None,
        audio,
        text,
        head_hidden_dim,
        targets: TargetConfig {
            top_k: size(config, "average_top_k_layers"),
            each,
            average,
        },
        loss_beta: number(config, "loss_beta"),
    });
    check_loss_scale(config, &model);
    Method {
        model,
        optim: optim(case),
        ema: ema_schedule(config),
        update_input: |_, _, _, _| None,
        n_masks: 1,
        ema_from_zero: false,
        mean_loss: false,
        ema_decay_factor: 1000.0,
        teacher_prefix: "",
        student: |tensors| data2vec_v1::student(tensors).unwrap(),
        teacher: |tensors| data2vec_v1::teacher(tensors).unwrap(),
    }
}

fn image_model(config: &Value) -> ModelConfig {
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
        image: Some(BeitConfig {
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
        }),
        audio: None,
        text: None,
        head_hidden_dim: None,
        targets: TargetConfig {
            top_k,
            each: Norm::Layer,
            average: if post_norm { Norm::Layer } else { Norm::None },
        },
        loss_beta: number(config, "l1_beta"),
    })
}

/// Checks that our rule decays the same parameters as the reference.
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
