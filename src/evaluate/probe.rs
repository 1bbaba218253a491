//! Linear probe: a linear classifier on frozen features.
//!
//! Multinomial logistic regression on standardised features, fitted by full-batch L-BFGS. The same
//! method serves 5 thousand and 1.3 million rows: the problem is convex, so that there is no
//! learning rate, batch size or number of epochs to tune, and results of two encoders differ by
//! their features alone. Rows go through the device in chunks; a pass over them is two products of
//! `[n, d] · [d, c]`. Only the strength of the L2 penalty is chosen, on a held-out tenth of the
//! training samples.

use std::ops::Range;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use understudy_pipelines::rng::{Purpose, Rng};

use super::features::{Features, Split};
use super::lbfgs::{Stop, minimise};

/// Strengths λ of the penalty λ / 2 · |W|² that is added to the mean loss, strongest first: each fit
/// starts at the result of the previous one.
const STRENGTHS: [f64; 8] = [10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// One sample in `HELD_OUT` is held out to choose the strength.
const HELD_OUT: usize = 10;
/// Resolution of a mean loss and its gradient in float32.
const STOP: Stop = Stop {
    gradient: 1e-4,
    decrease: 1e-7,
    iterations: 300,
};
/// Upper bound of logits on the device at a time.
const CHUNK_ELEMENTS: usize = 1 << 24;

/// Results of the probe on the validation set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// Share of rows whose class has the highest score.
    pub top1: f64,
    /// Share of rows whose class is among the five highest scores; `None` with at most five classes.
    pub top5: Option<f64>,
    /// The chosen strength of the penalty.
    pub strength: f64,
}

/// Fits to `split.train` and scores on `split.val`. `seed` chooses the held-out samples. With few
/// rows, or classes unseen in training, the penalty keeps the fit bounded.
pub fn probe(split: &Split, seed: u64, device: &Device) -> Probe {
    let n_classes = split.n_classes;
    let (shift, scale) = moments(&split.train);
    let standardise = |features: &Features| {
        let row = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device)
        };
        (features.to_device(device) - row(&shift)) * row(&scale)
    };

    // Held-out rows come last, so that fitted and held-out rows are contiguous; no sample is in both.
    let mut samples = split.train.samples();
    Rng::for_name(seed, Purpose::Order, "probe").shuffle(&mut samples);
    let n_fitted_samples = samples.len() - samples.len() / HELD_OUT;
    let n_fitted = samples[..n_fitted_samples].iter().map(Range::len).sum();
    let order: Vec<usize> = samples.into_iter().flatten().collect();
    let labels: Vec<usize> = order.iter().map(|row| split.train.labels[*row]).collect();
    let order: Vec<i64> = order.into_iter().map(|row| row as i64).collect();
    let order = Tensor::<1, Int>::from_data(TensorData::new(order, [labels.len()]), device);
    let x = standardise(&split.train).select(0, order);
    let train = Rows::new(x, &labels, n_classes);

    let n_held_out = labels.len() - n_fitted;
    let mut weights = vec![0.0; (split.train.dim + 1) * n_classes];
    let mut strength = STRENGTHS[0];
    if n_held_out > 0 {
        let fitted = train.narrow(0, n_fitted);
        let held_out = train.narrow(n_fitted, n_held_out);
        let mut lowest = f64::INFINITY;
        for candidate in STRENGTHS {
            weights = fitted.fit(weights, candidate);
            let loss = held_out.loss_and_gradient(&weights).0;
            // The held-out loss falls and then rises: weaker penalties only overfit more.
            if loss >= lowest {
                break;
            }
            (lowest, strength) = (loss, candidate);
        }
    }
    let weights = train.fit(vec![0.0; weights.len()], strength);
    let val = Rows::new(standardise(&split.val), &split.val.labels, n_classes);
    let [top1, top5] = val.accuracy(&weights, [1, 5]);
    Probe {
        top1,
        top5: (n_classes > 5).then_some(top5),
        strength,
    }
}

