//! Losses as sums, and the standard deviation that shows a collapse.

use burn::tensor::Tensor;

/// Returns the sum of smooth-L1 with `beta`, or of squared errors if `beta` is 0, `[1]`.
pub(super) fn error_sum(predictions: Tensor<2>, targets: Tensor<2>, beta: f64) -> Tensor<1> {
    if beta > 0.0 {
        smooth_l1_sum(predictions, targets, beta)
    } else {
        squared_error_sum(predictions, targets)
    }
}

/// Returns the sum of smooth-L1 with `beta` (½d²/β below β, |d| − ½β above), `[1]`.
fn smooth_l1_sum(predictions: Tensor<2>, targets: Tensor<2>, beta: f64) -> Tensor<1> {
    let distance = (predictions - targets).abs();
    let quadratic = distance.clone().clamp_max(beta);
    let linear = distance - quadratic.clone();
    (quadratic.square().mul_scalar(0.5 / beta) + linear).sum()
}

/// Returns the sum of squared errors, `[1]`.
fn squared_error_sum(predictions: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    (predictions - targets).square().sum()
}

/// Returns the mean over D of √(unbiased variance over the rows + 1e-6), `[1]`.
///
/// It is near 0 after a collapse. The reference calls it `target_var` and `pred_var`.
///
/// # Shapes
///
/// - rows: `[rows, D]`, at least two rows
pub fn feature_std(rows: Tensor<2>) -> Tensor<1> {
    FeatureSums::of(rows).std()
}

/// Mean and squared deviations of each feature over rows that come in micro-batches, on the device.
#[derive(Debug, Clone)]
pub struct FeatureSums {
    n_rows: f64,
    /// `[D]`.
    mean: Tensor<1>,
    /// Sum of the squared deviations from `mean`, `[D]`.
    squares: Tensor<1>,
}

impl FeatureSums {
    /// Sums over `rows`, `[rows, D]`.
    pub fn of(rows: Tensor<2>) -> Self {
        let [n_rows, dim] = rows.dims();
        let n_rows = n_rows as f64;
        let (variance, mean) = rows.var_mean_bias(0);
        Self {
            n_rows,
            mean: mean.reshape([dim]),
            squares: variance.reshape([dim]).mul_scalar(n_rows),
        }
    }

    /// Adds the sums over other rows (Chan et al. 1979: nothing cancels where means are large).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let n_rows = self.n_rows + other.n_rows;
        let shift = other.mean - self.mean.clone();
        let between = self.n_rows * other.n_rows / n_rows;
        Self {
            n_rows,
            mean: self.mean + shift.clone().mul_scalar(other.n_rows / n_rows),
            squares: self.squares + other.squares + shift.square().mul_scalar(between),
        }
    }

    /// Returns the mean over D of √(unbiased variance + 1e-6), `[1]`; NaN for one row.
    pub fn std(&self) -> Tensor<1> {
        let variance = self.squares.clone().div_scalar(self.n_rows - 1.0);
        variance.add_scalar(1e-6).sqrt().mean()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn smooth_l1_is_quadratic_below_beta_and_linear_above() {
        let device = Device::flex();
        let predictions = Tensor::<2>::from_floats([[1.0, -3.0, 0.5]], &device);
        let loss = smooth_l1_sum(predictions.clone(), predictions.zeros_like(), 2.0);
        // 1²/4 + (3 − 1) + 0.5²/4
        let loss: f32 = loss.into_scalar();
        assert!((loss - 2.3125).abs() < 1e-6);
    }

    #[test]
    fn feature_std_of_equal_rows_is_near_zero() {
        let device = Device::flex();
        let std_of =
            |rows| feature_std(Tensor::<2>::from_floats(rows, &device)).into_scalar::<f32>();
        assert!((std_of([[1.0, 2.0], [1.0, 2.0]]) - 1e-3).abs() < 1e-6);
        // Unbiased variances 2 and 8.
        let expected = 0.5 * (2_f32.sqrt() + 8_f32.sqrt());
        assert!((std_of([[0.0, 0.0], [2.0, 4.0]]) - expected).abs() < 1e-5);
    }

    #[test]
    fn merged_micro_batches_have_the_std_of_all_rows() {
        let device = Device::flex();
        let rows: Vec<f32> = (0..30)
            .map(|i| 1000.0 + (i as f32 * 12.9898).sin())
            .collect();
        let rows = TensorData::new(rows, [10, 3]);
        let rows = Tensor::<2>::from_data(rows, &device);
        let micro_batch = |from, n| FeatureSums::of(rows.clone().narrow(0, from, n));
        let merged = micro_batch(0, 1)
            .merge(micro_batch(1, 6))
            .merge(micro_batch(7, 3));
        let [merged, all] = [merged.std(), feature_std(rows)].map(Tensor::into_scalar::<f32>);
        assert!((merged - all).abs() < 1e-3 * all, "{merged}, not {all}");
        let one = FeatureSums::of(Tensor::<2>::ones([1, 3], &device));
        assert!(one.std().into_scalar::<f32>().is_nan());
    }
}
