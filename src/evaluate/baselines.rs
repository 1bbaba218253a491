//! Features without learning, one kind per modality: the baseline of every evaluation.

use burn::tensor::{Device, Tensor, module::adaptive_avg_pool2d};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media as HostMedia};
use understudy_pipelines::config::MediaConfig;
use understudy_pipelines::pipeline::{Options, Pipeline};

use super::bag_of_words::BagOfWords;
use super::error::EvaluateError;
use super::features::NamedEncoder;
use super::log_mel;
use super::table::EvalUnit;
use crate::model::{EncoderInput, FeatureVectors};

/// Side that larger images are pooled to: 32 · 32 · 3 = 3,072 features.
const RAW_SIDE: usize = 32;

/// Batch size of the pass that chooses the words of a bag.
const TEXT_BATCH: usize = 256;

/// Returns the baseline for the modality of `data`.
pub(super) fn baseline<'a>(
    data: &'a DataConfig,
    unit: EvalUnit,
    threads: usize,
    device: &'a Device,
) -> Result<NamedEncoder<'a>, EvaluateError> {
    Ok(match data.media() {
        Some(MediaConfig::Audio(audio)) => {
            let rate = audio.sample_rate_hz;
            (
                "log-mel",
                Box::new(move |batch| log_mels(&batch, rate, unit)),
            )
        }
        Some(MediaConfig::Text(_)) => {
            let bag = bag_of(data, threads)?;
            ("bag of words", Box::new(move |batch| bags(&batch, &bag)))
        }
        Some(MediaConfig::Image(_)) | None => {
            let encode = |batch: Batch| {
                let media = crate::model::to_device(batch.media, batch.n_samples, data, device).0;
                let EncoderInput::Images(images) = media else {
                    unreachable!("an image dataset has images")
                };
                FeatureVectors::pooled(raw_pixels(images))
            };
            ("raw pixels", Box::new(encode))
        }
    })
}

/// Returns normalised pixels as features, `[B, 3 · h · w]`: images of more than 32 pixels a side are
/// average-pooled to 32, so that D is at most 3,072.
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

fn log_mels(batch: &Batch, sample_rate_hz: u32, unit: EvalUnit) -> FeatureVectors {
    let HostMedia::Audio {
        n_frames,
        waveforms,
        lengths,
    } = &batch.media
    else {
        unreachable!("an audio dataset has audio")
    };
    let own = waveforms.chunks(*n_frames).zip(lengths);
    let own = own.map(|(waveform, &len)| &waveform[..len as usize]);
    match unit {
        EvalUnit::Samples => {
            let rows = own.map(|waveform| log_mel::statistics(waveform, sample_rate_hz));
            one_each(rows, 2 * log_mel::N_MELS)
        }
        EvalUnit::Frames => {
            let frames: Vec<Vec<f32>> = own
                .map(|waveform| log_mel::frames(waveform, sample_rate_hz))
                .collect();
            let of_each = frames.iter().map(|frames| frames.len() / log_mel::N_MELS);
            FeatureVectors {
                n_per_sample: Some(of_each.collect()),
                values: frames.concat(),
                dim: log_mel::N_MELS,
            }
        }
    }
}

fn bags(batch: &Batch, bag: &BagOfWords) -> FeatureVectors {
    one_each(own_tokens(batch).map(|text| bag.features(text)), bag.dim())
}

/// Returns the bag of the training set's most frequent tokens.
fn bag_of(data: &DataConfig, threads: usize) -> Result<BagOfWords, EvaluateError> {
    let options = Options {
        threads,
        ..Options::default()
    };
    let mut bag = BagOfWords::default();
    let url = data.train.one().ok_or(EvaluateError::Mix)?;
    for batch in Pipeline::evaluate(data, url, TEXT_BATCH, &options)? {
        let batch = batch?;
        own_tokens(&batch).for_each(|text| bag.count(text));
    }
    bag.choose();
    Ok(bag)
}

/// Iterates over the texts without their padding.
fn own_tokens(batch: &Batch) -> impl Iterator<Item = &[u32]> {
    let HostMedia::Text {
        n_tokens,
        tokens,
        lengths,
        ..
    } = &batch.media
    else {
        unreachable!("a text dataset has texts")
    };
    let texts = tokens.chunks(*n_tokens).zip(lengths);
    texts.map(|(text, &len)| &text[..len as usize])
}

fn one_each(rows: impl Iterator<Item = Vec<f32>>, dim: usize) -> FeatureVectors {
    FeatureVectors {
        n_per_sample: None,
        values: rows.flatten().collect(),
        dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_are_average_pooled() {
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
