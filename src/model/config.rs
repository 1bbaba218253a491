//! The table `[model]` of a recipe: which method, and how large.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model and its objective: the table `[model]`, which holds one of these tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelConfig {
    /// data2vec 1.0 (Baevski et al. 2022).
    Data2vec1(Data2Vec1Config),
    /// data2vec 2.0 (Baevski et al. 2023).
    Data2vec2(Data2Vec2Config),
}

/// data2vec 1.0 on images: the table `[model.data2vec1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data2Vec1Config {
    /// The encoder.
    pub image: Vit1Config,
    /// What the student predicts.
    pub targets: TargetConfig,
    /// Error at which smooth-L1 turns from quadratic to linear; 2 in the paper.
    pub loss_beta: f64,
}

/// data2vec 2.0 on images: the table `[model.data2vec2]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data2Vec2Config {
    /// The encoder.
    pub image: Vit2Config,
    /// What turns the student's tokens into predictions.
    pub decoder: DecoderConfig,
    /// What the student predicts.
    pub targets: TargetConfig,
    /// Standard deviation of the noise that fills the decoder's masked positions; 0.01 in the code.
    pub noise_std: f64,
    /// Weight of the class token's loss; 0.01 in the code, 0 for none.
    pub cls_loss_weight: f64,
    /// Pictures per GPU of the published run, whose class-token loss is a sum over its own GPU:
    /// 16 for B, 8 for L and H. Here the loss is scaled to that batch whatever the real one is.
    pub cls_batch: usize,
}

/// BEiT's ViT, the encoder of data2vec 1.0: the table `[model.data2vec1.image]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vit1Config {
    /// Side of the square picture, in pixels; 224.
    pub image_size: usize,
    /// Side of a patch, in pixels; 16.
    pub patch_size: usize,
    /// Width; 768 for B, 1024 for L.
    pub embed_dim: usize,
    /// Blocks; 12 for B, 24 for L.
    pub depth: usize,
    /// Attention heads; 12 for B, 16 for L.
    pub n_heads: usize,
    /// Width of the MLP over `embed_dim`; 4.
    pub mlp_ratio: f64,
    /// Added to the variance by the norms; 1e-6.
    pub norm_eps: f64,
    /// `LayerScale`'s gains at the start; 1e-4 for B, 1e-5 for L.
    pub layer_scale: f64,
    /// Whose the tables of relative positions are; one for all blocks in pre-training.
    pub relative_position: RelativePosition,
    /// Probability to drop a branch of the last block for a sample; it grows linearly from 0 at
    /// the first. 0.25 for B, 0.2 for L.
    pub drop_path_prob: f64,
    /// Probability to drop an attention weight; 0.05 for B, 0.15 for L.
    pub attention_drop_prob: f64,
}

/// Whose the tables of relative positions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelativePosition {
    /// One table for all blocks.
    Shared,
    /// One table per block (models fine-tuned by the reference code).
    PerLayer,
}

/// The encoder of data2vec 2.0 for images: the table `[model.data2vec2.image]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vit2Config {
    /// Side of the square picture, in pixels; 224.
    pub image_size: usize,
    /// Side of a patch, in pixels; 16, 14 for H/14.
    pub patch_size: usize,
    /// Width; 768 for B, 1024 for L, 1280 for H.
    pub embed_dim: usize,
    /// Blocks before those that give targets; 2 for B, none for L and H.
    pub prenet_depth: usize,
    /// Blocks that give targets; 10 for B, 24 for L, 32 for H.
    pub depth: usize,
    /// Attention heads; 12 for B, 16 for L and H.
    pub n_heads: usize,
    /// Width of the MLP over `embed_dim`; 4.
    pub mlp_ratio: f64,
    /// Added to the variance by the norms; 1e-6.
    pub norm_eps: f64,
}

/// The convolutional decoder: the table `[model.data2vec2.decoder]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Convolutions; 6 for B, 3 for L and H.
    pub n_layers: usize,
    /// Channels; 768 for B, 1024 for L and H.
    pub dim: usize,
    /// Side of the kernel, in patches, odd; 3 for B, 5 for L and H.
    pub kernel: usize,
    /// Groups of channels; 16.
    pub groups: usize,
}

/// What the student predicts: outputs of the teacher's last blocks, averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Blocks averaged, counted from the last, K; 6 for 1.0 images, 10, 18 and 24 for 2.0's B, L
    /// and H.
    pub top_k: usize,
    /// Normalisation of each block's output; `layer` for 1.0 images, `instance` for 2.0.
    pub each: Norm,
    /// Normalisation of the average; `layer` for images.
    pub average: Norm,
}

/// A normalisation without gain and bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// As it is.
    None,
    /// Each token over its channels.
    Layer,
    /// Each channel over the sample's tokens.
    Instance,
}

