//! Feature vectors of a batch, copied to the host.

use burn::tensor::Tensor;

/// Feature vectors of a batch: one per sample, or one per position.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureVectors {
    /// Vectors per sample, `[B]`; none for one vector per sample.
    pub n_per_sample: Option<Vec<usize>>,
    /// `[vectors of all samples, D]`, row-major, in the order of the samples.
    pub values: Vec<f32>,
    /// Length of a vector, D.
    pub dim: usize,
}

impl FeatureVectors {
    /// Copies one vector per sample, `[B, D]`.
    pub fn pooled(values: Tensor<2>) -> Self {
        let [_, dim] = values.dims();
        Self {
            n_per_sample: None,
            values: on_host(values),
            dim,
        }
    }

    /// Copies one vector per position of `[B, N, D]`: the first `n_per_sample[i]` of sample i, or
    /// all N where nothing is padded.
    pub fn per_position(hidden: Tensor<3>, n_per_sample: Option<Vec<usize>>) -> Self {
        let [n_samples, n_positions, dim] = hidden.dims();
        let mut values = on_host(hidden);
        if let Some(n_per_sample) = &n_per_sample {
            let samples = values.chunks_exact(n_positions * dim).zip(n_per_sample);
            values = samples
                .flat_map(|(sample, &n)| &sample[..n * dim])
                .copied()
                .collect();
        }
        Self {
            n_per_sample: n_per_sample.or_else(|| Some(vec![n_positions; n_samples])),
            values,
            dim,
        }
    }
}

fn on_host<const R: usize>(x: Tensor<R>) -> Vec<f32> {
    x.try_into_vec_as()
        .expect("the device gives back what it computed")
}
