//! The reference's rule of each parameter, by name.

use super::rule::Rule;
use crate::model::{AudioConfig, BeitConfig, EncoderConfig, TextConfig, VitConfig};
use crate::objective::config::{Data2Vec2Config, ModelConfig};

/// Standard deviation of linear maps, embeddings and tokens.
const STD: f64 = 0.02;

/// Returns the rule of the parameter `name` of a student.
pub(super) fn of(name: &str, config: &ModelConfig) -> Rule {
    if let (ModelConfig::Data2vec2(config2), Some(name)) = (config, name.strip_prefix("decoder.")) {
        return decoder(name, config2, config.encoder());
    }
    match config.encoder() {
        EncoderConfig::Beit(config) => beit(name, config),
        EncoderConfig::Vit(config) => vit(name, config),
        EncoderConfig::Audio(config) => audio(name, config),
        EncoderConfig::Text(config) => text(name, config),
    }
}

/// Returns BEiT's rule, for the encoder and head of 1.0 on images.
fn beit(name: &str, config: &BeitConfig) -> Rule {
    let last = name.rsplit('.').next().unwrap_or(name);
    if last == "gamma_1" || last == "gamma_2" {
        return Rule::Constant(config.layer_scale);
    }
    if is_norm_gain(name) {
        return Rule::Constant(1.0);
    }
    if last.ends_with("bias") || last == "relative_position_bias_table" {
        return Rule::Constant(0.0);
    }
    // The output layers of deeper blocks' branches start smaller: 1 / √(2·block), counted from 1.
    let block = name
        .strip_prefix("encoder.blocks.")
        .filter(|_| name.ends_with("attn.proj.weight") || name.ends_with("mlp.fc2.weight"))
        .and_then(|rest| rest.split('.').next()?.parse::<f64>().ok());
    let scale = block.map_or(1.0, |block_idx| (2.0 * (block_idx + 1.0)).sqrt().recip());
    Rule::TruncNormal { std: STD, scale }
}

/// Returns fairseq's rule, for the encoder of 2.0 on images.
fn vit(name: &str, config: &VitConfig) -> Rule {
    let patch_values = 3 * config.patch_size.pow(2);
    match name {
        "encoder.cls_token" => Rule::Normal { std: 1.0 },
        // Xavier, over the flattened weight.
        "encoder.patch_embed.proj.weight" => Rule::Uniform {
            bound: (6.0 / (patch_values + config.embed_dim) as f64).sqrt(),
        },
        "encoder.patch_embed.proj.bias" => pytorch_default(patch_values),
        _ => transformer(name),
    }
}

/// Returns fairseq's rule, for the audio encoder and the head of 1.0; ours with `filter_bank`.
fn audio(name: &str, config: &AudioConfig) -> Rule {
    if let Some(layer) = name.strip_prefix("encoder.local.layers.")
        && let Some((layer_idx, "conv.weight")) = layer.split_once('.')
    {
        // Kaiming's normal initialisation for ReLU.
        let layer_idx = layer_idx.parse::<usize>().unwrap_or(0);
        let n_in = if layer_idx == 0 { 1 } else { config.conv_dim };
        let kernel = config
            .conv_layers
            .get(layer_idx)
            .map_or(1, |layer| layer[0]);
        let std = (2.0 / (n_in * kernel) as f64).sqrt();
        return match layer_idx {
            _ if !config.filter_bank => Rule::Normal { std },
            0 => Rule::Fourier,
            _ => Rule::LowPass { std },
        };
    }
    match name {
        "encoder.mask_emb" => Rule::Unit,
        "encoder.alibi_scale" => Rule::Constant(1.0),
        _ if name.starts_with("encoder.local.proj.") => pytorch_default(config.conv_dim),
        _ if name.starts_with("encoder.pos_conv.") => {
            pytorch_default(config.embed_dim / config.pos_conv_groups * config.pos_conv_kernel)
        }
        _ if name.starts_with("lm_head.") => pytorch_default(config.embed_dim),
        _ => transformer(name),
    }
}

/// Returns fairseq's rule, for the text encoder and the head of 1.0.
fn text(name: &str, config: &TextConfig) -> Rule {
    match name {
        "encoder.alibi_scale" => Rule::Constant(1.0),
        "encoder.embed.tokens" | "encoder.embed.positions" => Rule::Table {
            std: STD,
            zero_row: config.pad_token,
        },
        _ => transformer(name),
    }
}