/// Returns mean and 1 / standard deviation of each feature (1 for a constant feature).
fn moments(features: &Features) -> (Vec<f32>, Vec<f32>) {
    let n = features.n() as f64;
    let rows = || features.values.chunks_exact(features.dim);
    let mut mean = vec![0.0; features.dim];
    for row in rows() {
        mean.iter_mut()
            .zip(row)
            .for_each(|(mean, value)| *mean += f64::from(*value) / n);
    }
    let mut variance = vec![0.0; features.dim];
    for row in rows() {
        for ((variance, mean), value) in variance.iter_mut().zip(&mean).zip(row) {
            *variance += (f64::from(*value) - mean).powi(2) / n;
        }
    }
    let scale = |(variance, mean): (&f64, &f64)| {
        // Rounding alone makes a constant feature vary by a relative 1e-7.
        let is_constant = variance.sqrt() <= 1e-6 * mean.abs();
        if is_constant {
            1.0
        } else {
            (1.0 / variance.sqrt()) as f32
        }
    };
    let scales = variance.iter().zip(&mean).map(scale).collect();
    (mean.into_iter().map(|mean| mean as f32).collect(), scales)
}

/// Rows on the device, with their labels.
struct Rows {
    /// `[n, d]`
    x: Tensor<2>,
    /// `[n, 1]`
    labels: Tensor<2, Int>,
    n_classes: usize,
}

impl Rows {
    fn new(x: Tensor<2>, labels: &[usize], n_classes: usize) -> Self {
        let labels: Vec<i64> = labels.iter().map(|label| *label as i64).collect();
        let shape = [labels.len(), 1];
        let labels = Tensor::from_data(TensorData::new(labels, shape), &x.device());
        Self {
            x,
            labels,
            n_classes,
        }
    }

    fn narrow(&self, start: usize, n: usize) -> Self {
        Self {
            x: self.x.clone().narrow(0, start, n),
            labels: self.labels.clone().narrow(0, start, n),
            n_classes: self.n_classes,
        }
    }

    fn n(&self) -> usize {
        self.x.dims()[0]
    }

    /// Returns the weights, `[d, c]` and then the intercepts `[c]`, that minimise the mean loss plus
    /// the penalty, which does not apply to the intercepts.
    fn fit(&self, start: Vec<f64>, strength: f64) -> Vec<f64> {
        let n_penalised = start.len() - self.n_classes;
        minimise(start, STOP, |weights| {
            let (mut loss, mut gradient) = self.loss_and_gradient(weights);
            for (gradient, weight) in gradient.iter_mut().zip(weights).take(n_penalised) {
                loss += 0.5 * strength * weight * weight;
                *gradient += strength * weight;
            }
            (loss, gradient)
        })
    }

    /// Returns mean cross-entropy and its gradient, without the penalty.
    fn loss_and_gradient(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let (w, b) = self.on_device(weights);
        let (mut loss, mut w_sum, mut b_sum) = (0.0, w.zeros_like(), b.zeros_like());
        for chunk in self.chunks() {
            let log_prob = log_softmax(chunk.x.clone().matmul(w.clone()) + b.clone(), 1);
            let picked = log_prob.clone().gather(1, chunk.labels.clone());
            loss -= f64::from(picked.sum().into_scalar::<f32>());
            let error = log_prob.exp() - chunk.one_hot();
            w_sum = w_sum + chunk.x.transpose().matmul(error.clone());
            b_sum = b_sum + error.sum_dim(0);
        }
        let n = self.n() as f64;
        let gradient: Vec<f32> = Tensor::cat(vec![w_sum, b_sum], 0)
            .try_into_vec_as()
            .expect("reads the device's values");
        (
            loss / n,
            gradient.into_iter().map(|g| f64::from(g) / n).collect(),
        )
    }

