//! The options of a transformer block.

/// The options in which the blocks of the encoders differ.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Width, D.
    pub dim: usize,
    /// Attention heads; divides `dim`.
    pub n_heads: usize,
    /// Width of the hidden layer of the MLP.
    pub hidden_dim: usize,
    /// Added to the variance by the norms.
    pub norm_eps: f64,
    /// Norms before the branches (1.0 images) instead of after the residual sums (all others).
    pub norm_first: bool,
    /// A learned gain per channel at the end of each branch (LayerScale).
    pub layer_scale: bool,
    /// Separate biases for queries and values and none for keys, instead of one for all three.
    pub separate_qv_bias: bool,
    /// Patches per side, if each block has its own table of relative positions.
    pub rel_pos_grid: Option<usize>,
    /// Probability to drop a value of a branch's output in training.
    pub drop_prob: f64,
    /// Probability to drop an attention weight in training.
    pub attention_drop_prob: f64,
    /// Probability to drop a branch for a sample in training.
    pub drop_path_prob: f64,
}

impl BlockConfig {
    /// The block of all encoders but BEiT's: norms after the residual sums, no dropout.
    pub(crate) fn post_norm(dim: usize, n_heads: usize, mlp_ratio: f64, norm_eps: f64) -> Self {
        Self {
            dim,
            n_heads,
            hidden_dim: hidden_dim(dim, mlp_ratio),
            norm_eps,
            norm_first: false,
            layer_scale: false,
            separate_qv_bias: false,
            rel_pos_grid: None,
            drop_prob: 0.0,
            attention_drop_prob: 0.0,
            drop_path_prob: 0.0,
        }
    }
}

/// Width of the hidden layer of an MLP, rounded.
pub(crate) fn hidden_dim(embed_dim: usize, mlp_ratio: f64) -> usize {
    (embed_dim as f64 * mlp_ratio).round() as usize
}
