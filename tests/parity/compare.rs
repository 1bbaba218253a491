//! Comparisons that collect all differences instead of stopping at the first.

use std::collections::BTreeSet;

use burn::tensor::Tensor;

use crate::case::{Case, Golden, Goldens};
use crate::say;

/// The comparisons of one case.
pub(crate) struct Comparison<'a> {
    case: &'a Case,
    expected: &'a Goldens,
    problems: Vec<String>,
    n_compared: usize,
    compared: BTreeSet<String>,
    /// The greatest error over its tolerance, and the name of its tensor.
    worst: (f64, String),
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(case: &'a Case, expected: &'a Goldens) -> Self {
        Self {
            case,
            expected,
            problems: Vec::new(),
            n_compared: 0,
            compared: BTreeSet::new(),
            worst: (0.0, String::new()),
        }
    }

    /// Compares with the golden tensor `name`; allows `rel_to_max`·max|expected| + `abs` of `group`.
    pub(crate) fn tensor<const D: usize>(&mut self, name: &str, group: &str, found: Tensor<D>) {
        let Some(expected) = self.expected.get(name) else {
            self.problems.push(format!("{name}: no such golden tensor"));
            return;
        };
        let allowed = self.case.tolerance(group, "rel_to_max") * expected.max_abs()
            + self.case.tolerance(group, "abs");
        self.values(name, expected, &values(found), allowed);
    }

    /// Compares as [`Self::tensor`] if the file has a tensor `name`.
    pub(crate) fn tensor_if_any<const D: usize>(
        &mut self,
        name: &str,
        group: &str,
        found: Tensor<D>,
    ) {
        if self.expected.contains_key(name) {
            self.tensor(name, group, found);
        }
    }

    /// Compares `[B, T, D]` as [`Self::tensor_if_any`], without positions that are padding (`[B, T]`,
    /// 1 = padding): values there are undefined.
    pub(crate) fn positions_if_any(
        &mut self,
        name: &str,
        group: &str,
        found: Tensor<3>,
        padding: Option<&Tensor<2>>,
    ) {
        let Some(expected) = self.expected.get(name) else {
            return;
        };
        let Some(padding) = padding else {
            return self.tensor(name, group, found);
        };
        let dim = expected.shape[2];
        let allowed = self.case.tolerance(group, "rel_to_max") * expected.max_abs()
            + self.case.tolerance(group, "abs");
        let is_padding = values(padding.clone());
        let valid = |all: &[f64]| -> Vec<f64> {
            let positions = all.chunks_exact(dim).zip(&is_padding);
            let valid = positions.filter(|(_, padding)| **padding == 0.0);
            valid.flat_map(|(position, _)| position).copied().collect()
        };
        let expected = Golden {
            shape: vec![],
            values: valid(&expected.values),
        };
        self.values(name, &expected, &valid(&values(found)), allowed);
    }

    /// Compares with the golden number `name`; allows `rel` of `group`.
    pub(crate) fn scalar(&mut self, name: &str, group: &str, found: f64) {
        let Some(expected) = self.expected.get(name) else {
            self.problems.push(format!("{name}: no such golden number"));
            return;
        };
        let allowed = self.case.tolerance(group, "rel") * expected.max_abs();
        self.values(name, expected, &[found], allowed);
    }

    /// Compares with the golden numbers `name`; allows `rel` of the greatest for all.
    pub(crate) fn scalars(&mut self, name: &str, group: &str, found: &[f64]) {
        let expected = &self.expected[name];
        let allowed = self.case.tolerance(group, "rel") * expected.max_abs();
        self.values(name, expected, found, allowed);
    }

    /// The golden tensor `name`, if the file has it.
    pub(crate) fn expected(&self, name: &str) -> Option<&'a Golden> {
        self.expected.get(name)
    }

    /// Compares values with a golden tensor.
    pub(crate) fn values(&mut self, name: &str, expected: &Golden, found: &[f64], allowed: f64) {
        self.n_compared += 1;
        self.compared.insert(name.to_owned());
        if found.len() != expected.values.len() {
            let [found, expected] = [found.len(), expected.values.len()];
            self.problems
                .push(format!("{name}: {found} values, expected {expected}"));
            return;
        }
        let error = worst_error(&expected.values, found);
        let share = error / allowed;
        if share > 1.0 || share.is_nan() {
            self.problems.push(format!(
                "{name}: off by {error:.2e}, {allowed:.2e} is allowed"
            ));
        }
        if share > self.worst.0 {
            self.worst = (share, name.to_owned());
        }
    }

    pub(crate) fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        self.n_compared += 1;
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Requires that every golden tensor was compared, except those for which `known` is true.
    pub(crate) fn require_all(&mut self, known: impl Fn(&str) -> bool) {
        for name in self.expected.keys() {
            if !self.compared.contains(name) && !known(name) {
                self.problems.push(format!("{name}: not compared"));
            }
        }
    }

    /// Panics with all differences, if there are any.
    pub(crate) fn finish(self) {
        let Self {
            problems,
            n_compared,
            worst: (share, name),
            ..
        } = self;
        assert!(n_compared > 0, "nothing was compared");
        assert!(
            problems.is_empty(),
            "{}: {} of {n_compared} comparisons fail\n{}",
            self.case.name(),
            problems.len(),
            problems.join("\n")
        );
        say(&format!(
            "  {n_compared} comparisons, worst {:.0} % of its tolerance: {name}",
            share * 100.0
        ));
    }
}

/// Copies a tensor's values to the host.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.inner().into_data().iter::<f64>().collect()
}

/// Returns the greatest absolute difference, or NaN if one is NaN.
pub(crate) fn worst_error(expected: &[f64], found: &[f64]) -> f64 {
    let differences = expected
        .iter()
        .zip(found)
        .map(|(expected, found)| (expected - found).abs());
    differences.fold(0.0, |worst, error| {
        if error > worst || error.is_nan() {
            error
        } else {
            worst
        }
    })
}