impl ModelConfig {
    /// Side of the square picture, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Data2vec1(config) => config.image.image_size,
            Self::Data2vec2(config) => config.image.image_size,
        }
    }

    /// Patches per side.
    pub fn grid(&self) -> usize {
        match self {
            Self::Data2vec1(config) => config.image.grid(),
            Self::Data2vec2(config) => config.image.grid(),
        }
    }

    /// Everything that keeps the model from being built, each as one sentence with its key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let (table, image_size, patch_size, embed_dim, depth, n_heads, targets) = match self {
            Self::Data2vec1(Data2Vec1Config {
                image: i, targets, ..
            }) => (
                "data2vec1",
                i.image_size,
                i.patch_size,
                i.embed_dim,
                i.depth,
                i.n_heads,
                targets,
            ),
            Self::Data2vec2(Data2Vec2Config {
                image: i, targets, ..
            }) => (
                "data2vec2",
                i.image_size,
                i.patch_size,
                i.embed_dim,
                i.depth,
                i.n_heads,
                targets,
            ),
        };
        let divides =
            |part: usize, whole: usize| part > 0 && whole > 0 && whole.is_multiple_of(part);
        require(
            divides(patch_size, image_size),
            format!(
                "model.{table}.image: patch_size {patch_size} does not divide image_size {image_size}"
            ),
        );
        require(
            divides(n_heads, embed_dim),
            format!("model.{table}.image: n_heads {n_heads} does not divide embed_dim {embed_dim}"),
        );
        require(
            (1..=depth).contains(&targets.top_k),
            format!(
                "model.{table}.targets: top_k {} is not in 1–{depth} (depth)",
                targets.top_k
            ),
        );
        match self {
            Self::Data2vec1(config) => {
                let vit = &config.image;
                for (key, prob) in [
                    ("drop_path_prob", vit.drop_path_prob),
                    ("attention_drop_prob", vit.attention_drop_prob),
                ] {
                    require(
                        (0.0..1.0).contains(&prob),
                        format!("model.{table}.image: {key} {prob} is not in [0, 1)"),
                    );
                }
                require(
                    config.loss_beta > 0.0,
                    format!(
                        "model.{table}: loss_beta {} is not positive",
                        config.loss_beta
                    ),
                );
            }
            Self::Data2vec2(config) => {
                require(
                    embed_dim.is_multiple_of(4),
                    format!(
                        "model.{table}.image: embed_dim {embed_dim} is not a multiple of 4, as the \
                         sin-cos positions need"
                    ),
                );
                let DecoderConfig {
                    n_layers,
                    dim,
                    kernel,
                    groups,
                } = config.decoder;
                require(
                    n_layers > 0,
                    format!("model.{table}.decoder: n_layers is 0"),
                );
                require(
                    kernel % 2 == 1,
                    format!("model.{table}.decoder: kernel {kernel} is not odd"),
                );
                require(
                    divides(groups, dim) && divides(groups, embed_dim),
                    format!(
                        "model.{table}.decoder: groups {groups} does not divide dim {dim} and \
                         embed_dim {embed_dim}"
                    ),
                );
                require(
                    config.cls_batch > 0,
                    format!("model.{table}: cls_batch is 0"),
                );
            }
        }
        problems
    }
}

impl Vit1Config {
    /// Patches per side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

impl Vit2Config {
    /// Patches per side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

/// Width between the layers of an MLP.
pub(super) fn hidden_dim(embed_dim: usize, mlp_ratio: f64) -> usize {
    (embed_dim as f64 * mlp_ratio).round() as usize
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A data2vec 1.0 model of a picture's 4 × 4 patches.
    pub(crate) fn tiny1() -> ModelConfig {
        ModelConfig::Data2vec1(Data2Vec1Config {
            image: Vit1Config {
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
            },
            targets: TargetConfig {
                top_k: 2,
                each: Norm::Layer,
                average: Norm::Layer,
            },
            loss_beta: 2.0,
        })
    }

    /// A data2vec 2.0 model of a picture's 4 × 4 patches.
    pub(crate) fn tiny2() -> ModelConfig {
        ModelConfig::Data2vec2(Data2Vec2Config {
            image: Vit2Config {
                image_size: 16,
                patch_size: 4,
                embed_dim: 16,
                prenet_depth: 1,
                depth: 2,
                n_heads: 2,
                mlp_ratio: 4.0,
                norm_eps: 1e-6,
            },
            decoder: DecoderConfig {
                n_layers: 2,
                dim: 8,
                kernel: 3,
                groups: 4,
            },
            targets: TargetConfig {
                top_k: 2,
                each: Norm::Instance,
                average: Norm::Layer,
            },
            noise_std: 0.01,
            cls_loss_weight: 0.01,
            cls_batch: 16,
        })
    }

    #[test]
    fn all_problems_are_told_at_once() {
        assert_eq!(tiny1().problems(), [""; 0]);
        assert_eq!(tiny2().problems(), [""; 0]);
        let ModelConfig::Data2vec2(mut config) = tiny2() else {
            unreachable!()
        };
        config.image.patch_size = 5;
        config.decoder.kernel = 4;
        config.targets.top_k = 3;
        let problems = ModelConfig::Data2vec2(config).problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("patch_size 5 does not divide image_size 16"));
        assert!(problems[1].contains("top_k 3 is not in 1–2"));
        assert!(problems[2].contains("kernel 4 is not odd"));
    }
}
