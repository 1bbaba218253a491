//! A batch of the pipeline becomes tensors.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Media as HostMedia;
use understudy_pipelines::config::ImageConfig;
use understudy_pipelines::tokenize::Specials;

use crate::model::{EncoderConfig, Media, ModelConfig};

/// A text's tokens and a model's embedding do not fit.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}; a model reads texts in the vocabulary that it was made for")]
pub struct VocabularyError {
    /// The set.
    pub url: String,
    /// What differs.
    pub reason: String,
}

/// Media of a batch on `device`, and what the student of 1.0 sees of text, `[B, T]`.
///
/// # Panics
///
/// If `data` is a recipe for something else: configs are checked before.
pub fn media(
    media: HostMedia,
    n_samples: usize,
    data: &DataConfig,
    device: &Device,
) -> (Media, Option<Tensor<2, Int>>) {
    match media {
        HostMedia::Images { size, pixels } => {
            let config = data.image.as_ref().expect("a recipe for pictures");
            (
                Media::Images(images(pixels, n_samples, size, config, device)),
                None,
            )
        }
        HostMedia::Audio {
            n_frames,
            waveforms,
            lengths,
        } => {
            let waves =
                Tensor::from_data(TensorData::new(waveforms, [n_samples, n_frames]), device);
            let lengths = where_they_differ(lengths, n_frames);
            (Media::Waves { waves, lengths }, None)
        }
        HostMedia::Text {
            n_tokens,
            tokens,
            student_tokens,
            lengths,
        } => {
            let ids = |ids: Vec<u32>| {
                let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
                Tensor::from_data(TensorData::new(ids, [n_samples, n_tokens]), device)
            };
            let student = (!student_tokens.is_empty()).then(|| ids(student_tokens));
            let lengths = where_they_differ(lengths, n_tokens);
            let tokens = ids(tokens);
            (Media::Tokens { tokens, lengths }, student)
        }
    }
}

/// Pictures of a batch, `[B, size, size, 3]` u8 on the host, as `[B, 3, size, size]` float32 on
/// `device`, normalised there: (x / 255 − mean) / std per channel.
fn images(
    pixels: Vec<u8>,
    n_samples: usize,
    size: usize,
    config: &ImageConfig,
    device: &Device,
) -> Tensor<4> {
    let data = TensorData::new(pixels, [n_samples, size, size, 3]);
    // u8 crosses to the device; the four-fold float32 is made there.
    let images = Tensor::<4, Int>::from_data(data, (device, DType::U8));
    let images = images.float().permute([0, 3, 1, 2]);
    let scale = config.std.map(|std| 1.0 / (255.0 * std));
    let shift = [0, 1, 2].map(|c| -config.mean[c] / config.std[c]);
    let per_channel =
        |values: [f32; 3]| Tensor::<1>::from_floats(values, device).reshape([1, 3, 1, 1]);
    images * per_channel(scale) + per_channel(shift)
}

/// The samples' own lengths, unless all of them fill the batch: then nothing is padding.
fn where_they_differ(lengths: Vec<u32>, len: usize) -> Option<Vec<usize>> {
    let lengths: Vec<usize> = lengths.into_iter().map(|len| len as usize).collect();
    lengths.iter().any(|&own| own != len).then_some(lengths)
}

/// Warns where the vocabulary of the texts at `url` is not the one that a model was trained in: its
/// ids mean other tokens there. No error: the same vocabulary in files of another form has another
/// hash.
pub fn compare_vocabularies(trained: Option<&str>, url: &str, found: Option<&str>) {
    if let (Some(trained), Some(found)) = (trained, found)
        && trained != found
    {
        tracing::warn!(
            "{url}: the model was trained with other vocabulary files (SHA-256 {trained}, here \
             {found}); unless they are the same vocabulary in another form, ids mean other tokens \
             and the result means nothing"
        );
    }
}

/// Whether a model has an embedding for every token that texts of the set at `url` may have.
pub fn check_vocabulary(
    model: &ModelConfig,
    url: &str,
    specials: Option<Specials>,
) -> Result<(), VocabularyError> {
    let (EncoderConfig::Text(text), Some(specials)) = (model.encoder(), specials) else {
        return Ok(());
    };
    let (size, pad) = (specials.vocab_size as usize, specials.pad as usize);
    let reason = if size > text.vocab_size {
        format!(
            "its vocabulary has {size} tokens, the model's vocab_size is {}",
            text.vocab_size
        )
    } else if pad != text.pad_token {
        format!(
            "its padding is token {pad}, the model's pad_token {}",
            text.pad_token
        )
    } else {
        return Ok(());
    };
    Err(VocabularyError {
        url: url.to_owned(),
        reason,
    })
}
