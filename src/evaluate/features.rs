//! Extracts features and labels in one pass over a labelled dataset.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Batch;
use understudy_pipelines::config::Modality;
use understudy_pipelines::pipeline::{Options, Pipeline};

use super::error::EvaluateError;
use crate::model::{self, FeatureVectors};
use crate::objective::ModelConfig;

/// An encoder and the name of its row.
pub type NamedEncoder<'a> = (&'a str, Box<dyn FnMut(Batch) -> FeatureVectors + 'a>);

/// Returns the batch size of an encoder's pass. Utterances are not cropped, and attention's memory
/// grows with the square of the longest: 35 s in Base's 12 heads take 150 MB each.
pub(crate) fn batch_size(data: &DataConfig) -> usize {
    match data.modality() {
        Some(Modality::Audio) => 4,
        _ => 128,
    }
}

/// Features and labels of a dataset in host memory, which can hold 1.3 million rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// `[n, dim]`, row-major.
    pub values: Vec<f32>,
    /// Feature dimension D.
    pub dim: usize,
    /// Class indices, `[n]`.
    pub labels: Vec<usize>,
    /// Number of rows of each sample; `None` where it is 1.
    pub of_each: Option<Vec<usize>>,
}

impl Features {
    /// Returns the number of rows.
    pub fn n(&self) -> usize {
        self.labels.len()
    }

    /// Returns the number of samples.
    pub fn n_samples(&self) -> usize {
        self.of_each.as_ref().map_or(self.n(), Vec::len)
    }

    /// Returns the rows of each sample.
    pub(super) fn samples(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let next = |n: usize| {
            end += n;
            end - n..end
        };
        match &self.of_each {
            Some(of_each) => of_each.iter().copied().map(next).collect(),
            None => std::iter::repeat_n(1, self.n()).map(next).collect(),
        }
    }

    /// Copies the values to `device` as `[n, dim]`.
    pub(super) fn to_device(&self, device: &Device) -> Tensor<2> {
        let data = burn::tensor::TensorData::new(self.values.clone(), [self.n(), self.dim]);
        Tensor::from_data(data, device)
    }
}

/// One encoder's features of the training and the validation set.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Neighbours of k-NN and training data of the probe.
    pub train: Features,
    /// Samples to classify.
    pub val: Features,
    /// Number of classes in both sets.
    pub n_classes: usize,
}

/// Runs `encode` over `data.train` and `data.val`; `trained` is the SHA-256 of the vocabulary that
/// the encoder was trained with.
pub fn split(
    (data, model): (&DataConfig, &ModelConfig),
    trained: Option<&str>,
    threads: usize,
    mut encode: impl FnMut(Batch) -> FeatureVectors,
) -> Result<Split, EvaluateError> {
    let train_url = data.train.one().ok_or(EvaluateError::Mix)?;
    let val_url = data.val.as_deref().ok_or(EvaluateError::NoVal)?;
    let options = Options {
        threads,
        ..Options::default()
    };
    let train = Pipeline::evaluate(data, train_url, batch_size(data), &options)?;
    let val = Pipeline::evaluate(data, val_url, batch_size(data), &options)?;
    for (url, dataset) in [(train_url, &train), (val_url, &val)] {
        model::check_vocabulary(model.encoder(), url, dataset.special_tokens())?;
        model::compare_vocabularies(trained, url, dataset.vocabulary_sha256());
    }
    if train.fingerprint() == val.fingerprint() {
        tracing::warn!(
            "training and validation set are the same dataset: {train_url} and {val_url}"
        );
    }
    let classes = [train.classes(), val.classes()].map(|c| c.map(<[String]>::to_vec));
    let [train_classes, val_classes] = &classes;
    check_classes(
        train_url,
        train_classes.as_deref(),
        val_url,
        val_classes.as_deref(),
    )?;
    let n_named = train_classes
        .as_ref()
        .or(val_classes.as_ref())
        .map(Vec::len);

    let train = collect(train, train_url, n_named, &mut encode)?;
    let val = collect(val, val_url, n_named, &mut encode)?;
    // Without class names the largest label determines the number of classes.
    let largest = || train.labels.iter().chain(&val.labels).max();
    let n_classes = n_named
        .or_else(|| largest().map(|label| label + 1))
        .unwrap_or(0);
    Ok(Split {
        train,
        val,
        n_classes,
    })
}

/// Refuses datasets that number their classes differently.
fn check_classes(
    train_url: &str,
    train: Option<&[String]>,
    val_url: &str,
    val: Option<&[String]>,
) -> Result<(), EvaluateError> {
    let (Some(train), Some(val)) = (train, val) else {
        return Ok(());
    };
    if train == val {
        return Ok(());
    }
    let reason = match train.iter().zip(val).position(|(train, val)| train != val) {
        Some(i) => format!(
            "class {i} is `{}` in the first and `{}` in the second",
            train[i], val[i]
        ),
        None => format!(
            "{} classes in the first and {} in the second",
            train.len(),
            val.len()
        ),
    };
    Err(EvaluateError::ClassesDiffer {
        train: train_url.into(),
        val: val_url.into(),
        reason,
    })
}

