//! The table `[model]` of a recipe: which method, on what, and how large.

#[cfg(test)]
pub(crate) mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    AudioConfig, BeitConfig, Check, DecoderConfig, EncoderConfig, Norm, TextConfig, VitConfig,
};

/// The model and its objective: the table `[model]`, which holds one of these tables.
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
    /// The encoder of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<BeitConfig>,
    /// The encoder of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioConfig>,
    /// The encoder of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// Width between the prediction head's two layers, 1536 for text; without it the head is one
    /// linear map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_hidden_dim: Option<usize>,
    /// What the student predicts.
    pub targets: TargetConfig,
    /// Error at which smooth-L1 turns from quadratic to linear, 0 for squared error; 2 for images,
    /// 0 for audio, 4 for text.
    pub loss_beta: f64,
}

/// data2vec 2.0: the table `[model.data2vec2]`, which holds one encoder: `image`, `audio` or
/// `text`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data2Vec2Config {
    /// The encoder of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<VitConfig>,
    /// The encoder of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioConfig>,
    /// The encoder of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// What turns the student's tokens into predictions.
    pub decoder: DecoderConfig,
    /// What the student predicts.
    pub targets: TargetConfig,
    /// Error at which smooth-L1 turns from quadratic to linear, 0 for squared error; 4 in one of
    /// the two released runs of text L, else 0.
    #[serde(default)]
    pub loss_beta: f64,
    /// Standard deviation of the noise that fills the decoder's masked positions; 0.01 in the code.
    pub noise_std: f64,
    /// Whether the teacher of audio or text has local features (convolutions over the wave,
    /// embedding) of its own, an average like the rest of it; images always. In the published
    /// recipes it takes its student's.
    #[serde(default)]
    pub ema_local: bool,
    /// Weight of the class token's loss, 0 for none; 0.01 in the code. Images alone.
    #[serde(default)]
    pub cls_loss_weight: f64,
    /// Pictures per GPU of the published run, whose class-token loss is a sum over its own GPU:
    /// 16 for B, 8 for L and H. Here the loss is scaled to that batch whatever the real one is.
    #[serde(default)]
    pub cls_batch: usize,
}

/// What the student predicts: outputs of the teacher's last blocks, averaged. For 1.0 images the
/// outputs are the blocks', for all others those of their MLPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Blocks averaged, counted from the last, K; in 1.0 6 for images, 8 for audio, 10 for text.
    pub top_k: usize,
    /// Normalisation of each block's output.
    pub each: Norm,
    /// Normalisation of the average.
    pub average: Norm,
}

impl ModelConfig {
    /// The encoder.
    ///
    /// # Panics
    ///
    /// If there is none: [`Self::problems`] comes first.
    pub fn encoder(&self) -> EncoderConfig<'_> {
        let encoders = self.encoders();
        *encoders.first().expect("a config that has no problems")
    }

    /// Every encoder that is given; more than one is a problem.
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

    /// What the student predicts.
    pub fn targets(&self) -> TargetConfig {
        match self {
            Self::Data2vec1(config) => config.targets,
            Self::Data2vec2(config) => config.targets,
        }
    }

    /// Error at which smooth-L1 turns from quadratic to linear; 0 for squared error.
    pub fn loss_beta(&self) -> f64 {
        match self {
            Self::Data2vec1(config) => config.loss_beta,
            Self::Data2vec2(config) => config.loss_beta,
        }
    }

    /// What the sum over D of a position's errors is multiplied by.
    pub fn loss_scale(&self) -> f64 {
        let dim = self.encoder().embed_dim() as f64;
        match self.encoder() {
            EncoderConfig::Beit(_) => dim.recip(),
            EncoderConfig::Vit(_) | EncoderConfig::Audio(_) => dim.sqrt().recip(),
            EncoderConfig::Text(_) => 1.0,
        }
    }

    /// Whether a teacher takes its student's local features.
    pub fn shares_local(&self) -> bool {
        match (self, self.encoder()) {
            (_, EncoderConfig::Beit(_) | EncoderConfig::Vit(_)) => false,
            (Self::Data2vec1(_), encoder) => matches!(encoder, EncoderConfig::Audio(_)),
            (Self::Data2vec2(config), _) => !config.ema_local,
        }
    }

    /// Side of the square picture, in pixels; none for other media.
    pub fn image_size(&self) -> Option<usize> {
        match self.encoder() {
            EncoderConfig::Beit(config) => Some(config.image_size),
            EncoderConfig::Vit(config) => Some(config.image_size),
            EncoderConfig::Audio(_) | EncoderConfig::Text(_) => None,
        }
    }

    /// Patches per side; none for other media.
    pub fn grid(&self) -> Option<usize> {
        match self.encoder() {
            EncoderConfig::Beit(config) => Some(config.grid()),
            EncoderConfig::Vit(config) => Some(config.grid()),
            EncoderConfig::Audio(_) | EncoderConfig::Text(_) => None,
        }
    }

    /// Everything that keeps the model from being built, each as one sentence with its key.
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
        let told = |table: &str, problems: Vec<String>| {
            let place = format!("model.{method}{table}");
            problems
                .into_iter()
                .map(move |problem| format!("{place}: {problem}"))
                .collect::<Vec<_>>()
        };
        let mut problems = told(&format!(".{}", encoder.table()), encoder.problems());

        let mut check = Check::default();
        let (top_k, depth) = (self.targets().top_k, encoder.depth());
        check.require((1..=depth).contains(&top_k), || {
            format!("top_k {top_k} is not in 1–{depth} (depth)")
        });
        problems.extend(told(".targets", check.problems));

        let mut check = Check::default();
        let beta = self.loss_beta();
        check.require(beta >= 0.0, || format!("loss_beta {beta} is negative"));
        match self {
            Self::Data2vec1(config) => {
                check.require(config.head_hidden_dim != Some(0), || {
                    "head_hidden_dim is 0; leave it out for a linear head".to_owned()
                });
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
                        "cls_loss_weight is for images: others have no class token".to_owned()
                    });
                    check.positive("cls_batch", config.cls_batch);
                }
                problems.extend(told(
                    ".decoder",
                    config.decoder.problems(encoder.embed_dim()),
                ));
            }
        }
        problems.extend(told("", check.problems));
        problems
    }
}
