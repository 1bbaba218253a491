//! Checks of the sizes and probabilities in `[model]`.

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
