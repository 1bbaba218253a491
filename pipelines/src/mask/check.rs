//! Helpers that check the keys of a mask.

/// Returns the messages of the conditions that do not hold, in order.
pub(super) fn failed<const N: usize>(conditions: [(bool, String); N]) -> Vec<String> {
    conditions
        .into_iter()
        .filter_map(|(holds, problem)| (!holds).then_some(problem))
        .collect()
}

/// Most patches per side of a grid; beyond it, counts of patches could overflow.
const MAX_GRID: usize = 1024;

/// Returns the problem of a grid that is too large for the other conditions to be computed.
pub(super) fn grid(grid: usize) -> Option<Vec<String>> {
    let problem = || format!("grid: must be in 1..={MAX_GRID}, is {grid}");
    (!(1..=MAX_GRID).contains(&grid)).then(|| vec![problem()])
}

/// A condition: at least one mask per sample.
pub(super) fn n_masks(n_masks: usize) -> (bool, String) {
    (n_masks > 0, "n_masks: must be at least 1".to_owned())
}

/// A condition: a share strictly between 0 and 1.
pub(super) fn share(key: &str, value: f64) -> (bool, String) {
    let holds = 0.0 < value && value < 1.0;
    (holds, format!("{key}: must be in (0, 1), is {value}"))
}

/// A condition: a share from 0 to 1, both included.
pub(super) fn adjust(key: &str, value: f64) -> (bool, String) {
    let holds = (0.0..=1.0).contains(&value);
    (holds, format!("{key}: must be in [0, 1], is {value}"))
}
