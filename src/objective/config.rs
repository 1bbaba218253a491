//! The table `[model]`: the method, its encoder and their options.

#[cfg(test)]
pub(crate) mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    AudioConfig, BeitConfig, Check, DecoderConfig, EncoderConfig, MOST_WIDTH, Norm, TextConfig,
    VitConfig,
};

/// The model and its objective: the table `[model]`, which holds one method's table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelConfig {
    /// data2vec 1.0 (Baevski et al. 2022).
    Data2vec1(Data2Vec1Config),
    /// data2vec 2.0 (Baevski et al. 2023).
    Data2vec2(Data2Vec2Config),
}

/// data2vec 1.0: the table `[model.data2vec1]`, which holds one encoder: `image`, `audio` or
/// `text`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data2Vec1Config {
    /// The image encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<BeitConfig>,
    /// The audio encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioConfig>,
    /// The text encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// Hidden width of the prediction head, 1536 for text; if absent, the head is one linear map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_hidden_dim: Option<usize>,
    /// The targets that the student predicts.
    pub targets: TargetConfig,
    /// Error at which smooth-L1 turns from quadratic to linear, 0 for squared error; 2 for images,
    /// 0 for audio, 4 for text.
    pub loss_beta: f64,
    /// Factor of the loss of a position, which is a sum over D; without it 1/D for images, 1/√D for
    /// audio, 1 for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
}

/// data2vec 2.0: the table `[model.data2vec2]`, which holds one encoder: `image`, `audio` or
/// `text`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data2Vec2Config {
    /// The image encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<VitConfig>,
    /// The audio encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioConfig>,
    /// The text encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// The decoder, which turns the student's output into predictions.
    pub decoder: DecoderConfig,
    /// The targets that the student predicts.
    pub targets: TargetConfig,
    /// Error at which smooth-L1 turns from quadratic to linear, 0 for squared error; 4 in one of
    /// the two released runs of text L, else 0.
    #[serde(default)]
    pub loss_beta: f64,
    /// Factor of the losses of a position and of a class token, which are sums over D; without it
    /// 1/√D for images and audio, 1 for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Standard deviation of the noise that fills the decoder's masked positions; 0.01 in the code.
    pub noise_std: f64,
    /// Whether a teacher of audio or text averages the layers that give local features (convolutions
    /// over the waveform, embedding) instead of using its student's. False in the published configs.
    /// A teacher of images always averages them.
    #[serde(default)]
    pub ema_local: bool,
    /// Weight of the class token's loss, 0 for none; 0.01 in the code. Only for images.
    #[serde(default)]
    pub cls_loss_weight: f64,
    /// Images per GPU of the published run, whose class-token loss is a sum over one GPU: 16 for B,
    /// 8 for L and H. The loss is scaled to that batch, whatever the real one is.
    #[serde(default)]
    pub cls_batch: usize,
}

/// The targets: the average output of some of the teacher's blocks, which either `top_k` or `blocks`
/// selects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Number of last blocks to average, K; in 1.0 6 for images, 8 for audio, 10 for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Indices of the blocks to average, the first block is 0, instead of the last `top_k`. A block
    /// that is listed twice counts twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    /// Output of each block to average; without it `block` for 1.0 images, `mlp` for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<TargetOutput>,
    /// Normalisation of each block's output.
    pub each: Norm,
    /// Normalisation of the average.
    pub average: Norm,
}

/// The output of a teacher's block that enters the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetOutput {
    /// Output of the MLP, before the residual sum.
    Mlp,
    /// Output of the block, after its last residual sum and norm.
    Block,
}

impl TargetConfig {
    /// Returns the indices of the blocks to average, for a teacher of `depth` blocks.
    pub fn block_indices(&self, depth: usize) -> Vec<usize> {
        match (&self.blocks, self.top_k) {
            (Some(blocks), _) => blocks.clone(),
            (None, top_k) => (depth.saturating_sub(top_k.unwrap_or(0))..depth).collect(),
        }
    }

    /// Returns a message for each invalid option, without the table's name.
    fn problems(&self, depth: usize) -> Vec<String> {
        let mut check = Check::default();
        match (self.top_k, &self.blocks) {
            (Some(top_k), None) => check.require((1..=depth).contains(&top_k), || {
                format!("top_k {top_k} is not in 1–{depth} (depth)")
            }),
            (None, Some(blocks)) => check.require(
                !blocks.is_empty() && blocks.iter().all(|&block| block < depth),
                || format!("blocks {blocks:?} are not all below {depth} (depth), one at least"),
            ),
            _ => check.require(false, || "give either top_k or blocks".to_owned()),
        }
        check.problems
    }
}

