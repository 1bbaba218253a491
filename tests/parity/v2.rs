//! data2vec 2.0's pre-training cases: their configs, inputs and names.

use burn::tensor::Device;
use serde_json::Value;
use understudy::interop::fairseq::data2vec_v2;
use understudy::model::{AudioConfig, DecoderConfig, EncoderInput, TextConfig, VitConfig};
use understudy::objective::{Data2Vec2Config, ModelConfig};

use crate::case::{Case, Goldens};
use crate::forward::tokens_of;
use crate::options::Options;
use crate::pretrain::{Method, UpdateInput};
use crate::reference::{
    ema_schedule, loss_scale, mlp_ratio, optim, parse_conv_layers, root, targets,
};
use crate::v1::PAD;

pub(crate) fn method(case: &Case, modality: &str, io: &Goldens) -> Method {
    let root = root(&case.config);
    let options = root.table("model");
    let method = Method {
        model: model(&options, modality, io),
        optim: optim(&root),
        ema: ema_schedule(&options),
        update_input,
        n_masks: options.size_or("clone_batch", 1),
        ema_from_zero: false,
        mean_loss: false,
        ema_decay_factor: 1000.0,
        teacher_prefix: "_ema.",
        student: |tensors| data2vec_v2::student(tensors).unwrap(),
        teacher: |tensors| data2vec_v2::teacher(tensors).unwrap(),
    };
    root.require_all();
    method
}

fn update_input(case: &Case, io: &Goldens, k: usize, device: &Device) -> Option<UpdateInput> {
    let source = &io["in.source"];
    Some(UpdateInput {
        input: match case.text("modality") {
            "image" => EncoderInput::Images(source.tensor(device)),
            "audio" => EncoderInput::Waveforms {
                waveforms: source.tensor(device),
                lengths: None,
            },
            _ => tokens_of(source, PAD, device),
        },
        student_tokens: None,
        mask: io.get(&format!("in.mask.{k}"))?.clone(),
    })
}

fn model(options: &Options<'_>, modality: &str, io: &Goldens) -> ModelConfig {
    let encoder = options.table("modality");
    require_ours(options, &encoder);
    // Before its blocks the teacher has modules of its own, or has the student's.
    let is_encoder_only = options.is_set_or("ema_encoder_only", true);
    let has_local = encoder.is_set("ema_local_encoder");
    match modality {
        // There is nothing between the embedding and the blocks.
        "text" => {}
        _ => options.require_or("ema_encoder_only", true, false),
    }
    if modality == "image" {
        encoder.require_or("ema_local_encoder", false, true);
    }
    let sizes = Sizes::new(options);
    // Ours has one factor for both losses, theirs one more for that of positions.
    let position_weight = options.number_or("d2v_loss", 1.0);
    assert!(
        position_weight > 0.0,
        "model.d2v_loss = {position_weight} is not supported"
    );
    let decoder = encoder.table("decoder");
    ModelConfig::Data2vec2(Data2Vec2Config {
        image: (modality == "image").then(|| image(&sizes, options, &encoder)),
        audio: (modality == "audio").then(|| audio(&sizes, options, &encoder)),
        text: (modality == "text").then(|| text(&sizes, options, &encoder, io)),
        decoder: self::decoder(&decoder, modality == "image"),
        targets: targets(options, sizes.depth),
        loss_beta: options.number_or("loss_beta", 0.0),
        loss_scale: Some(loss_scale(options, sizes.embed_dim) * position_weight),
        noise_std: encoder.number_or("mask_noise_std", 0.01),
        ema_local: modality != "image" && !is_encoder_only && has_local,
        cls_loss_weight: options.number_or("cls_loss", 0.0) / position_weight,
        // Ours is normalised to a batch; the case's own makes both equal.
        cls_batch: io["in.source"].shape[0],
    })
}

