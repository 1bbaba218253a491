//! The networks of student and teacher: an encoder with its head or decoder.

use burn::module::Module;
use burn::tensor::Device;

use crate::model::{Decoder, Encoder, EncoderConfig, Head};
use crate::objective::config::ModelConfig;
use crate::params;

/// A student or a teacher.
#[derive(Module, Debug)]
pub struct Network {
    /// The encoder; a teacher's may lack the layers of local features.
    pub encoder: Encoder,
    /// The prediction head (1.0). The teacher of images has one too, averaged as in the reference and
    /// never used.
    pub lm_head: Option<Head>,
    /// The decoder (2.0).
    pub decoder: Option<Decoder>,
}

impl Network {
    /// Builds a student, without values.
    pub fn student(config: &ModelConfig, device: &Device) -> Self {
        let encoder = config.encoder();
        let dim = encoder.embed_dim();
        let is_image = matches!(encoder, EncoderConfig::Beit(_) | EncoderConfig::Vit(_));
        let (lm_head, decoder) = match config {
            ModelConfig::Data2vec1(config) => (
                Some(Head::new(dim, config.head_hidden_dim, dim, device)),
                None,
            ),
            ModelConfig::Data2vec2(config) => (
                None,
                Some(Decoder::new(&config.decoder, dim, is_image, device)),
            ),
        };
        Self {
            encoder: Encoder::new(encoder, lm_head.is_some(), device),
            lm_head,
            decoder,
        }
    }

    /// Builds a teacher, without values: the layers of a student that the reference's teacher has.
    pub fn teacher(config: &ModelConfig, device: &Device) -> Self {
        Self::student(config, device).into_teacher(config)
    }

    /// Copies this student to a teacher on the plain device.
    #[must_use]
    pub fn as_teacher(&self, config: &ModelConfig) -> Self {
        params::unshared(self.valid().into_teacher(config))
    }

    /// Removes the layers that the reference's teachers lack: the decoder, the head of audio and text,
    /// and with `shares_local` the convolutions over waveforms and the token embedding of 2.0.
    fn into_teacher(self, config: &ModelConfig) -> Self {
        let shares_local = config.shares_local();
        let (encoder, lm_head) = match self.encoder {
            Encoder::Audio(encoder) => (Encoder::Audio(encoder.into_teacher(shares_local)), None),
            Encoder::Text(encoder) if shares_local => {
                (Encoder::Text(encoder.without_embedding()), None)
            }
            Encoder::Text(encoder) => (Encoder::Text(encoder), None),
            encoder => (encoder, self.lm_head),
        };
        Self {
            encoder,
            lm_head,
            decoder: None,
        }
    }

    /// Counts the parameters without allocating any.
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
}

