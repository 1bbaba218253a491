//! Imports a checkpoint of fairseq's data2vec by its own `cfg`.

mod cfg;
pub mod data2vec_v1;
pub mod data2vec_v2;
pub mod data2vec_vision;
mod finetuned;

use std::path::Path;

use serde_json::Value;

use super::error::ImportError;
use super::pickle;
use crate::checkpoint::safetensors::Tensors;
use crate::model::{AudioConfig, DecoderConfig, TextConfig, VitConfig};
use crate::objective::{Data2Vec1Config, Data2Vec2Config, ModelConfig};
use cfg::Cfg;
pub(super) use finetuned::their_head;

/// Pad token of fairseq's dictionaries.
const PAD: usize = 1;
/// `PyTorch`'s default, used by fairseq's transformer for all norms.
const NORM_EPS: f64 = 1e-5;

/// A fairseq model under our names.
#[derive(Debug)]
pub(super) struct FairseqModel {
    pub(super) model: ModelConfig,
    /// Tensors of the student and of a fine-tuned model's head.
    pub(super) student: Tensors,
    /// The teacher's own tensors; `None` in files without `_ema`.
    pub(super) teacher: Option<Tensors>,
}

/// Reads the `.pt` at `path`.
pub(super) fn open(path: &Path) -> Result<FairseqModel, ImportError> {
    let all = pickle::read_pickle_values(path, "cfg")?;
    let outer = Cfg {
        value: &all["model"],
        place: "cfg.model".to_owned(),
    };
    let inner = finetuned::pretrained(&outer)?;
    let cfg = inner.as_ref().unwrap_or(&outer);
    let name = cfg.text("_name")?;
    if !["data2vec_audio", "data2vec_text", "data2vec_multi"].contains(&name) {
        return Err(ImportError::OtherModel {
            path: path.to_owned(),
            name: match &inner {
                Some(_) => format!("{} around {name}", outer.text("_name")?),
                None => name.to_owned(),
            },
        });
    }
    let tensors = pickle::read_pickle(path, Some("model"))?;
    let (tensors, heads) = finetuned::take_heads(outer.text("_name")?, tensors)?;
    let (mut student, mut teacher) = (Tensors::new(), Tensors::new());
    for (name, tensor) in tensors {
        match name.split_once("_ema.") {
            Some(("" | "encoder.", rest)) => teacher.insert(rest.to_owned(), tensor),
            _ => student.insert(name, tensor),
        };
    }
    let has_teacher = !teacher.is_empty();
    let (mut student, teacher) = match name {
        "data2vec_multi" => (
            data2vec_v2::student(student)?,
            data2vec_v2::teacher(teacher),
        ),
        _ => (
            data2vec_v1::student(student)?,
            data2vec_v1::teacher(teacher),
        ),
    };
    let vocab_size = student
        .get("encoder.embed.tokens")
        .and_then(|table| table.shape().first().copied())
        .unwrap_or(0);
    let has_head = student.contains_key("lm_head.fc1.weight");
    let model = match name {
        "data2vec_audio" => v1_config(cfg, Some(v1_audio(cfg)?), None)?,
        "data2vec_text" => v1_config(cfg, None, Some(v1_text(cfg, vocab_size, has_head)?))?,
        _ => v2_config(cfg, vocab_size)?,
    };
    student.extend(heads);
    Ok(FairseqModel {
        model,
        student,
        teacher: has_teacher.then_some(teacher).transpose()?,
    })
}

fn v1_config(
    cfg: &Cfg<'_>,
    audio: Option<AudioConfig>,
    text: Option<TextConfig>,
) -> Result<ModelConfig, ImportError> {
    Ok(ModelConfig::Data2vec1(Data2Vec1Config {
        image: None,
        // The reference's text head has twice the width between its layers.
        head_hidden_dim: text.as_ref().map(|text| text.embed_dim.saturating_mul(2)),
        audio,
        text,
        targets: cfg.targets()?,
        loss_beta: cfg.number("loss_beta")?,
        loss_scale: None,
    }))
}