/// Options of all modalities that our config has no key for.
fn require_ours(options: &Options<'_>, encoder: &Options<'_>) {
    options.require_unset(&["layer_norm_first", "skip_ema"]);
    options.require("norm_affine", true);
    options.require("shared_decoder", Value::Null);
    options.require_zero(&[
        "activation_dropout",
        "dropout_input",
        "recon_loss",
        "start_drop_path_rate",
        "end_drop_path_rate",
    ]);
    options.ignore(&[
        // The case has its weights.
        "mae_init",
        // A group of its own with the same optimizer.
        "decoder_group",
        // How it is computed, watched and ended.
        "ema_same_dtype",
        "log_norms",
        "max_update",
        "min_target_var",
        "min_pred_var",
        "seed",
        "supported_modality",
    ]);
    encoder.require("local_grad_mult", 1);
    encoder.require("encoder_zero_mask", true);
    encoder.require_unset(&["learned_alibi", "learned_alibi_scale_per_layer"]);
    encoder.require_zero(&[
        "keep_masked_pct",
        "mask_channel_prob",
        "start_drop_path_rate",
        "end_drop_path_rate",
    ]);
    encoder.ignore(&[
        // The case has its masks.
        "mask_prob",
        "mask_prob_min",
        "mask_prob_adjust",
        "mask_length",
        "mask_dropout",
        "mask_channel_length",
        "inverse_mask",
        "add_masks",
        "remove_masks",
        // And its weights.
        "alibi_scale",
        "init_extra_token_zero",
        // Of learned biases.
        "alibi_max_pos",
        "type",
    ]);
    for (key, of_model) in [("num_alibi_heads", "num_heads"), ("model_depth", "depth")] {
        encoder.require(key, options.get(of_model).clone());
    }
}

/// Sizes that all modalities share.
struct Sizes {
    embed_dim: usize,
    depth: usize,
    n_heads: usize,
    mlp_ratio: f64,
    norm_eps: f64,
}

impl Sizes {
    fn new(options: &Options<'_>) -> Self {
        let embed_dim = options.size_or("embed_dim", 768);
        Self {
            embed_dim,
            depth: options.size_or("depth", 8),
            n_heads: options.size_or("num_heads", 12),
            mlp_ratio: mlp_ratio(options.number_or("mlp_ratio", 4.0), embed_dim),
            norm_eps: options.number_or("norm_eps", 1e-6),
        }
    }
}

/// Whether attention falls with distance; the slopes of ours are learned, one scale per head.
fn has_alibi(encoder: &Options<'_>) -> bool {
    let has_alibi = encoder.is_set("use_alibi_encoder");
    let scales = ["learned_alibi_scale", "learned_alibi_scale_per_head"];
    if has_alibi {
        for key in scales {
            encoder.require_or(key, false, true);
        }
    }
    encoder.ignore(&scales);
    has_alibi
}

fn image(sizes: &Sizes, options: &Options<'_>, encoder: &Options<'_>) -> VitConfig {
    for key in ["encoder_dropout", "post_mlp_drop", "attention_dropout"] {
        options.require_or(key, 0.1, 0.0);
    }
    options.require_zero(&["layerdrop"]);
    encoder.require_zero(&["prenet_dropout", "prenet_layerdrop"]);
    encoder.require("in_chans", 3);
    encoder.require("fixed_positions", true);
    encoder.require("embed_dim", sizes.embed_dim);
    encoder.require_or("num_extra_tokens", 0, 1);
    encoder.require_unset(&[
        "use_alibi_encoder",
        "transformer_decoder",
        "enc_dec_transformer",
    ]);
    // Of a bias that there is none of.
    encoder.ignore(&[
        "alibi_dims",
        "alibi_distance",
        "learned_alibi_scale",
        "learned_alibi_scale_per_head",
    ]);
    VitConfig {
        image_size: encoder.size_or("input_size", 224),
        patch_size: encoder.size_or("patch_size", 16),
        embed_dim: sizes.embed_dim,
        prenet_depth: encoder.size_or("prenet_depth", 4),
        depth: sizes.depth,
        n_heads: sizes.n_heads,
        mlp_ratio: sizes.mlp_ratio,
        norm_eps: sizes.norm_eps,
    }
}

