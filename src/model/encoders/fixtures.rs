//! Tiny encoders for tests.

use super::config::{AudioConfig, BeitConfig, RelativePosition, TextConfig, VitConfig};

/// An encoder of an image's 4 × 4 patches.
pub(crate) fn tiny_beit() -> BeitConfig {
    BeitConfig {
        image_size: 16,
        patch_size: 4,
        embed_dim: 16,
        depth: 3,
        n_heads: 2,
        mlp_ratio: 4.0,
        norm_eps: 1e-6,
        layer_scale: 1e-2,
        relative_position: RelativePosition::Shared,
        drop_path_prob: 0.0,
        attention_drop_prob: 0.0,
    }
}

/// An encoder of an image's 4 × 4 patches.
pub(crate) fn tiny_vit() -> VitConfig {
    VitConfig {
        image_size: 16,
        patch_size: 4,
        embed_dim: 16,
        prenet_depth: 1,
        depth: 2,
        n_heads: 2,
        mlp_ratio: 4.0,
        norm_eps: 1e-6,
    }
}

/// An encoder with 16 positions for a waveform of 103 frames.
pub(crate) fn tiny_audio() -> AudioConfig {
    AudioConfig {
        conv_dim: 8,
        conv_layers: vec![[10, 3], [2, 2]],
        filter_bank: false,
        embed_dim: 16,
        pos_conv_depth: 2,
        pos_conv_kernel: 5,
        pos_conv_groups: 4,
        clear_padding: true,
        shared_pos_conv: true,
        alibi: false,
        prenet_depth: 0,
        depth: 3,
        n_heads: 2,
        mlp_ratio: 4.0,
        norm_eps: 1e-5,
        drop_prob: 0.0,
        attention_drop_prob: 0.0,
        layer_drop_prob: 0.0,
    }
}

/// An encoder of at most 16 tokens.
pub(crate) fn tiny_text() -> TextConfig {
    TextConfig {
        vocab_size: 40,
        pad_token: 1,
        max_tokens: 16,
        alibi: false,
        embed_dim: 16,
        depth: 3,
        n_heads: 2,
        mlp_ratio: 4.0,
        norm_eps: 1e-5,
        drop_prob: 0.0,
        attention_drop_prob: 0.0,
    }
}