fn v1_audio(cfg: &Cfg<'_>) -> Result<AudioConfig, ImportError> {
    cfg.require_unset(&["layer_norm_first", "conv_bias"])?;
    cfg.require_text("activation_fn", "gelu")?;
    if cfg.text("extractor_mode")? != "layer_norm" {
        return cfg.refuse("extractor_mode");
    }
    let (conv_dim, conv_layers) = cfg.conv_layers("conv_feature_layers")?;
    let pos_conv_depth = cfg.size("pos_conv_depth")?;
    let embed_dim = cfg.size("encoder_embed_dim")?;
    Ok(AudioConfig {
        conv_dim,
        conv_layers,
        filter_bank: false,
        embed_dim,
        pos_conv_depth,
        pos_conv_kernel: (cfg.size("conv_pos")? / pos_conv_depth.max(1)).max(3),
        pos_conv_groups: cfg.size("conv_pos_groups")?,
        clear_padding: true,
        shared_pos_conv: cfg.is_set("ema_layers_only"),
        alibi: false,
        prenet_depth: 0,
        depth: cfg.size("encoder_layers")?,
        n_heads: cfg.size("encoder_attention_heads")?,
        mlp_ratio: cfg.number("encoder_ffn_embed_dim")? / embed_dim as f64,
        norm_eps: NORM_EPS,
        drop_prob: cfg.number("dropout")?,
        attention_drop_prob: cfg.number("attention_dropout")?,
        layer_drop_prob: cfg.number("encoder_layerdrop")?,
    })
}

fn v1_text(cfg: &Cfg<'_>, vocab_size: usize, has_head: bool) -> Result<TextConfig, ImportError> {
    let transformer = cfg.table("transformer");
    let encoder = transformer.table("encoder");
    encoder.require_unset(&["normalize_before"])?;
    transformer.require_text("activation_fn", "gelu")?;
    if transformer.value["no_scale_embedding"] == Value::Bool(false) {
        return transformer.refuse("no_scale_embedding");
    }
    // The released model has another head instead.
    if has_head && cfg.size("head_layers")? != 2 {
        return cfg.refuse("head_layers");
    }
    let embed_dim = encoder.size("embed_dim")?;
    Ok(TextConfig {
        vocab_size,
        pad_token: PAD,
        max_tokens: transformer.size("max_source_positions")?,
        alibi: false,
        embed_dim,
        depth: encoder.size("layers")?,
        n_heads: encoder.size("attention_heads")?,
        mlp_ratio: encoder.number("ffn_embed_dim")? / embed_dim as f64,
        norm_eps: NORM_EPS,
        drop_prob: transformer.number("dropout")?,
        attention_drop_prob: transformer.number("attention_dropout")?,
    })
}

fn v2_config(cfg: &Cfg<'_>, vocab_size: usize) -> Result<ModelConfig, ImportError> {
    cfg.require_unset(&["layer_norm_first", "end_of_block_targets"])?;
    // The name of an enum value, or `Modality.NAME`.
    let modality = cfg.text("supported_modality")?;
    let modality = modality
        .rsplit('.')
        .next()
        .unwrap_or(modality)
        .to_lowercase();
    let modalities = cfg.table("modalities");
    let encoder = modalities.table(&modality);
    let (mut image, mut audio, mut text) = (None, None, None);
    match &*modality {
        "image" => image = Some(v2_image(cfg, &encoder)?),
        "audio" => audio = Some(v2_audio(cfg, &encoder)?),
        "text" => text = Some(v2_text(cfg, &encoder, vocab_size)?),
        _ => return cfg.refuse("supported_modality"),
    }
    let cls_loss_weight = if image.is_some() {
        cfg.number("cls_loss")?
    } else {
        0.0
    };
    Ok(ModelConfig::Data2vec2(Data2Vec2Config {
        image,
        audio,
        text,
        decoder: decoder(&encoder.table("decoder"))?,
        targets: cfg.targets()?,
        loss_beta: cfg.number("loss_beta")?,
        loss_scale: None,
        noise_std: encoder.number("mask_noise_std")?,
        ema_local: false,
        cls_loss_weight,
        // fairseq sums over the batch of one GPU: this is the published Base's.
        cls_batch: if cls_loss_weight > 0.0 { 16 } else { 0 },
    }))
}

