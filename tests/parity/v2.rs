//! data2vec 2.0's pre-training cases: their configs, inputs and names.

use burn::tensor::Device;
use serde_json::Value;
use understudy::interop::fairseq::data2vec_v2;
use understudy::model::{AudioConfig, DecoderConfig, EncoderInput, TextConfig, VitConfig};
use understudy::objective::{Data2Vec2Config, ModelConfig, TargetConfig};

use crate::case::{Case, Goldens};
use crate::forward::tokens_of;
use crate::pretrain::{Method, UpdateInput};
use crate::reference::{
    check_loss_scale, ema_schedule, is_set, norms, number, optim, parse_conv_layers, size,
};
use crate::v1::PAD;

pub(crate) fn method(case: &Case, modality: &str, io: &Goldens) -> Method {
    let config = &case.config["model"];
    Method {
        model: model(config, modality, io),
        optim: optim(case),
        ema: ema_schedule(config),
        update_input,
        n_masks: size(config, "clone_batch"),
        ema_from_zero: false,
        mean_loss: false,
        ema_decay_factor: 1000.0,
        teacher_prefix: "_ema.",
        student: |tensors| data2vec_v2::student(tensors).unwrap(),
        teacher: |tensors| data2vec_v2::teacher(tensors).unwrap(),
    }
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

fn model(config: &Value, modality: &str, io: &Goldens) -> ModelConfig {
    for key in ["layer_norm_first", "end_of_block_targets"] {
        assert!(!is_set(config, key), "{key} must not be set: ours has none");
    }
    for key in ["activation_dropout", "dropout_input"] {
        let value = config[key].as_f64();
        assert_eq!(value, Some(0.0), "{key} must not be set: ours has none");
    }
    assert_eq!(
        config["encoder_dropout"], config["post_mlp_drop"],
        "ours are one"
    );
    let encoder = &config["modality"];
    assert_eq!(
        is_set(config, "ema_encoder_only"),
        modality == "text",
        "the teacher of text has only blocks"
    );
    assert_eq!(
        is_set(encoder, "ema_local_encoder"),
        modality == "image",
        "only the teacher of images has its own local encoder"
    );
    let [each, average] = norms(config);
    let cls_loss_weight = number(config, "cls_loss");
    let model = ModelConfig::Data2vec2(Data2Vec2Config {
        image: (modality == "image").then(|| image(config)),
        audio: (modality == "audio").then(|| audio(config)),
        text: (modality == "text").then(|| text(config, io)),
        decoder: decoder(&encoder["decoder"]),
        targets: TargetConfig {
            top_k: size(config, "average_top_k_layers"),
            each,
            average,
        },
        loss_beta: number(config, "loss_beta"),
        noise_std: number(encoder, "mask_noise_std"),
        ema_local: false,
        cls_loss_weight,
        // Ours is normalised to a batch; the case's own makes both equal.
        cls_batch: io["in.source"].shape[0],
    });
    check_loss_scale(config, &model);
    model
}

fn image(config: &Value) -> VitConfig {
    let encoder = &config["modality"];
    for key in ["encoder_dropout", "attention_dropout"] {
        let value = config[key].as_f64();
        assert_eq!(
            value,
            Some(0.0),
            "{key} must be 0: ours has none for images"
        );
    }
    VitConfig {
        image_size: size(encoder, "input_size"),
        patch_size: size(encoder, "patch_size"),
        embed_dim: size(config, "embed_dim"),
        prenet_depth: size(encoder, "prenet_depth"),
        depth: size(config, "depth"),
        n_heads: size(config, "num_heads"),
        mlp_ratio: number(config, "mlp_ratio"),
        norm_eps: number(config, "norm_eps"),
    }
}

fn audio(config: &Value) -> AudioConfig {
    let encoder = &config["modality"];
    let (conv_dim, conv_layers) =
        parse_conv_layers(encoder["feature_encoder_spec"].as_str().unwrap());
    let pos_conv_depth = size(encoder, "conv_pos_depth");
    for key in ["learned_alibi_scale", "learned_alibi_scale_per_head"] {
        assert!(
            is_set(encoder, key),
            "{key} must be set: ours always has it"
        );
    }
    AudioConfig {
        conv_dim,
        conv_layers,
        filter_bank: false,
        embed_dim: size(config, "embed_dim"),
        pos_conv_depth,
        pos_conv_kernel: (size(encoder, "conv_pos_width") / pos_conv_depth).max(3),
        pos_conv_groups: size(encoder, "conv_pos_groups"),
        clear_padding: false,
        shared_pos_conv: false,
        alibi: is_set(encoder, "use_alibi_encoder"),
        prenet_depth: size(encoder, "prenet_depth"),
        depth: size(config, "depth"),
        n_heads: size(config, "num_heads"),
        mlp_ratio: number(config, "mlp_ratio"),
        norm_eps: number(config, "norm_eps"),
        drop_prob: number(config, "encoder_dropout"),
        attention_drop_prob: number(config, "attention_dropout"),
        layer_drop_prob: number(config, "layerdrop"),
    }
}

fn text(config: &Value, io: &Goldens) -> TextConfig {
    let encoder = &config["modality"];
    assert_eq!(size(encoder, "prenet_depth"), 0);
    TextConfig {
        // The config leaves it to the dictionary.
        vocab_size: io["grad.modality_encoders.TEXT.local_encoder.embed_tokens.weight"].shape[0],
        pad_token: PAD,
        max_tokens: size(encoder, "max_source_positions"),
        alibi: is_set(encoder, "use_alibi_encoder"),
        embed_dim: size(config, "embed_dim"),
        depth: size(config, "depth"),
        n_heads: size(config, "num_heads"),
        mlp_ratio: number(config, "mlp_ratio"),
        norm_eps: number(config, "norm_eps"),
        drop_prob: number(encoder, "dropout"),
        attention_drop_prob: number(config, "attention_dropout"),
    }
}

fn decoder(config: &Value) -> DecoderConfig {
    let dim = size(config, "decoder_dim");
    let hidden_dim = match config["projection_layers"].as_u64() {
        None | Some(1) => None,
        Some(2) => Some((dim as f64 * number(config, "projection_ratio")) as usize),
        Some(n) => panic!("{n} maps behind the decoder"),
    };
    DecoderConfig {
        n_layers: size(config, "decoder_layers"),
        dim,
        kernel: size(config, "decoder_kernel"),
        groups: size(config, "decoder_groups"),
        residual: config["decoder_residual"].as_bool().unwrap_or(true),
        proj_hidden_dim: hidden_dim,
        input_drop_prob: number(config, "input_dropout"),
    }
}
