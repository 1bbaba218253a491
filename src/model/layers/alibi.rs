//! ALiBi: attention that falls with distance (Press et al. 2022).

use burn::tensor::{Int, Tensor};

/// Returns the attention bias −slope·|i − j|, `[R or 1, H, n, n]`, for the given positions
/// (`[R, n]`) or all of 0 to n − 1. `scale` are learned factors of the heads' slopes, `[H]`.
pub(crate) fn alibi(scale: Tensor<1>, n: usize, positions: Option<Tensor<2>>) -> Tensor<4> {
    let [n_heads] = scale.dims();
    let device = scale.device().without_autodiff();
    // Built on the device: a copy from the host would wait for all work that the GPU has queued.
    let slopes = alibi_slopes(n_heads)
        .into_iter()
        .map(|slope| Tensor::<1>::ones([1], &device).mul_scalar(slope));
    let slopes = Tensor::cat(slopes.collect(), 0);
    let positions = positions.unwrap_or_else(|| {
        let all = Tensor::<1, Int>::arange(0..n as i64, &device);
        all.float().reshape([1, n])
    });
    let distance = (positions.clone().unsqueeze_dim::<3>(2) - positions.unsqueeze_dim(1)).abs();
    let slopes = (scale.clamp_min(0.0) * slopes.neg()).reshape([1, n_heads, 1, 1]);
    slopes * distance.unsqueeze_dim(1)
}

/// Returns the slope of each head: powers of 2^(−8 / heads). Where `n_heads` is not a power of two,
/// the slopes of the next smaller power, followed by every other slope of the next larger one.
fn alibi_slopes(n_heads: usize) -> Vec<f32> {
    let of_power = |n: usize| (1..=n).map(move |head| 2_f64.powf(-8.0 * head as f64 / n as f64));
    let smaller = 1 << n_heads.ilog2();
    of_power(smaller)
        .chain(of_power(2 * smaller).step_by(2))
        .take(n_heads)
        .map(|slope| slope as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alibi_bias_is_slope_times_distance() {
        let device = burn::tensor::Device::flex();
        let scale = Tensor::from_floats([1.0, 0.5, -1.0, 2.0], &device);
        let bias: Vec<f32> = alibi(scale, 3, None).into_data().iter().collect();
        let (slopes, scales) = (alibi_slopes(4), [1.0, 0.5, 0.0, 2.0]);
        let expected = (0..4 * 9).map(|at| {
            let (head, from, to) = (at / 9, at / 3 % 3, at % 3);
            -slopes[head] * scales[head] * (from as f32 - to as f32).abs()
        });
        assert_eq!(bias, expected.collect::<Vec<_>>());
    }

    #[test]
    fn alibi_slopes_match_published_values() {
        // data2vec.md §2.2.
        let exponents = |n_heads| {
            alibi_slopes(n_heads)
                .into_iter()
                .map(f32::log2)
                .collect::<Vec<_>>()
        };
        let near = |found: Vec<f32>, expected: Vec<f32>| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        };
        near(exponents(16), (1..=16).map(|i| -0.5 * i as f32).collect());
        let mut twelve: Vec<f32> = (1..=8).map(|i| -(i as f32)).collect();
        twelve.extend([-0.5, -1.5, -2.5, -3.5]);
        near(exponents(12), twelve);
    }
}
