//! What is trained: an encoder and what turns its tokens into predictions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Data2Vec1Config, Data2Vec2Config, Decoder, Linear, ModelConfig, Vit1, Vit2};

/// A student or a teacher.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "two values live in a run, and neither is moved often"
)]
pub enum Network {
    /// data2vec 1.0.
    V1(Network1),
    /// data2vec 2.0.
    V2(Network2),
}

/// Student or teacher of data2vec 1.0.
#[derive(Module, Debug)]
pub struct Network1 {
    /// The encoder.
    pub encoder: Vit1,
    /// From the student's tokens to predictions. The teacher's is averaged too, as in the
    /// reference, and used by nothing.
    pub lm_head: Linear,
}

/// Student or teacher of data2vec 2.0.
#[derive(Module, Debug)]
pub struct Network2 {
    /// The encoder.
    pub encoder: Vit2,
    /// From the student's tokens to predictions; the teacher has none.
    pub decoder: Option<Decoder>,
}

impl Network {
    /// A student, without values.
    pub fn student(config: &ModelConfig, device: &Device) -> Self {
        match config {
            ModelConfig::Data2vec1(Data2Vec1Config { image, .. }) => Self::V1(Network1 {
                encoder: Vit1::new(image, device),
                lm_head: Linear::new(image.embed_dim, image.embed_dim, device),
            }),
            ModelConfig::Data2vec2(Data2Vec2Config { image, decoder, .. }) => Self::V2(Network2 {
                encoder: Vit2::new(image, device),
                decoder: Some(Decoder::new(decoder, image.embed_dim, device)),
            }),
        }
    }

    /// A teacher, without values: what the reference's teacher has of a student.
    pub fn teacher(config: &ModelConfig, device: &Device) -> Self {
        match Self::student(config, device) {
            Self::V2(network) => Self::V2(Network2 {
                decoder: None,
                ..network
            }),
            network @ Self::V1(_) => network,
        }
    }

    /// A teacher on the plain device with the values of this student.
    #[must_use]
    pub fn as_teacher(&self) -> Self {
        match self.valid() {
            Self::V2(network) => Self::V2(Network2 {
                decoder: None,
                ..network
            }),
            network @ Self::V1(_) => network,
        }
    }

    /// The features of pictures with nothing masked: patch tokens after the final norm (1.0) or of
    /// the last block (2.0), without the class token.
    ///
    /// # Shapes
    ///
    /// - images: `[B, 3, side, side]`; output: `[B, N, D]`
    pub fn features(&self, images: Tensor<4>) -> Tensor<3> {
        let tokens = match self {
            Self::V1(Network1 { encoder, .. }) => {
                let tokens = encoder.tokens(encoder.local(images), None);
                encoder.normed(encoder.encode(tokens, &mut |_, _| ()))
            }
            Self::V2(Network2 { encoder, .. }) => {
                let patches = encoder.positioned(encoder.local(images));
                encoder.encode(patches, &mut |_, _| ())
            }
        };
        without_class_token(tokens)
    }
}

/// `[B, 1 + N, D]` → `[B, N, D]`.
pub(crate) fn without_class_token(tokens: Tensor<3>) -> Tensor<3> {
    let [_, n_tokens, _] = tokens.dims();
    tokens.narrow(1, 1, n_tokens - 1)
}
