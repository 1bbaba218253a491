//! Hugging Face's `Data2VecAudioModel` and `Data2VecAudioForCTC`.

use serde::Deserialize;

use crate::import::{ImportError, Name, Tensors, fused, rename};
use crate::model::AudioConfig;

/// What we need of a folder's `config.json`; it holds more.
#[derive(Debug, Clone, Deserialize)]
pub struct AudioFolder {
    /// Channels of the convolutions over the wave.
    pub conv_dim: Vec<usize>,
    /// Their kernels.
    pub conv_kernel: Vec<usize>,
    /// Their strides.
    pub conv_stride: Vec<usize>,
    /// Whether they have biases.
    pub conv_bias: bool,
    /// Their activation.
    pub feat_extract_activation: String,
    /// Convolutions that give positions.
    pub num_conv_pos_embeddings: usize,
    /// Their kernel.
    pub conv_pos_kernel_size: usize,
    /// Their groups.
    pub num_conv_pos_embedding_groups: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// The activation of the MLP.
    pub hidden_act: String,
    /// Added to the variance by the norms.
    pub layer_norm_eps: f64,
    /// Probability to drop what a branch adds.
    pub hidden_dropout: f64,
    /// Probability to drop an attention weight.
    pub attention_dropout: f64,
    /// Probability to leave out a block.
    pub layerdrop: f64,
    /// Convolutions behind the encoder, which data2vec's own models lack.
    pub add_adapter: bool,
}

impl AudioFolder {
    /// Our encoder of the same size.
    pub fn encoder(&self) -> Result<AudioConfig, ImportError> {
        let Some(&conv_dim) = self.conv_dim.first() else {
            return Err(ImportError::Unsupported("conv_dim without an entry"));
        };
        let n_layers = self.conv_dim.len();
        if self.conv_kernel.len() != n_layers || self.conv_stride.len() != n_layers {
            return Err(ImportError::Unsupported(
                "conv_kernel or conv_stride of another length than conv_dim",
            ));
        }
        if self.conv_dim.iter().any(|&dim| dim != conv_dim) {
            return Err(ImportError::Unsupported("conv_dim with unequal entries"));
        }
        if self.conv_bias {
            return Err(ImportError::Unsupported("conv_bias"));
        }
        if self.hidden_act != "gelu" || self.feat_extract_activation != "gelu" {
            return Err(ImportError::Unsupported("an activation other than gelu"));
        }
        if self.add_adapter {
            return Err(ImportError::Unsupported("add_adapter"));
        }
        let layers = self.conv_kernel.iter().zip(&self.conv_stride);
        Ok(AudioConfig {
            conv_dim,
            conv_layers: layers.map(|(&kernel, &stride)| [kernel, stride]).collect(),
            embed_dim: self.hidden_size,
            pos_conv_depth: self.num_conv_pos_embeddings,
            pos_conv_kernel: self.conv_pos_kernel_size,
            pos_conv_groups: self.num_conv_pos_embedding_groups,
            clear_padding: true,
            shared_pos_conv: true,
            alibi: false,
            prenet_depth: 0,
            depth: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            mlp_ratio: self.intermediate_size as f64 / self.hidden_size as f64,
            norm_eps: self.layer_norm_eps,
            drop_prob: self.hidden_dropout,
            attention_drop_prob: self.attention_dropout,
            layer_drop_prob: self.layerdrop,
        })
    }
}

/// All tensors of a bare model or one for CTC under our names: the encoder's below `encoder.`, the
/// letters' below `ctc.`.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    fused::join(rename(tensors, our_name)?)
}

/// Our name, or the passing name of a part of the fused matrix.
fn our_name(theirs: &str) -> Option<Name> {
    let name = theirs.strip_prefix("data2vec_audio.").unwrap_or(theirs);
    let ours = if let Some(rest) = name.strip_prefix("feature_extractor.conv_layers.") {
        let (layer, rest) = rest.split_once('.')?;
        let rest = match rest {
            "conv.weight" => rest,
            _ => &format!("norm.{}", rest.strip_prefix("layer_norm.")?),
        };
        format!("encoder.local.layers.{layer}.{rest}")
    } else if let Some(rest) = name.strip_prefix("feature_projection.layer_norm.") {
        format!("encoder.local.norm.{rest}")
    } else if let Some(rest) = name.strip_prefix("feature_projection.projection.") {
        format!("encoder.local.proj.{rest}")
    } else if name == "masked_spec_embed" {
        "encoder.mask_emb".to_owned()
    } else if let Some(rest) = name.strip_prefix("encoder.pos_conv_embed.layers.") {
        let (layer, rest) = rest.split_once(".conv.")?;
        format!("encoder.pos_conv.{layer}.{rest}")
    } else if let Some(rest) = name.strip_prefix("encoder.layer_norm.") {
        format!("encoder.context.norm.{rest}")
    } else if let Some(rest) = name.strip_prefix("encoder.layers.") {
        let (block, rest) = rest.split_once('.')?;
        format!("encoder.blocks.{block}.{}", our_name_in_block(rest)?)
    } else {
        format!("ctc.{}", name.strip_prefix("lm_head.")?)
    };
    Some(Name::Ours(ours))
}

fn our_name_in_block(name: &str) -> Option<String> {
    let prefixes = [
        ("attention.q_proj.", "attn.qkv.query."),
        ("attention.k_proj.", "attn.qkv.key."),
        ("attention.v_proj.", "attn.qkv.value."),
        ("attention.out_proj.", "attn.proj."),
        ("layer_norm.", "norm1."),
        ("feed_forward.intermediate_dense.", "mlp.fc1."),
        ("feed_forward.output_dense.", "mlp.fc2."),
        ("final_layer_norm.", "norm2."),
    ];
    prefixes
        .iter()
        .find_map(|(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?)))
}