/// Encodes every batch; `n_classes` is the number of class names in the dataset, if it has them.
fn collect(
    batches: impl Iterator<Item = understudy_pipelines::Result<Batch>>,
    url: &str,
    n_classes: Option<usize>,
    encode: &mut impl FnMut(Batch) -> FeatureVectors,
) -> Result<Features, EvaluateError> {
    let mut features = Features {
        values: Vec::new(),
        dim: 0,
        labels: Vec::new(),
        of_each: None,
    };
    for batch in batches {
        let batch = batch?;
        if batch.labels.len() != batch.n_samples {
            return Err(EvaluateError::NoLabels { url: url.into() });
        }
        let mut labels = Vec::with_capacity(batch.n_samples);
        for (&label, sample) in batch.labels.iter().zip(&batch.samples) {
            let known = usize::try_from(label)
                .ok()
                .filter(|l| n_classes.is_none_or(|n| *l < n));
            let Some(label) = known else {
                return Err(EvaluateError::Label {
                    url: url.into(),
                    row: sample.row,
                    label,
                    n_classes,
                });
            };
            labels.push(label);
        }
        let encoded = encode(batch);
        if let Some(of_each) = encoded.n_per_sample {
            let repeated = labels.iter().zip(&of_each);
            labels = repeated
                .flat_map(|(&label, &n)| std::iter::repeat_n(label, n))
                .collect();
            features.of_each.get_or_insert_default().extend(of_each);
        }
        assert_eq!(
            encoded.values.len(),
            labels.len() * encoded.dim,
            "an encoder returns rows for every sample"
        );
        features.values.extend(encoded.values);
        features.labels.extend(labels);
        features.dim = encoded.dim;
    }
    if features.labels.is_empty() {
        return Err(EvaluateError::Empty { url: url.into() });
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_pipelines::batch::{Media, SampleId};

    /// Returns pixel values as features, black −1 and white 1.
    fn pixels(batch: Batch) -> FeatureVectors {
        let Media::Images { pixels, .. } = batch.media else {
            unreachable!()
        };
        let values: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 127.5 - 1.0).collect();
        FeatureVectors {
            n_per_sample: None,
            values,
            dim: 12,
        }
    }

    /// Returns a batch of two 2×2 images, black and white.
    fn batch(step: u64, labels: &[i64]) -> Batch {
        let sample = |i| SampleId {
            epoch: 0,
            row: 2 * step + i,
        };
        Batch {
            step,
            micro_batch: 0,
            n_micro_batches: 1,
            n_samples: 2,
            media: Media::Images {
                size: 2,
                pixels: [[0; 12], [255; 12]].concat(),
            },
            n_masks: 0,
            n_positions: 0,
            masks: Vec::new(),
            labels: labels.to_vec(),
            keys: Vec::new(),
            samples: vec![sample(0), sample(1)],
        }
    }

    fn collect_two(second: &[i64], n_classes: Option<usize>) -> Result<Features, EvaluateError> {
        let batches = [Ok(batch(0, &[1, 0])), Ok(batch(1, second))];
        let batches = batches.into_iter();
        collect(batches, "set/val", n_classes, &mut pixels)
    }

    #[test]
    fn rows_keep_the_order_of_the_dataset() {
        let features = collect_two(&[2, 1], Some(3)).expect("features");
        assert_eq!((features.dim, features.n()), (12, 4));
        assert_eq!(features.labels, [1, 0, 2, 1]);
        let firsts: Vec<f32> = features.values.iter().step_by(12).copied().collect();
        assert_eq!(firsts, [-1.0, 1.0, -1.0, 1.0]);
    }

    #[test]
    fn rows_of_one_sample_share_its_label() {
        // The 24 values of two images as six rows, four of them the first one's.
        let batches = [Ok(batch(0, &[1, 0])), Ok(batch(1, &[2, 1]))];
        let mut in_rows = |batch| FeatureVectors {
            n_per_sample: Some(vec![4, 2]),
            dim: 4,
            ..pixels(batch)
        };
        let features = collect(batches.into_iter(), "set/val", Some(3), &mut in_rows);
        let features = features.expect("features");
        assert_eq!(features.labels, [1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 1, 1]);
        assert_eq!(features.samples(), [0..4, 4..6, 6..10, 10..12]);
    }

    #[test]
    fn dataset_without_labels_is_named_in_the_error() {
        let error = collect_two(&[], None).expect_err("no labels").to_string();
        assert!(
            error.contains("set/val") && error.contains("no labels"),
            "{error}"
        );
    }

    #[test]
    fn label_out_of_range_is_named_with_its_row() {
        for (labels, n_classes, words) in [
            ([2, 3], Some(3), ["row 3", "label 3"]),
            ([2, -1], None, ["row 3", "label -1"]),
        ] {
            let error = collect_two(&labels, n_classes)
                .expect_err("out of range")
                .to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn class_names_must_agree() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (a, b, c) = (
            names(&["cat", "dog"]),
            names(&["cat", "cow"]),
            names(&["cat"]),
        );
        let check = |val: &[String]| check_classes("train", Some(&a), "val", Some(val));
        assert!(check(&a).is_ok());
        let error = check(&b).expect_err("other names").to_string();
        assert!(
            error.contains("class 1 is `dog`") && error.contains("--labels"),
            "{error}"
        );
        let error = check(&c).expect_err("fewer names").to_string();
        assert!(
            error.contains("2 classes in the first and 1 in the second"),
            "{error}"
        );
    }
}
