//! What an encoder makes of a batch, on the host.

use burn::tensor::Tensor;

/// Vectors of samples: one of each, or one of each of their positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// How many there are of each sample, where it is not one.
    pub of_each: Option<Vec<usize>>,
    /// `[vectors of all samples, D]`, row-major.
    pub values: Vec<f32>,
    /// Values of a vector, D.
    pub dim: usize,
}

impl Vectors {
    /// One of each sample, `[B, D]`.
    pub fn pooled(values: Tensor<2>) -> Self {
        let [_, dim] = values.dims();
        Self {
            of_each: None,
            values: on_host(values),
            dim,
        }
    }

    /// Those of the positions `[B, N, D]`, of which sample i has its own first `of_each[i]`; all
    /// where nothing is padded.
    pub fn per_position(hidden: Tensor<3>, of_each: Option<Vec<usize>>) -> Self {
        let [n_samples, n_positions, dim] = hidden.dims();
        let mut values = on_host(hidden);
        if let Some(of_each) = &of_each {
            let samples = values.chunks_exact(n_positions * dim).zip(of_each);
            values = samples
                .flat_map(|(sample, &n)| &sample[..n * dim])
                .copied()
                .collect();
        }
        Self {
            of_each: of_each.or_else(|| Some(vec![n_positions; n_samples])),
            values,
            dim,
        }
    }
}

fn on_host<const R: usize>(x: Tensor<R>) -> Vec<f32> {
    x.try_into_vec_as()
        .expect("the device gives back what it computed")
}
