//! Checks of the sizes and probabilities in `[model]`.

/// Upper bound of a width. Products of two bounded sizes do not overflow.
pub(crate) const MOST_WIDTH: usize = 65_536;
/// Upper bound of a number of layers.
pub(crate) const MOST_LAYERS: usize = 1024;
/// Upper bound of a vocabulary, and of the tokens of a row.
pub(crate) const MOST_TOKENS: usize = 10_000_000;
/// Upper bound of the parameters of one kind of layer: 80 GB.
const MOST_PARAMETERS: f64 = 2e10;

/// Collects a message for every check that fails.
#[derive(Default)]
pub(crate) struct Check {
    pub(crate) problems: Vec<String>,
}

impl Check {
    pub(crate) fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    pub(crate) fn positive(&mut self, key: &str, value: usize) {
        self.require(value > 0, || format!("{key} is 0"));
    }

    /// Refuses sizes that no model has, before anything of that size is computed or allocated.
    pub(crate) fn at_most(&mut self, key: &str, value: usize, most: usize) {
        self.require(value <= most, || {
            format!("{key} {value} is more than {most}")
        });
    }

    /// Refuses `n` parameters of `layers`, whose sizes are the product of several keys.
    pub(crate) fn parameters(&mut self, layers: &str, n: f64) {
        self.require(n <= MOST_PARAMETERS, || {
            format!("{layers} have {n:.0e} parameters, more than {MOST_PARAMETERS:.0e}")
        });
    }

    pub(crate) fn odd(&mut self, key: &str, value: usize) {
        self.require(value % 2 == 1, || format!("{key} {value} is not odd"));
    }

    pub(crate) fn prob(&mut self, key: &str, prob: f64) {
        self.require((0.0..1.0).contains(&prob), || {
            format!("{key} {prob} is not in [0, 1)")
        });
    }

    pub(crate) fn divides(&mut self, (key, divisor): (&str, usize), (of, number): (&str, usize)) {
        self.require(
            divisor > 0 && number > 0 && number.is_multiple_of(divisor),
            || format!("{key} {divisor} does not divide {of} {number}"),
        );
    }
}
