//! Features without learning, one kind for each kind of sample: what an encoder must beat.

use burn::tensor::{Device, Tensor, module::adaptive_avg_pool2d};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media as HostMedia};
use understudy_pipelines::config::Modality;
use understudy_pipelines::pipeline::{Options, Pipeline};

use super::bag_of_words::BagOfWords;
use super::{Encoder, EvaluateError, Of, log_mel};
use crate::model::Media;
use crate::vectors::Vectors;

/// Side that pictures are pooled down to before they serve as features: 32 · 32 · 3 = 3,072.
const RAW_SIDE: usize = 32;

/// Texts that are read together to choose a bag's words.
const TEXTS: usize = 256;

/// The row of features without learning for the kind of sample that `data` is of.
pub(super) fn unlearned<'a>(
    data: &'a DataConfig,
    of: Of,
    threads: usize,
    device: &'a Device,
) -> Result<Encoder<'a>, EvaluateError> {
    Ok(match data.modality() {
        Some(Modality::Audio(audio)) => {
            let rate = audio.sample_rate_hz;
            ("log-mel", Box::new(move |batch| log_mels(&batch, rate, of)))
        }
        Some(Modality::Text(_)) => {
            let bag = bag_of(data, threads)?;
            ("bag of words", Box::new(move |batch| bags(&batch, &bag)))
        }
        Some(Modality::Image(_)) | None => {
            let encode = |batch: Batch| {
                let media = crate::batch::media(batch.media, batch.n_samples, data, device).0;
                let Media::Images(images) = media else {
                    unreachable!("a set of pictures gives pictures")
                };
                Vectors::pooled(raw_pixels(images))
            };
            ("raw pixels", Box::new(encode))
        }
    })
}

/// The normalised pixels as features, `[B, 3 · h · w]`: pictures of more than 32 pixels a side are
/// pooled down to 32 (each cell the mean of the pixels it covers), so that D stays at most 3,072.
pub(super) fn raw_pixels(images: Tensor<4>) -> Tensor<2> {
    let [_, _, height, width] = images.dims();
    let side = [height.min(RAW_SIDE), width.min(RAW_SIDE)];
    let images = if side == [height, width] {
        images
    } else {
        adaptive_avg_pool2d(images, side)
    };
    images.flatten(1, 3)
}

fn log_mels(batch: &Batch, sample_rate_hz: u32, of: Of) -> Vectors {
    let HostMedia::Audio {
        n_frames,
        waveforms,
        lengths,
    } = &batch.media
    else {
        unreachable!("a set of recordings gives recordings")
    };
    let own = waveforms.chunks(*n_frames).zip(lengths);
    let own = own.map(|(wave, &len)| &wave[..len as usize]);
    match of {
        Of::Samples => {
            let rows = own.map(|wave| log_mel::statistics(wave, sample_rate_hz));
            one_each(rows, 2 * log_mel::N_MELS)
        }
        Of::Frames => {
            let frames: Vec<Vec<f32>> = own
                .map(|wave| log_mel::frames(wave, sample_rate_hz))
                .collect();
            let of_each = frames.iter().map(|frames| frames.len() / log_mel::N_MELS);
            Vectors {
                of_each: Some(of_each.collect()),
                values: frames.concat(),
                dim: log_mel::N_MELS,
            }
        }
    }
}

fn bags(batch: &Batch, bag: &BagOfWords) -> Vectors {
    one_each(own_tokens(batch).map(|text| bag.features(text)), bag.dim())
}

/// The bag whose words are the commonest tokens of the training set.
fn bag_of(data: &DataConfig, threads: usize) -> Result<BagOfWords, EvaluateError> {
    let options = Options {
        threads,
        ..Options::default()
    };
    let mut bag = BagOfWords::default();
    let url = data.train.one().ok_or(EvaluateError::Mix)?;
    for batch in Pipeline::evaluate(data, url, TEXTS, &options)? {
        let batch = batch?;
        own_tokens(&batch).for_each(|text| bag.count(text));
    }
    bag.choose();
    Ok(bag)
}

/// Each text without its padding.
fn own_tokens(batch: &Batch) -> impl Iterator<Item = &[u32]> {
    let HostMedia::Text {
        n_tokens,
        tokens,
        lengths,
        ..
    } = &batch.media
    else {
        unreachable!("a set of texts gives texts")
    };
    let texts = tokens.chunks(*n_tokens).zip(lengths);
    texts.map(|(text, &len)| &text[..len as usize])
}

fn one_each(rows: impl Iterator<Item = Vec<f32>>, dim: usize) -> Vectors {
    Vectors {
        of_each: None,
        values: rows.flatten().collect(),
        dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pictures_are_pooled_to_the_mean_of_what_each_cell_covers() {
        let device = Device::flex();
        let ramp = Tensor::<1, burn::tensor::Int>::arange(0..3 * 64 * 64, &device).float();
        let pooled = raw_pixels(ramp.reshape([1, 3, 64, 64]));
        assert_eq!(pooled.dims(), [1, 3072]);
        let first: f32 = pooled.slice([0..1, 0..1]).into_scalar();
        assert!(
            (first - (0.0 + 1.0 + 64.0 + 65.0) / 4.0).abs() < 1e-4,
            "{first}"
        );
    }
}
