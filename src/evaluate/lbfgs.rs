//! Limited-memory BFGS (Liu & Nocedal 1989) with a bisection line search (Lewis & Overton 2013).

use std::collections::VecDeque;

/// Pairs of step and gradient change from which the curvature is estimated.
const HISTORY: usize = 10;
/// Armijo's and Wolfe's constants.
const C1: f64 = 1e-4;
const C2: f64 = 0.9;
/// Upper bound of evaluations along one direction; beyond it, rounding dominates.
const MAX_TRIALS: usize = 20;

/// Criteria at which the search stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Largest absolute gradient component that counts as zero.
    pub gradient: f64,
    /// Smallest relative decrease of the value per iteration.
    pub decrease: f64,
    /// Upper bound of iterations.
    pub iterations: usize,
}

/// A point with its value and gradient.
struct Point {
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// Finds a minimum of a smooth function from `start`. The function returns value and gradient.
pub(super) fn minimise(
    start: Vec<f64>,
    stop: Stop,
    mut function: impl FnMut(&[f64]) -> (f64, Vec<f64>),
) -> Vec<f64> {
    let (value, gradient) = function(&start);
    let mut point = Point {
        x: start,
        value,
        gradient,
    };
    let mut history = VecDeque::with_capacity(HISTORY);
    for _ in 0..stop.iterations {
        if point.gradient.iter().all(|g| g.abs() <= stop.gradient) {
            break;
        }
        let direction = direction(&point.gradient, &history);
        let Some(next) = search(&point, &direction, &mut function) else {
            break;
        };
        let step = subtract(&next.x, &point.x);
        let change = subtract(&next.gradient, &point.gradient);
        if dot(&step, &change) > 0.0 {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back((step, change));
        }
        let is_flat = point.value - next.value <= stop.decrease * next.value.abs();
        point = next;
        if is_flat {
            break;
        }
    }
    point.x
}

/// Returns minus the estimated inverse Hessian times the gradient, by the two-loop recursion.
fn direction(gradient: &[f64], history: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut d: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(history.len());
    for (step, change) in history.iter().rev() {
        let share = dot(step, &d) / dot(step, change);
        add(&mut d, -share, change);
        shares.push(share);
    }
    let scale = match history.back() {
        Some((step, change)) => dot(step, change) / dot(change, change),
        None => 1.0 / dot(gradient, gradient).sqrt(), // A first step of length one.
    };
    for value in &mut d {
        *value *= scale;
    }
    for ((step, change), share) in history.iter().zip(shares.into_iter().rev()) {
        let share = share - dot(change, &d) / dot(step, change);
        add(&mut d, share, step);
    }
    d
}

/// Searches along `direction` for a point that satisfies Armijo's and Wolfe's conditions; returns
/// one that satisfies the first, or `None`, if there is none.
fn search(
    from: &Point,
    direction: &[f64],
    function: &mut impl FnMut(&[f64]) -> (f64, Vec<f64>),
) -> Option<Point> {
    let slope = dot(&from.gradient, direction);
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, 1.0);
    let mut lower = None;
    for _ in 0..MAX_TRIALS {
        let mut x = from.x.clone();
        add(&mut x, length, direction);
        let (value, gradient) = function(&x);
        let slope_here = dot(&gradient, direction);
        let is_lower = value <= from.value + C1 * length * slope;
        if is_lower {
            low = length;
            lower = Some(Point { x, value, gradient });
            if slope_here >= C2 * slope {
                break;
            }
        } else {
            high = length;
        }
        length = if high.is_finite() {
            f64::midpoint(low, high)
        } else {
            2.0 * low
        };
    }
    lower
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn subtract(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn add(to: &mut [f64], scale: f64, what: &[f64]) {
    to.iter_mut()
        .zip(what)
        .for_each(|(to, what)| *to += scale * what);
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop {
        gradient: 1e-8,
        decrease: 0.0,
        iterations: 500,
    };

    #[test]
    fn rosenbrock_function_is_minimised() {
        let mut calls = 0;
        let found = minimise(vec![-1.2, 1.0], STOP, |x| {
            calls += 1;
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (
                a * a + 100.0 * b * b,
                vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b],
            )
        });
        assert!(
            (found[0] - 1.0).abs() < 1e-6 && (found[1] - 1.0).abs() < 1e-6,
            "{found:?}"
        );
        assert!(
            calls < 100,
            "{calls} calls: quasi-Newton steps need about 50"
        );
    }

    #[test]
    fn ill_conditioned_quadratic_is_minimised() {
        let scales: Vec<f64> = (0..50)
            .map(|i| 10_f64.powf(f64::from(i) / 49.0 * 3.0))
            .collect();
        let found = minimise(vec![1.0; 50], STOP, |x| {
            let gradient: Vec<f64> = x.iter().zip(&scales).map(|(x, s)| s * (x - 3.0)).collect();
            let value = x
                .iter()
                .zip(&gradient)
                .map(|(x, g)| 0.5 * g * (x - 3.0))
                .sum();
            (value, gradient)
        });
        assert!(found.iter().all(|x| (x - 3.0).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn start_is_returned_if_the_function_is_nowhere_lower() {
        assert_eq!(minimise(vec![2.0], STOP, |_| (f64::NAN, vec![1.0])), [2.0]);
    }
}