fn v2_image(cfg: &Cfg<'_>, encoder: &Cfg<'_>) -> Result<VitConfig, ImportError> {
    Ok(VitConfig {
        image_size: encoder.size("input_size")?,
        patch_size: encoder.size("patch_size")?,
        embed_dim: cfg.size("embed_dim")?,
        prenet_depth: encoder.size("prenet_depth")?,
        depth: cfg.size("depth")?,
        n_heads: cfg.size("num_heads")?,
        mlp_ratio: cfg.number("mlp_ratio")?,
        norm_eps: cfg.number("norm_eps")?,
    })
}

fn v2_audio(cfg: &Cfg<'_>, encoder: &Cfg<'_>) -> Result<AudioConfig, ImportError> {
    let (conv_dim, conv_layers) = encoder.conv_layers("feature_encoder_spec")?;
    let pos_conv_depth = encoder.size("conv_pos_depth")?;
    Ok(AudioConfig {
        conv_dim,
        conv_layers,
        filter_bank: false,
        embed_dim: cfg.size("embed_dim")?,
        pos_conv_depth,
        pos_conv_kernel: (encoder.size("conv_pos_width")? / pos_conv_depth.max(1)).max(3),
        pos_conv_groups: encoder.size("conv_pos_groups")?,
        clear_padding: false,
        shared_pos_conv: false,
        alibi: encoder.is_set("use_alibi_encoder"),
        prenet_depth: encoder.size("prenet_depth")?,
        depth: cfg.size("depth")?,
        n_heads: cfg.size("num_heads")?,
        mlp_ratio: cfg.number("mlp_ratio")?,
        norm_eps: cfg.number("norm_eps")?,
        drop_prob: cfg.number("encoder_dropout")?,
        attention_drop_prob: cfg.number("attention_dropout")?,
        layer_drop_prob: cfg.number("layerdrop")?,
    })
}

fn v2_text(cfg: &Cfg<'_>, encoder: &Cfg<'_>, vocab_size: usize) -> Result<TextConfig, ImportError> {
    if encoder.size("prenet_depth")? != 0 {
        return encoder.refuse("prenet_depth");
    }
    Ok(TextConfig {
        vocab_size,
        pad_token: PAD,
        max_tokens: encoder.size("max_source_positions")?,
        alibi: false,
        embed_dim: cfg.size("embed_dim")?,
        depth: cfg.size("depth")?,
        n_heads: cfg.size("num_heads")?,
        mlp_ratio: cfg.number("mlp_ratio")?,
        norm_eps: cfg.number("norm_eps")?,
        drop_prob: encoder.number("dropout")?,
        attention_drop_prob: cfg.number("attention_dropout")?,
    })
}

fn decoder(cfg: &Cfg<'_>) -> Result<DecoderConfig, ImportError> {
    let dim = cfg.size("decoder_dim")?;
    let proj_hidden_dim = match cfg.value["projection_layers"].as_u64() {
        None | Some(1) => None,
        Some(2) => Some((dim as f64 * cfg.number("projection_ratio")?) as usize),
        Some(_) => return cfg.refuse("projection_layers"),
    };
    Ok(DecoderConfig {
        n_layers: cfg.size("decoder_layers")?,
        dim,
        kernel: cfg.size("decoder_kernel")?,
        groups: cfg.size("decoder_groups")?,
        residual: cfg.value["decoder_residual"].as_bool().unwrap_or(true),
        proj_hidden_dim,
        input_drop_prob: cfg.number("input_dropout")?,
    })
}
