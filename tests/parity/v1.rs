//! data2vec 1.0's pre-training cases: their configs, inputs and names.

use burn::tensor::Device;
use serde_json::Value;
use understudy::interop::fairseq::{data2vec_v1, data2vec_vision};
use understudy::model::{
    AudioConfig, BeitConfig, EncoderInput, Norm, RelativePosition, TextConfig,
};
use understudy::objective::{Data2Vec1Config, ModelConfig, Network, TargetConfig, TargetOutput};
use understudy::optim::{EmaSchedule, OptimConfig};
use understudy::params;

use crate::case::{Case, Goldens};
use crate::forward::tokens_of;
use crate::options::Options;
use crate::pretrain::{Method, UpdateInput};
use crate::reference::{
    ema_schedule, loss_scale, mlp_ratio, norm, optim, parse_conv_layers, root, targets,
};

/// The padding token of fairseq's dictionaries.
pub(crate) const PAD: usize = 1;

/// Epsilon of all norms in fairseq's transformer: PyTorch's default.
const NORM_EPS: f64 = 1e-5;

pub(crate) fn image(case: &Case) -> Method {
    let root = root(&case.config);
    let model = image_model(&root);
    let optim = optim(&root);
    check_decay(&root, &model, &optim);
    let ema = root.table("ema");
    let method = Method {
        model,
        optim,
        ema: EmaSchedule {
            decay: ema.number("init"),
            end_decay: ema.number("end"),
            anneal_steps: ema.size("anneal_steps") as u64,
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
    };
    root.require_all();
    method
}

pub(crate) fn audio(case: &Case) -> Method {
    let root = root(&case.config);
    let options = root.table("model");
    options.require_or("extractor_mode", "default", "layer_norm");
    options.require("activation_fn", "gelu");
    options.require("layer_type", "transformer");
    options.require("feature_grad_mult", 1);
    options.require("crop_seq_to_multiple", 1);
    options.require_unset(&["layer_norm_first", "conv_bias"]);
    options.require_zero(&[
        "activation_dropout",
        "dropout_input",
        "dropout_features",
        "mask_channel_prob",
    ]);
    options.ignore(&[
        // The case has its masks.
        "mask_prob",
        "mask_length",
        "mask_selection",
        "mask_other",
        "mask_dropout",
        "no_mask_overlap",
        "mask_min_space",
        "require_same_masks",
        // How it is computed, watched and ended.
        "required_seq_len_multiple",
        "checkpoint_activations",
        "max_update",
        "min_target_var",
        "min_pred_var",
    ]);
    let shared_pos_conv = options.is_set_or("ema_layers_only", true);
    if shared_pos_conv {
        // The code then sets the other itself.
        options.ignore(&["ema_transformer_only"]);
    } else {
        options.require("ema_transformer_only", true);
    }
    let (conv_dim, conv_layers) = parse_conv_layers(options.text("conv_feature_layers"));
    let pos_conv_depth = options.size_or("pos_conv_depth", 1);
    assert!(
        pos_conv_depth > 1,
        "pos_conv_depth = 1 is not supported: wav2vec 2.0's convolution with a norm of its weights"
    );
    let embed_dim = options.size_or("encoder_embed_dim", 768);
    let audio = AudioConfig {
        conv_dim,
        conv_layers,
        filter_bank: false,
        embed_dim,
        pos_conv_depth,
        pos_conv_kernel: (options.size_or("conv_pos", 128) / pos_conv_depth).max(3),
        pos_conv_groups: options.size_or("conv_pos_groups", 16),
        clear_padding: true,
        shared_pos_conv,
        alibi: false,
        prenet_depth: 0,
        depth: options.size_or("encoder_layers", 12),
        n_heads: options.size_or("encoder_attention_heads", 12),
        mlp_ratio: options.number_or("encoder_ffn_embed_dim", 3072.0) / embed_dim as f64,
        norm_eps: NORM_EPS,
        drop_prob: options.number_or("dropout", 0.1),
        attention_drop_prob: options.number_or("attention_dropout", 0.1),
        layer_drop_prob: options.number_or("encoder_layerdrop", 0.0),
    };
    let targets = targets(&options, audio.depth);
    let method = Method {
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
        ..fairseq(
            &root,
            Data2Vec1Config {
                image: None,
                audio: Some(audio),
                text: None,
                head_hidden_dim: None,
                targets,
                loss_beta: options.number_or("loss_beta", 0.0),
                loss_scale: Some(loss_scale(&options, embed_dim)),
            },
        )
    };
    root.require_all();
    method
}

pub(crate) fn text(case: &Case) -> Method {
    let root = root(&case.config);
    let options = root.table("model");
    let transformer = options.table("transformer");
    let encoder = transformer.table("encoder");
    options.require("ema_transformer_layers_only", true);
    options.ignore(&["max_positions", "load_checkpoint_heads", "mask_index"]);
    transformer.require_or("activation_fn", "relu", "gelu");
    transformer.require_or("layernorm_embedding", false, true);
    transformer.require_or("no_scale_embedding", false, true);
    transformer.require_unset(&["no_token_positional_embeddings", "adaptive_input"]);
    transformer.require_zero(&["activation_dropout", "relu_dropout"]);
    encoder.require_or("learned_pos", false, true);
    encoder.require_unset(&["normalize_before"]);
    encoder.require_zero(&["layerdrop"]);
    let embed_dim = encoder.size("embed_dim");
    // The reference's head is twice as wide between its layers.
    let head_hidden_dim = match options.size_or("head_layers", 1) {
        1 => None,
        2 => Some(2 * embed_dim),
        n => panic!("model.head_layers = {n} is not supported, only 1 and 2 are"),
    };
    let text = TextConfig {
        vocab_size: options.size("vocab"),
        pad_token: PAD,
        max_tokens: transformer.size("max_source_positions"),
        alibi: false,
        embed_dim,
        depth: encoder.size("layers"),
        n_heads: encoder.size("attention_heads"),
        mlp_ratio: encoder.number("ffn_embed_dim") / embed_dim as f64,
        norm_eps: NORM_EPS,
        drop_prob: transformer.number_or("dropout", 0.1),
        attention_drop_prob: transformer.number_or("attention_dropout", 0.0),
    };
    let loss_scale = match loss_scale(&options, embed_dim) {
        scale if scale <= 0.0 => (embed_dim as f64).sqrt().recip(),
        scale => scale,
    };
    let targets = targets(&options, text.depth);
    let method = Method {
        update_input: text_update_input,
        teacher_prefix: "encoder._ema.",
        ..fairseq(
            &root,
            Data2Vec1Config {
                image: None,
                audio: None,
                text: Some(text),
                head_hidden_dim,
                targets,
                loss_beta: options.number_or("loss_beta", 0.0),
                loss_scale: Some(loss_scale),
            },
        )
    };
    root.require_all();
    method
}

/// The original tokens, the student's, and masks where the latter are `<mask>`.
fn text_update_input(case: &Case, io: &Goldens, k: usize, device: &Device) -> Option<UpdateInput> {
    let mask_token = Options::new(&case.config).table("model").size("mask_index");
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

/// The options that fairseq's two cases share; inputs and prefix are to be replaced.
fn fairseq(root: &Options<'_>, model: Data2Vec1Config) -> Method {
    Method {
        model: ModelConfig::Data2vec1(model),
        optim: optim(root),
        ema: ema_schedule(&root.table("model")),
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

/// Reads the model of `model` and of the command's options, which are in the outermost table.
fn image_model(root: &Options<'_>) -> ModelConfig {
    let vit = root.table("model");
    vit.require("in_chans", 3);
    vit.require("qkv_bias", true);
    vit.require("qk_scale", Value::Null);
    vit.require("attn_head_dim", Value::Null);
    vit.require_zero(&["drop_rate"]);
    vit.require_or("use_abs_pos_emb", true, false);
    // The case has its weights.
    vit.ignore(&["init_std"]);
    let positions = ["use_shared_rel_pos_bias", "use_rel_pos_bias"].map(|key| vit.is_set(key));
    let relative_position = match positions {
        [true, false] => RelativePosition::Shared,
        [false, true] => RelativePosition::PerLayer,
        other => panic!("shared and own relative positions {other:?} are not supported"),
    };
    let layer_scale = vit.number("init_values");
    assert!(
        layer_scale > 0.0,
        "model.init_values = {layer_scale} is not supported: blocks without LayerScale"
    );
    let (embed_dim, depth) = (vit.size("embed_dim"), vit.size("depth"));

    root.require_unset(&["target_batch_norm"]);
    root.require_zero(&["var_w0", "var_w1"]);
    root.ignore(&["mask_dropout_prob"]);
    ModelConfig::Data2vec1(Data2Vec1Config {
        image: Some(BeitConfig {
            image_size: vit.size("img_size"),
            patch_size: vit.size("patch_size"),
            embed_dim,
            depth,
            n_heads: vit.size("num_heads"),
            mlp_ratio: mlp_ratio(vit.number("mlp_ratio"), embed_dim),
            norm_eps: 1e-6,
            layer_scale,
            relative_position,
            drop_path_prob: vit.number("drop_path_rate"),
            attention_drop_prob: vit.number("attn_drop_rate"),
        }),
        audio: None,
        text: None,
        head_hidden_dim: None,
        targets: image_targets(root, depth),
        loss_beta: image_loss_beta(root),
        loss_scale: match root.number_or("loss_scale", -1.0) {
            -1.0 => None,
            // Of a mean over positions and channels.
            scale => Some(scale / embed_dim as f64),
        },
    })
}

/// Reads targets of any list of blocks; Python counts negative indices from the end.
fn image_targets(root: &Options<'_>, depth: usize) -> TargetConfig {
    let layers: Vec<i64> = serde_json::from_value(root.get("target_layers").clone()).unwrap();
    let from_start = |layer: i64| {
        if layer < 0 {
            layer + depth as i64
        } else {
            layer
        }
    };
    let has_layer_norm =
        !root.is_set("no_target_layer_norm_last") && root.is_set_or("target_layer_norm_last", true);
    let each = match (has_layer_norm, root.is_set("target_instance_norm")) {
        (true, false) => Norm::Layer,
        (false, true) => Norm::Instance,
        (false, false) => Norm::None,
        (true, true) => {
            panic!("target_instance_norm = true is not supported together with a layer norm")
        }
    };
    let output = match root.get("layer_results").as_str() {
        None | Some("end") => TargetOutput::Block,
        Some("fc") => TargetOutput::Mlp,
        Some(other) => panic!("layer_results = {other} is not supported"),
    };
    TargetConfig {
        top_k: None,
        blocks: Some(
            layers
                .into_iter()
                .map(|layer| from_start(layer) as usize)
                .collect(),
        ),
        output: Some(output),
        each,
        average: norm(root, "post_target_layer_norm", "post_target_instance_norm"),
    }
}

/// Reads β of smooth-L1, which is 0 here for squared errors.
fn image_loss_beta(root: &Options<'_>) -> f64 {
    let beta = root.number_or("l1_beta", 0.12);
    if root.is_set("l2_loss") {
        return 0.0;
    }
    assert!(
        beta > 0.0,
        "l1_beta = {beta} is not supported: absolute errors"
    );
    beta
}

/// Our rule decays what the reference decays.
fn check_decay(root: &Options<'_>, model: &ModelConfig, optim: &OptimConfig) {
    let no_decay: Vec<String> =
        serde_json::from_value(root.table("optimizer").get("no_decay").clone()).unwrap();
    let mut ours: Vec<String> = params::shapes(&Network::student(model, &Device::flex()))
        .into_iter()
        .filter(|(name, shape)| !optim.decayed.covers(name, shape))
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
