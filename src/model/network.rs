//! What is trained: an encoder and what turns its tokens into predictions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Data2Vec1Config, Data2Vec2Config, Decoder, Linear, ModelConfig, Vit1, Vit2};
use crate::params;

/// A student or a teacher.
#[derive(Module, Debug)]
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
        match params::unshared(self.valid()) {
            Self::V2(network) => Self::V2(Network2 {
                decoder: None,
                ..network
            }),
            network @ Self::V1(_) => network,
        }
    }

    /// How many parameters there are; nothing is allocated.
    pub fn parameter_counts(&self) -> ParameterCounts {
        let mut counts = ParameterCounts {
            encoder: 0,
            head: 0,
        };
        for (name, shape) in params::shapes(self) {
            let n: usize = shape.iter().product();
            if name.starts_with("encoder.") {
                counts.encoder += n;
            } else {
                counts.head += n;
            }
        }
        counts
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

/// Parameters of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Of the encoder.
    pub encoder: usize,
    /// Of the prediction head (1.0) or decoder (2.0).
    pub head: usize,
}

/// `[B, 1 + N, D]` → `[B, N, D]`.
pub(crate) fn without_class_token(tokens: Tensor<3>) -> Tensor<3> {
    let [_, n_tokens, _] = tokens.dims();
    tokens.narrow(1, 1, n_tokens - 1)
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::{tiny1, tiny2};
    use super::*;

    fn counts(config: &ModelConfig) -> ParameterCounts {
        Network::student(config, &Device::flex()).parameter_counts()
    }

    #[test]
    fn sizes_of_1_0_are_the_references() {
        let ModelConfig::Data2vec1(mut config) = tiny1() else {
            unreachable!()
        };
        config.image.image_size = 224;
        config.image.patch_size = 16;
        config.image.embed_dim = 768;
        config.image.depth = 12;
        config.image.n_heads = 12;
        let base = counts(&ModelConfig::Data2vec1(config));
        // Hugging Face's Data2VecVisionModel of the base size, and a 768 × 768 map with bias.
        assert_eq!(base.encoder, 85_666_128);
        assert_eq!(base.head, 768 * 769);
    }

    #[test]
    fn sizes_of_2_0_are_the_references() {
        // Millions of encoder and decoder, from the reference code (data2vec.md).
        for (dim, patch, prenet, depth, n_heads, decoder, expected) in [
            (768, 16, 2, 10, 12, (6, 768, 3), (85.8, 2.6)),
            (1024, 16, 0, 24, 16, (3, 1024, 5), (303.3, 6.0)),
            (1280, 14, 0, 32, 16, (3, 1024, 5), (630.8, 6.6)),
        ] {
            let ModelConfig::Data2vec2(mut config) = tiny2() else {
                unreachable!()
            };
            let image = &mut config.image;
            (image.image_size, image.patch_size, image.embed_dim) = (224, patch, dim);
            (image.prenet_depth, image.depth, image.n_heads) = (prenet, depth, n_heads);
            let (n_layers, decoder_dim, kernel) = decoder;
            config.decoder.n_layers = n_layers;
            (config.decoder.dim, config.decoder.kernel) = (decoder_dim, kernel);
            config.decoder.groups = 16;
            // The reference counts its fixed positions too.
            let n_positions = config.image.grid().pow(2) * dim;
            let found = counts(&ModelConfig::Data2vec2(config));
            let millions = |n: usize| (n as f64 / 1e5).round() / 10.0;
            assert_eq!(
                (millions(found.encoder + n_positions), millions(found.head)),
                expected
            );
        }
    }

    #[test]
    fn a_teacher_has_no_decoder_and_the_same_names() {
        let device = Device::flex();
        for config in [tiny1(), tiny2()] {
            let student = params::shapes(&Network::student(&config, &device));
            let teacher = params::shapes(&Network::teacher(&config, &device));
            let expected: Vec<_> = student
                .into_iter()
                .filter(|(name, _)| !name.starts_with("decoder."))
                .collect();
            assert_eq!(teacher, expected);
        }
    }
}