/// Returns fairseq's rule, for the decoder of 2.0; `name` is without its prefix.
fn decoder(name: &str, config: &Data2Vec2Config, encoder: EncoderConfig<'_>) -> Rule {
    let decoder = &config.decoder;
    let n_dims = match encoder {
        EncoderConfig::Beit(_) | EncoderConfig::Vit(_) => 2,
        EncoderConfig::Audio(_) | EncoderConfig::Text(_) => 1,
    };
    let Some(layer) = name.strip_prefix("blocks.") else {
        // fairseq resets the projection of images and audio to PyTorch's default, but not that of text.
        return match encoder {
            EncoderConfig::Text(_) => transformer(name),
            _ => pytorch_default(decoder.dim),
        };
    };
    let n_in = if layer.starts_with("0.") {
        encoder.embed_dim()
    } else {
        decoder.dim
    };
    pytorch_default(n_in / decoder.groups * decoder.kernel.pow(n_dims))
}

/// Returns fairseq's rule for norms, linear maps and blocks of a transformer.
fn transformer(name: &str) -> Rule {
    if is_norm_gain(name) {
        Rule::Constant(1.0)
    } else if name.ends_with("bias") {
        Rule::Constant(0.0)
    } else {
        Rule::Normal { std: STD }
    }
}

/// Returns PyTorch's default for weight and bias of linear maps and convolutions.
fn pytorch_default(n_inputs: usize) -> Rule {
    Rule::Uniform {
        bound: (n_inputs as f64).sqrt().recip(),
    }
}