fn audio(sizes: &Sizes, options: &Options<'_>, encoder: &Options<'_>) -> AudioConfig {
    encoder.require("extractor_mode", "layer_norm");
    encoder.require_unset(&["conv_pos_pre_ln"]);
    encoder.require_zero(&["num_extra_tokens"]);
    let (conv_dim, conv_layers) = parse_conv_layers(encoder.text("feature_encoder_spec"));
    let pos_conv_depth = encoder.size_or("conv_pos_depth", 5);
    // Ours are one each for the blocks, those before them and their input.
    let drop_prob = options.number_or("encoder_dropout", 0.1);
    let layer_drop_prob = options.number_or("layerdrop", 0.0);
    options.require_or("post_mlp_drop", 0.1, drop_prob);
    encoder.require_or("prenet_dropout", 0.0, drop_prob);
    encoder.require_or("prenet_layerdrop", 0.0, layer_drop_prob);
    AudioConfig {
        conv_dim,
        conv_layers,
        filter_bank: false,
        embed_dim: sizes.embed_dim,
        pos_conv_depth,
        pos_conv_kernel: (encoder.size_or("conv_pos_width", 95) / pos_conv_depth).max(3),
        pos_conv_groups: encoder.size_or("conv_pos_groups", 16),
        clear_padding: false,
        shared_pos_conv: false,
        alibi: has_alibi(encoder),
        prenet_depth: encoder.size_or("prenet_depth", 4),
        depth: sizes.depth,
        n_heads: sizes.n_heads,
        mlp_ratio: sizes.mlp_ratio,
        norm_eps: sizes.norm_eps,
        drop_prob,
        attention_drop_prob: options.number_or("attention_dropout", 0.1),
        layer_drop_prob,
    }
}

fn text(sizes: &Sizes, options: &Options<'_>, encoder: &Options<'_>, io: &Goldens) -> TextConfig {
    encoder.require_or("prenet_depth", 4, 0);
    encoder.require("learned_pos", true);
    encoder.require("no_scale_embedding", true);
    encoder.require("layernorm_embedding", true);
    encoder.require_unset(&["no_token_positional_embeddings"]);
    encoder.require_zero(&["num_extra_tokens"]);
    options.require_zero(&["layerdrop"]);
    // Of blocks that there are none of.
    encoder.ignore(&["prenet_dropout", "prenet_layerdrop"]);
    // Ours is one for the embedding and the blocks.
    let drop_prob = encoder.number_or("dropout", 0.1);
    options.require_or("encoder_dropout", 0.1, drop_prob);
    options.require_or("post_mlp_drop", 0.1, drop_prob);
    TextConfig {
        // The config leaves it to the dictionary.
        vocab_size: io["grad.modality_encoders.TEXT.local_encoder.embed_tokens.weight"].shape[0],
        pad_token: PAD,
        max_tokens: encoder.size_or("max_source_positions", 512),
        alibi: has_alibi(encoder),
        embed_dim: sizes.embed_dim,
        depth: sizes.depth,
        n_heads: sizes.n_heads,
        mlp_ratio: sizes.mlp_ratio,
        norm_eps: sizes.norm_eps,
        drop_prob,
        attention_drop_prob: options.number_or("attention_dropout", 0.1),
    }
}

fn decoder(options: &Options<'_>, is_image: bool) -> DecoderConfig {
    options.require_unset(&["add_positions_masked", "add_positions_all"]);
    // The decoder of huge14 has it; the code does not know it.
    options.ignore(&["final_layer_norm"]);
    let dim = options.size_or("decoder_dim", 384);
    let n_projections = options.size_or("projection_layers", 1);
    let ratio = options.number_or("projection_ratio", 2.0);
    let proj_hidden_dim = match n_projections {
        // The decoder over a grid has one map, whatever is asked.
        _ if is_image => None,
        1 => None,
        2 => Some((dim as f64 * ratio) as usize),
        n => panic!("model.modality.decoder.projection_layers = {n} is not supported"),
    };
    DecoderConfig {
        n_layers: options.size_or("decoder_layers", 5),
        dim,
        kernel: options.size_or("decoder_kernel", 5),
        groups: options.size_or("decoder_groups", 16),
        residual: options.is_set_or("decoder_residual", true),
        proj_hidden_dim,
        input_drop_prob: options.number_or("input_dropout", 0.1),
    }
}
