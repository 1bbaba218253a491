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
    rows.var(0).add_scalar(1e-6).sqrt().mean()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

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
}