/// Returns whether `name` ends in `norm.weight`, `norm1.weight` or `norm2.weight`.
fn is_norm_gain(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    parts.next() == Some("weight") && parts.next().is_some_and(|part| part.starts_with("norm"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::config::tests::{all, tiny1, tiny2};

    fn check(config: &ModelConfig, expected: &[(&str, Rule)]) {
        for (name, expected) in expected {
            let (found, expected) = (of(name, config), *expected);
            match (found, expected) {
                (Rule::Uniform { bound: a }, Rule::Uniform { bound: b })
                | (Rule::Normal { std: a }, Rule::Normal { std: b }) => {
                    assert!((a - b).abs() < 1e-12, "{name}: {a} {b}");
                }
                _ => assert_eq!(found, expected, "{name}"),
            }
        }
    }

    const NORMAL: Rule = Rule::Normal { std: 0.02 };
    const ZERO: Rule = Rule::Constant(0.0);
    const ONE: Rule = Rule::Constant(1.0);

    /// PyTorch's default for `n` inputs.
    fn inputs(n: f64) -> Rule {
        Rule::Uniform {
            bound: (1.0 / n).sqrt(),
        }
    }

    #[test]
    fn rules_of_1_0_images_match_beit() {
        let truncated = |scale| Rule::TruncNormal { std: 0.02, scale };
        let expected = [
            ("encoder.cls_token", truncated(1.0)),
            ("encoder.mask_token", truncated(1.0)),
            ("encoder.patch_embed.proj.weight", truncated(1.0)),
            ("encoder.patch_embed.proj.bias", ZERO),
            ("encoder.rel_pos_bias.relative_position_bias_table", ZERO),
            ("encoder.blocks.0.gamma_1", Rule::Constant(1e-2)),
            ("encoder.blocks.0.norm2.weight", ONE),
            ("encoder.blocks.0.norm2.bias", ZERO),
            ("encoder.blocks.1.attn.qkv.weight", truncated(1.0)),
            ("encoder.blocks.1.attn.q_bias", ZERO),
            ("encoder.blocks.1.attn.proj.weight", truncated(0.5)),
            ("encoder.blocks.7.mlp.fc2.weight", truncated(0.25)),
            ("encoder.blocks.1.mlp.fc1.weight", truncated(1.0)),
            ("encoder.norm.weight", ONE),
            ("lm_head.weight", truncated(1.0)),
            ("lm_head.bias", ZERO),
        ];
        check(&tiny1(), &expected);
    }

    #[test]
    fn rules_of_2_0_images_match_fairseq() {
        let expected = [
            ("encoder.cls_token", Rule::Normal { std: 1.0 }),
            (
                "encoder.patch_embed.proj.weight",
                inputs((48.0 + 16.0) / 6.0),
            ),
            ("encoder.context.norm.weight", ONE),
            ("encoder.context.blocks.0.attn.qkv.weight", NORMAL),
            ("encoder.blocks.0.attn.qkv.bias", ZERO),
            ("encoder.blocks.0.norm1.bias", ZERO),
            // 3·4·4 values; 16 or 8 channels in 4 groups, 3 × 3; 8 channels.
            ("encoder.patch_embed.proj.bias", inputs(48.0)),
            ("decoder.blocks.0.weight", inputs(36.0)),
            ("decoder.blocks.0.bias", inputs(36.0)),
            ("decoder.blocks.1.weight", inputs(18.0)),
            ("decoder.proj.weight", inputs(8.0)),
            ("decoder.proj.bias", inputs(8.0)),
        ];
        check(&tiny2(), &expected);
    }

    #[test]
    fn rules_of_audio_match_fairseq() {
        let [_, _, audio1, audio2, _, _] = all();
        // A kernel of 10 on the waveform, then 8 channels and a kernel of 2; 16 channels in 4 groups
        // and a kernel of 5.
        let both = [
            (
                "encoder.local.layers.0.conv.weight",
                Rule::Normal {
                    std: 0.2_f64.sqrt(),
                },
            ),
            (
                "encoder.local.layers.1.conv.weight",
                Rule::Normal {
                    std: 0.125_f64.sqrt(),
                },
            ),
            ("encoder.local.layers.0.norm.weight", ONE),
            ("encoder.local.norm.weight", ONE),
            ("encoder.local.norm.bias", ZERO),
            ("encoder.local.proj.weight", inputs(8.0)),
            ("encoder.local.proj.bias", inputs(8.0)),
            ("encoder.pos_conv.1.weight", inputs(20.0)),
            ("encoder.pos_conv.1.bias", inputs(20.0)),
            ("encoder.context.norm.weight", ONE),
            ("encoder.blocks.0.attn.qkv.weight", NORMAL),
            ("encoder.blocks.0.attn.qkv.bias", ZERO),
            ("encoder.blocks.0.mlp.fc2.weight", NORMAL),
        ];
        check(&audio1, &both);
        check(&audio2, &both);
        let mut bank = audio2.clone();
        let ModelConfig::Data2vec2(config) = &mut bank else {
            unreachable!()
        };
        config.audio.as_mut().expect("audio").filter_bank = true;
        let rule = |layer| of(&format!("encoder.local.layers.{layer}.conv.weight"), &bank);
        assert_eq!(rule(0), Rule::Fourier);
        let std = 0.125_f64.sqrt();
        assert_eq!(rule(1), Rule::LowPass { std });
        let head = inputs(16.0);
        check(
            &audio1,
            &[
                ("encoder.mask_emb", Rule::Unit),
                ("lm_head.weight", head),
                ("lm_head.bias", head),
            ],
        );
        let decoder = [
            ("encoder.alibi_scale", ONE),
            // 16 or 8 channels in 4 groups, a kernel of 3; 8 channels.
            ("decoder.blocks.0.weight", inputs(12.0)),
            ("decoder.blocks.1.bias", inputs(6.0)),
            ("decoder.proj.weight", inputs(8.0)),
        ];
        check(&audio2, &decoder);
    }

    #[test]
    fn rules_of_text_match_fairseq() {
        let [_, _, _, _, text1, text2] = all();
        let table = Rule::Table {
            std: 0.02,
            zero_row: 1,
        };
        let both = [
            ("encoder.embed.tokens", table),
            ("encoder.embed.positions", table),
            ("encoder.embed.norm.weight", ONE),
            ("encoder.embed.norm.bias", ZERO),
            ("encoder.blocks.2.mlp.fc1.weight", NORMAL),
        ];
        check(&text1, &both);
        check(&text2, &both);
        check(
            &text1,
            &[("lm_head.fc1.weight", NORMAL), ("lm_head.fc2.bias", ZERO)],
        );
        let decoder = [
            ("decoder.blocks.0.weight", inputs(12.0)),
            ("decoder.proj.fc1.weight", NORMAL),
            ("decoder.proj.fc2.bias", ZERO),
        ];
        check(&text2, &decoder);
    }
}