    /// Returns the share of rows whose class is among the highest `k` scores, for each `k`. A tie or
    /// a NaN counts as wrong.
    fn accuracy<const N: usize>(&self, weights: &[f64], k: [usize; N]) -> [f64; N] {
        let (w, b) = self.on_device(weights);
        let mut right = [0; N];
        for chunk in self.chunks() {
            let logits = chunk.x.matmul(w.clone()) + b.clone();
            let own = logits.clone().gather(1, chunk.labels);
            let ranks: Vec<i64> = logits
                .greater_equal(own)
                .int()
                .sum_dim(1)
                .try_into_vec_as()
                .expect("reads the device's values");
            for (right, k) in right.iter_mut().zip(k) {
                *right += ranks
                    .iter()
                    .filter(|rank| (1..=k as i64).contains(rank))
                    .count();
            }
        }
        right.map(|right| right as f64 / self.n() as f64)
    }

    /// Copies the weights to the device, `[d, c]` and `[1, c]`.
    fn on_device(&self, weights: &[f64]) -> (Tensor<2>, Tensor<2>) {
        let rows = weights.len() / self.n_classes;
        let weights: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
        let data = TensorData::new(weights, [rows, self.n_classes]);
        let all = Tensor::<2>::from_data(data, &self.x.device());
        (
            all.clone().narrow(0, 0, rows - 1),
            all.narrow(0, rows - 1, 1),
        )
    }

    /// Returns `[n, c]` with 1 at each row's class.
    fn one_hot(&self) -> Tensor<2> {
        let classes = Tensor::<1, Int>::arange(0..self.n_classes as i64, &self.x.device());
        let shape = [self.n(), self.n_classes];
        let classes = classes.reshape([1, self.n_classes]).expand(shape);
        self.labels.clone().expand(shape).equal(classes).float()
    }