impl ModelConfig {
    /// The options of the encoder.
    ///
    /// # Panics
    ///
    /// If there is none: call [`Self::problems`] first.
    pub fn encoder(&self) -> EncoderConfig<'_> {
        let encoders = self.encoders();
        *encoders.first().expect("a config that has no problems")
    }

    /// The options of every encoder of the config; other than one is a problem.
    fn encoders(&self) -> Vec<EncoderConfig<'_>> {
        let (image, audio, text) = match self {
            Self::Data2vec1(config) => (
                config.image.as_ref().map(EncoderConfig::Beit),
                &config.audio,
                &config.text,
            ),
            Self::Data2vec2(config) => (
                config.image.as_ref().map(EncoderConfig::Vit),
                &config.audio,
                &config.text,
            ),
        };
        let audio = audio.as_ref().map(EncoderConfig::Audio);
        let text = text.as_ref().map(EncoderConfig::Text);
        [image, audio, text].into_iter().flatten().collect()
    }

    /// The options of the targets.
    pub fn targets(&self) -> &TargetConfig {
        match self {
            Self::Data2vec1(config) => &config.targets,
            Self::Data2vec2(config) => &config.targets,
        }
    }

    /// The output of a teacher's block that enters the targets.
    pub fn target_output(&self) -> TargetOutput {
        let default = match self.encoder() {
            EncoderConfig::Beit(_) => TargetOutput::Block,
            _ => TargetOutput::Mlp,
        };
        self.targets().output.unwrap_or(default)
    }

    /// Error at which smooth-L1 turns from quadratic to linear; 0 for squared error.
    pub fn loss_beta(&self) -> f64 {
        match self {
            Self::Data2vec1(config) => config.loss_beta,
            Self::Data2vec2(config) => config.loss_beta,
        }
    }

    /// The factor of the loss of a position, which is a sum over D.
    pub fn loss_scale(&self) -> f64 {
        let dim = self.encoder().embed_dim() as f64;
        let scale = match self {
            Self::Data2vec1(config) => config.loss_scale,
            Self::Data2vec2(config) => config.loss_scale,
        };
        scale.unwrap_or_else(|| match self.encoder() {
            EncoderConfig::Beit(_) => dim.recip(),
            EncoderConfig::Vit(_) | EncoderConfig::Audio(_) => dim.sqrt().recip(),
            EncoderConfig::Text(_) => 1.0,
        })
    }

    /// Returns whether a teacher uses its student's local features.
    pub fn shares_local(&self) -> bool {
        match (self, self.encoder()) {
            (_, EncoderConfig::Beit(_) | EncoderConfig::Vit(_)) => false,
            (Self::Data2vec1(_), encoder) => matches!(encoder, EncoderConfig::Audio(_)),
            (Self::Data2vec2(config), _) => !config.ema_local,
        }
    }

    /// Side of the square image, in pixels; none for audio and text.
    pub fn image_size(&self) -> Option<usize> {
        match self.encoder() {
            EncoderConfig::Beit(config) => Some(config.image_size),
            EncoderConfig::Vit(config) => Some(config.image_size),
            EncoderConfig::Audio(_) | EncoderConfig::Text(_) => None,
        }
    }

    /// Number of patches per side; none for audio and text.
    pub fn grid(&self) -> Option<usize> {
        match self.encoder() {
            EncoderConfig::Beit(config) => Some(config.grid()),
            EncoderConfig::Vit(config) => Some(config.grid()),
            EncoderConfig::Audio(_) | EncoderConfig::Text(_) => None,
        }
    }

    /// Returns a message for each invalid option, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let method = match self {
            Self::Data2vec1(_) => "data2vec1",
            Self::Data2vec2(_) => "data2vec2",
        };
        let [encoder] = self.encoders()[..] else {
            return vec![format!(
                "model.{method}: needs one of the tables image, audio and text, has {}",
                self.encoders().len()
            )];
        };
        let with_key = |table: &str, problems: Vec<String>| {
            let table = format!("model.{method}{table}");
            problems
                .into_iter()
                .map(move |problem| format!("{table}: {problem}"))
                .collect::<Vec<_>>()
        };
        let mut problems = with_key(&format!(".{}", encoder.table()), encoder.problems());

        problems.extend(with_key(
            ".targets",
            self.targets().problems(encoder.depth()),
        ));

        let mut check = Check::default();
        let beta = self.loss_beta();
        check.require(beta >= 0.0, || format!("loss_beta {beta} is negative"));
        let scale = self.loss_scale();
        check.require(scale > 0.0, || {
            format!("loss_scale {scale} is not positive")
        });
        match self {
            Self::Data2vec1(config) => {
                check.require(config.head_hidden_dim != Some(0), || {
                    "head_hidden_dim is 0; remove it for a linear head".to_owned()
                });
                check.at_most(
                    "head_hidden_dim",
                    config.head_hidden_dim.unwrap_or(0),
                    MOST_WIDTH,
                );
            }
            Self::Data2vec2(config) => {
                check.require(config.noise_std >= 0.0, || {
                    format!("noise_std {} is negative", config.noise_std)
                });
                check.require(config.cls_loss_weight >= 0.0, || {
                    format!("cls_loss_weight {} is negative", config.cls_loss_weight)
                });
                if config.cls_loss_weight > 0.0 {
                    check.require(config.image.is_some(), || {
                        "cls_loss_weight is only for images: audio and text have no class token"
                            .to_owned()
                    });
                    check.positive("cls_batch", config.cls_batch);
                    check.at_most("cls_batch", config.cls_batch, MOST_WIDTH);
                }
                problems.extend(with_key(
                    ".decoder",
                    config
                        .decoder
                        .problems(encoder.embed_dim(), config.image.is_some()),
                ));
            }
        }
        problems.extend(with_key("", check.problems));
        problems
    }
}