/// Numbers of parameters of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Parameters of the encoder.
    pub encoder: usize,
    /// Parameters of the prediction head (1.0) or decoder (2.0).
    pub head: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::encoders::fixtures::{tiny_audio, tiny_text};
    use crate::model::{AudioConfig, DecoderConfig, TextConfig};
    use crate::objective::config::tests::{all, tiny1, tiny2};
    use crate::objective::config::{Data2Vec1Config, Data2Vec2Config};

    fn counts(config: &ModelConfig) -> ParameterCounts {
        Network::student(config, &Device::flex()).parameter_counts()
    }

    fn config1() -> Data2Vec1Config {
        let ModelConfig::Data2vec1(config) = tiny1() else {
            unreachable!()
        };
        Data2Vec1Config {
            image: None,
            ..config
        }
    }

    fn config2() -> Data2Vec2Config {
        let ModelConfig::Data2vec2(config) = tiny2() else {
            unreachable!()
        };
        Data2Vec2Config {
            image: None,
            ..config
        }
    }

    fn audio(embed_dim: usize, depth: usize, n_heads: usize) -> AudioConfig {
        AudioConfig {
            conv_dim: 512,
            conv_layers: [[10, 5]; 1]
                .into_iter()
                .chain([[3, 2]; 4])
                .chain([[2, 2]; 2])
                .collect(),
            pos_conv_depth: 5,
            pos_conv_kernel: 19,
            pos_conv_groups: 16,
            embed_dim,
            depth,
            n_heads,
            ..tiny_audio()
        }
    }

    fn text(embed_dim: usize, depth: usize, n_heads: usize) -> TextConfig {
        TextConfig {
            vocab_size: 50265,
            max_tokens: 512,
            embed_dim,
            depth,
            n_heads,
            ..tiny_text()
        }
    }

    #[test]
    fn parameter_counts_of_1_0_match_the_reference() {
        let ModelConfig::Data2vec1(mut config) = tiny1() else {
            unreachable!()
        };
        let image = config.image.as_mut().unwrap();
        image.image_size = 224;
        image.patch_size = 16;
        image.embed_dim = 768;
        image.depth = 12;
        image.n_heads = 12;
        let base = counts(&ModelConfig::Data2vec1(config));
        // Hugging Face's Data2VecVisionModel of the base size, and a 768 × 768 map with bias.
        assert_eq!(base.encoder, 85_666_128);
        assert_eq!(base.head, 768 * 769);

        // Numbers of the reference code (data2vec.md §1.1, §1.3).
        for (audio, encoder, head) in [
            (audio(768, 12, 12), 93_164_288, 590_592),
            (audio(1024, 24, 16), 313_276_416, 1024 * 1025),
        ] {
            let config = Data2Vec1Config {
                audio: Some(audio),
                ..config1()
            };
            let found = counts(&ModelConfig::Data2vec1(config));
            assert_eq!((found.encoder, found.head), (encoder, head));
        }
        let config = Data2Vec1Config {
            text: Some(text(768, 12, 12)),
            head_hidden_dim: Some(1536),
            ..config1()
        };
        let found = counts(&ModelConfig::Data2vec1(config));
        assert_eq!((found.encoder, found.head), (124_054_272, 2_361_600));
    }

    #[test]
    fn parameter_counts_of_2_0_images_match_the_reference() {
        // Millions of encoder and decoder, from the reference code (data2vec.md).
        for (dim, patch, prenet, depth, n_heads, decoder, expected) in [
            (768, 16, 2, 10, 12, (6, 768, 3), (85.8, 2.6)),
            (1024, 16, 0, 24, 16, (3, 1024, 5), (303.3, 6.0)),
            (1280, 14, 0, 32, 16, (3, 1024, 5), (630.8, 6.6)),
        ] {
            let ModelConfig::Data2vec2(mut config) = tiny2() else {
                unreachable!()
            };
            let image = config.image.as_mut().unwrap();
            (image.image_size, image.patch_size, image.embed_dim) = (224, patch, dim);
            (image.prenet_depth, image.depth, image.n_heads) = (prenet, depth, n_heads);
            // The reference counts its fixed positions too.
            let n_positions = image.grid().pow(2) * dim;
            let (n_layers, decoder_dim, kernel) = decoder;
            config.decoder = DecoderConfig {
                n_layers,
                dim: decoder_dim,
                kernel,
                groups: 16,
                ..config.decoder
            };
            let found = counts(&ModelConfig::Data2vec2(config));
            let millions = |n: usize| (n as f64 / 1e5).round() / 10.0;
            assert_eq!(
                (millions(found.encoder + n_positions), millions(found.head)),
                expected
            );
        }
    }

    #[test]
    fn parameter_counts_of_2_0_audio_match_the_reference() {
        // data2vec.md §2.8; of L it gives millions.
        let of = |embed_dim, prenet_depth, depth, n_heads, dim| {
            let config = config2();
            counts(&ModelConfig::Data2vec2(Data2Vec2Config {
                audio: Some(AudioConfig {
                    alibi: true,
                    prenet_depth,
                    ..audio(embed_dim, depth, n_heads)
                }),
                decoder: DecoderConfig {
                    n_layers: 4,
                    dim,
                    kernel: 7,
                    groups: 16,
                    ..config.decoder
                },
                ..config
            }))
        };
        let base = of(768, 0, 12, 12, 384);
        assert_eq!((base.encoder, base.head), (93_163_532, 619_776));
        let large = of(1024, 8, 16, 16, 768);
        let millions = |n: usize| (n as f64 / 1e4).round() / 100.0;
        assert_eq!(
            (millions(large.encoder), millions(large.head)),
            (313.28, 1.91)
        );
    }

    #[test]
    fn teacher_lacks_the_same_layers_as_the_reference() {
        let device = Device::flex();
        let lacks: [&[&str]; 6] = [
            &[],
            &["decoder."],
            &["encoder.local.", "encoder.mask_emb", "lm_head."],
            &["encoder.local.", "decoder."],
            &["lm_head."],
            &["encoder.embed.", "decoder."],
        ];
        for (config, lacks) in all().into_iter().zip(lacks) {
            let student = params::shapes(&Network::student(&config, &device));
            let teacher = params::shapes(&Network::teacher(&config, &device));
            assert!(
                lacks
                    .iter()
                    .all(|prefix| { student.iter().any(|(name, _)| name.starts_with(prefix)) })
            );
            let expected: Vec<_> = student
                .into_iter()
                .filter(|(name, _)| !lacks.iter().any(|prefix| name.starts_with(prefix)))
                .collect();
            assert_eq!(teacher, expected);
        }
    }
}
