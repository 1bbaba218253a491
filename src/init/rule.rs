//! The distributions that initial values are drawn from.

use understudy_pipelines::rng::{Purpose, Rng};

use super::filter_bank;

/// The distribution of a parameter's initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The same value everywhere.
    Constant(f64),
    /// N(0, `std`²).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// N(0, `std`²) truncated to one standard deviation, times `scale`.
    TruncNormal {
        /// Standard deviation before the truncation.
        std: f64,
        /// Factor after the truncation.
        scale: f64,
    },
    /// N(0, `std`²), with zeros in one row of a table.
    Table {
        /// Standard deviation.
        std: f64,
        /// The row of zeros.
        zero_row: usize,
    },
    /// Uniform in ± `bound`.
    Uniform {
        /// Greatest magnitude.
        bound: f64,
    },
    /// Uniform from 0 to 1.
    Unit,
    /// A short-time Fourier transform, for a convolution over a waveform.
    Fourier,
    /// Low-pass filters of random mixtures of the inputs, for a convolution.
    LowPass {
        /// Standard deviation of the mixtures.
        std: f64,
    },
}

/// Draws the values of one parameter, row-major.
pub(super) fn draw(rule: Rule, shape: &[usize], seed: u64, name: &str) -> Vec<f32> {
    let mut rng = Rng::for_name(seed, Purpose::Init, name);
    let n: usize = shape.iter().product();
    let mut each = |value: &dyn Fn(&mut Rng) -> f64| {
        let values = (0..n).map(|_| value(&mut rng) as f32);
        values.collect()
    };
    match rule {
        Rule::Constant(value) => vec![value as f32; n],
        Rule::Normal { std } => each(&|rng| rng.normal() * std),
        Rule::TruncNormal { std, scale } => each(&|rng| within_one(rng) * std * scale),
        Rule::Uniform { bound } => each(&|rng| rng.range(-bound, bound)),
        Rule::Unit => each(&|rng| rng.range(0.0, 1.0)),
        Rule::Table { std, zero_row } => {
            let width = shape.last().copied().unwrap_or(1);
            let value = |i: usize| {
                if i / width == zero_row {
                    0.0
                } else {
                    (rng.normal() * std) as f32
                }
            };
            (0..n).map(value).collect()
        }
        Rule::Fourier => filter_bank::fourier(shape),
        Rule::LowPass { std } => filter_bank::low_pass(shape, std, &mut rng),
    }
}

/// Draws a standard normal number truncated to [−1, 1].
fn within_one(rng: &mut Rng) -> f64 {
    loop {
        let value = rng.normal();
        if value.abs() <= 1.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_their_rule() {
        let moments = |rule| {
            let values = draw(rule, &[40, 1000], 1, "a.name");
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / 40_000.0;
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 40_000.0;
            let greatest = values.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            (mean, square.sqrt(), f64::from(greatest))
        };
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.03;
        let (mean, std, greatest) = moments(Rule::Normal { std: 0.5 });
        assert!(mean.abs() < 0.02 && near(std, 0.5) && greatest > 1.5);
        // A standard normal within ±1 has variance 0.2911.
        let (mean, std, greatest) = moments(Rule::TruncNormal {
            std: 2.0,
            scale: 0.5,
        });
        assert!(mean.abs() < 0.02 && near(std, 0.2911_f64.sqrt()) && greatest <= 1.0);
        let (mean, std, greatest) = moments(Rule::Uniform { bound: 3.0 });
        assert!(mean.abs() < 0.06 && near(std, 3_f64.sqrt()) && greatest <= 3.0);
        let (mean, square, greatest) = moments(Rule::Unit);
        assert!(near(mean, 0.5) && near(square, 3_f64.sqrt().recip()) && greatest <= 1.0);
    }

    #[test]
    fn one_row_of_a_table_is_zero() {
        let rule = Rule::Table {
            std: 1.0,
            zero_row: 1,
        };
        let values = draw(rule, &[3, 2], 1, "a.table");
        assert_eq!(values[2..4], [0.0; 2]);
        assert!([0, 1, 4, 5].iter().all(|&i| values[i] != 0.0));
    }
}