    fn chunks(&self) -> impl Iterator<Item = Rows> {
        let chunk = (CHUNK_ELEMENTS / self.n_classes).max(1);
        let n = self.n();
        (0..n)
            .step_by(chunk)
            .map(move |start| self.narrow(start, chunk.min(n - start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `n` rows of `dim` standard normals and shifts the first two by `place(class)`; then each
    /// feature has its own scale and offset, as an encoder's.
    fn draw(
        name: &str,
        n: usize,
        dim: usize,
        n_classes: usize,
        place: fn(usize) -> [f64; 2],
    ) -> Features {
        let mut rng = Rng::for_name(1, Purpose::Order, name);
        let mut features = Features {
            values: Vec::new(),
            dim,
            labels: Vec::new(),
            of_each: None,
        };
        for i in 0..n {
            let class = i % n_classes;
            for j in 0..dim {
                let value = rng.normal() + if j < 2 { place(class)[j] } else { 0.0 };
                features
                    .values
                    .push((value * 10_f64.powi(j as i32 % 5 - 2) + j as f64) as f32);
            }
            features.labels.push(class);
        }
        features
    }

    fn split(n: usize, dim: usize, n_classes: usize, place: fn(usize) -> [f64; 2]) -> Split {
        Split {
            train: draw("train", n, dim, n_classes, place),
            val: draw("val", 4000, dim, n_classes, place),
            n_classes,
        }
    }

    #[test]
    fn separable_classes_are_separated() {
        let place = |class: usize| {
            let (sin, cos) = (class as f64 / 7.0 * std::f64::consts::TAU).sin_cos();
            [30.0 * cos, 30.0 * sin]
        };
        let found = probe(&split(700, 20, 7, place), 1, &Device::flex());
        assert_eq!((found.top1, found.top5), (1.0, Some(1.0)));
    }

    #[test]
    fn noisy_classes_are_separated_as_well_as_by_the_bayes_rule() {
        // Two normal clouds 2 apart: the best rule is right in Φ(1) = 84.13 % of cases.
        let place = |class: usize| [2.0 * class as f64, 0.0];
        let split = split(4000, 20, 2, place);
        let found = probe(&split, 1, &Device::flex());
        let standard_error = (0.8413_f64 * 0.1587 / 4000.0).sqrt();
        assert!(
            (found.top1 - 0.8413).abs() < 3.0 * standard_error,
            "{found:?}"
        );
        assert_eq!(found.top5, None);
        assert_eq!(probe(&split, 1, &Device::flex()), found, "the same seed");
    }

    #[test]
    fn penalty_is_chosen_where_features_outnumber_rows() {
        // 300 features of which two are informative, and 200 rows: without a penalty the fit is
        // perfect on its own rows and near 60 % on others.
        let place = |class: usize| [3.0 * class as f64, 3.0 * class as f64];
        let split = split(200, 300, 2, place);
        let found = probe(&split, 1, &Device::flex());
        assert!(found.strength >= 0.1 && found.top1 > 0.75, "{found:?}");
    }

    #[test]
    fn meaningless_features_score_at_chance() {
        let found = probe(&split(2000, 10, 4, |_| [0.0, 0.0]), 1, &Device::flex());
        assert!((found.top1 - 0.25).abs() < 0.025, "{found:?}");
    }

    #[test]
    fn constant_features_and_unseen_classes_are_harmless() {
        let mut split = split(60, 4, 2, |class| [20.0 * class as f64, 0.0]);
        split.n_classes = 3;
        for features in [&mut split.train, &mut split.val] {
            features
                .values
                .chunks_exact_mut(4)
                .for_each(|row| row[3] = 0.1);
        }
        assert!(probe(&split, 1, &Device::flex()).top1 >= 1.0);
    }

    /// Frames of an utterance are similar: if they were held out one by one, their neighbours would
    /// reveal them, and a penalty that is far too weak would seem best.
    #[test]
    fn samples_are_held_out_with_all_their_rows() {
        let (n_samples, n_rows, dim) = (60, 20, 50);
        let mut rng = Rng::for_name(1, Purpose::Order, "recordings");
        let mut features = |n_samples: usize| {
            let samples: Vec<Vec<f32>> = (0..n_samples)
                .map(|_| (0..dim).map(|_| rng.normal() as f32).collect())
                .collect();
            let rows = samples.iter().flat_map(|row| row.repeat(n_rows));
            Features {
                values: rows.collect(),
                dim,
                labels: (0..n_samples * n_rows)
                    .map(|row| row / n_rows % 2)
                    .collect(),
                of_each: Some(vec![n_rows; n_samples]),
            }
        };
        let mut split = Split {
            train: features(n_samples),
            val: features(5),
            n_classes: 2,
        };
        // The features carry no information on the labels.
        let strength = |split: &Split| probe(split, 1, &Device::flex()).strength;
        assert!(strength(&split) >= 1.0, "{}", strength(&split));
        split.train.of_each = None;
        assert!(strength(&split) <= 0.1, "{}", strength(&split));
    }

    #[test]
    fn gradient_matches_finite_differences() {
        let split = split(50, 3, 3, |class| [class as f64, 0.0]);
        let x = split.train.to_device(&Device::flex());
        let rows = Rows::new(x, &split.train.labels, 3);
        let weights: Vec<f64> = (0..12).map(|i| 0.1 * f64::from(i % 5) - 0.2).collect();
        let (_, gradient) = rows.loss_and_gradient(&weights);
        for i in 0..12 {
            let loss = |by: f64| {
                let mut moved = weights.clone();
                moved[i] += by;
                rows.loss_and_gradient(&moved).0
            };
            let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!(
                (slope - gradient[i]).abs() < 1e-3 * (1.0 + slope.abs()),
                "{i}: {slope}"
            );
        }
    }

    #[cfg(feature = "libtorch")]
    #[test]
    fn libtorch_and_flex_agree() {
        let split = split(1000, 20, 6, |class| [class as f64, -(class as f64)]);
        let flex = probe(&split, 1, &Device::flex());
        let libtorch = probe(&split, 1, &crate::libtorch::cpu());
        assert!((flex.strength - libtorch.strength).abs() < 1e-12);
        assert!(
            (flex.top1 - libtorch.top1).abs() < 0.003,
            "{flex:?} {libtorch:?}"
        );
    }
}
