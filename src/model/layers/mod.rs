//! Layers of the encoders and heads.

pub(super) mod alibi;
pub(super) mod attention;
pub(super) mod block;
pub(super) mod block_config;
pub(super) mod conv;
pub(super) mod conv_stack;
pub(super) mod dropout;
pub(super) mod fused;
pub(super) mod linear;
pub(super) mod norm;
pub(super) mod parameter;
pub(super) mod patch_embed;
pub(super) mod position;
