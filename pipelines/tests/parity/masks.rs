//! Mask samplers against statistics of the reference samplers: every file of `masks` in the parity
//! folder that describes a mask on a grid, by the criteria of that folder's README.

use std::collections::BTreeMap;

use serde_json::Value;

use understudy_pipelines::mask::{BeitBlock, InverseBlock, MaskConfig};
use understudy_pipelines::rng::SampleKey;

use crate::parity_folder;
use crate::skip::skip;

/// Masks drawn per file.
pub(crate) const N_DRAWN: usize = 20_000;

/// The statistics of the JSON files, for masks of our own.
#[derive(Default)]
struct Statistics {
    masked_count: Vec<f64>,
    position: Vec<f64>,
    pairs: BTreeMap<&'static str, Vec<f64>>,
    run_lengths: BTreeMap<usize, f64>,
}

impl Statistics {
    fn add(&mut self, mask: &[u8], grid: usize) {
        self.position.resize(mask.len(), 0.0);
        for (sum, &patch) in self.position.iter_mut().zip(mask) {
            *sum += f64::from(patch);
        }
        let count: u32 = mask.iter().map(|&patch| u32::from(patch)).sum();
        self.masked_count.push(f64::from(count));
        let at = |row: usize, column: usize| mask[row * grid + column];
        let neighbours = |value: u8, down: usize, right: usize| {
            let patches = (0..grid - down).flat_map(|r| (0..grid - right).map(move |c| (r, c)));
            let both =
                patches.filter(|&(r, c)| at(r, c) == value && at(r + down, c + right) == value);
            both.count() as f64
        };
        for (name, number) in [
            ("horizontal_masked_pairs_per_mask", neighbours(1, 0, 1)),
            ("vertical_masked_pairs_per_mask", neighbours(1, 1, 0)),
            ("horizontal_unmasked_pairs_per_mask", neighbours(0, 0, 1)),
            ("vertical_unmasked_pairs_per_mask", neighbours(0, 1, 0)),
            ("connected_components_masked_4n", components(mask, grid, 1)),
            (
                "connected_components_unmasked_4n",
                components(mask, grid, 0),
            ),
        ] {
            self.pairs.entry(name).or_default().push(number);
        }
        for row in mask.chunks(grid) {
            for run in row.split(|&patch| patch == 0).filter(|run| !run.is_empty()) {
                *self.run_lengths.entry(run.len()).or_default() += 1.0;
            }
        }
    }
}

/// Counts the groups of patches of `value` that touch along an edge.
fn components(mask: &[u8], grid: usize, value: u8) -> f64 {
    let mut seen = vec![false; mask.len()];
    let mut n_components = 0.0;
    for start in 0..mask.len() {
        if mask[start] != value || seen[start] {
            continue;
        }
        n_components += 1.0;
        seen[start] = true;
        let mut open = vec![start];
        while let Some(patch) = open.pop() {
            let (row, column) = (patch / grid, patch % grid);
            let neighbours = [
                (row > 0).then(|| patch - grid),
                (row + 1 < grid).then(|| patch + grid),
                (column > 0).then(|| patch - 1),
                (column + 1 < grid).then(|| patch + 1),
            ];
            for next in neighbours.into_iter().flatten() {
                if mask[next] == value && !seen[next] {
                    seen[next] = true;
                    open.push(next);
                }
            }
        }
    }
    n_components
}

/// Converts a file's parameters to our config; returns the side of the grid too.
fn config_of(case: &Value) -> (MaskConfig, usize) {
    let algorithm = case["algorithm"].as_str().unwrap();
    let number = |key: &str| case["parameters"][key].as_f64().unwrap();
    let grid = number("grid") as usize;
    let config = if algorithm.starts_with("BEiT") {
        assert_eq!(number("max_num_patches") as usize, grid * grid);
        MaskConfig::BeitBlock(BeitBlock {
            grid,
            n_masked: number("num_masking_patches") as usize,
            min_area: number("min_num_patches") as usize,
            min_aspect: number("min_aspect"),
        })
    } else {
        assert_eq!(case["parameters"]["inverse_mask"], true);
        MaskConfig::InverseBlock(InverseBlock {
            grid,
            n_masks: 1,
            mask_prob: number("mask_prob"),
            mask_prob_adjust: number("mask_prob_adjust"),
            block: number("mask_length") as usize,
        })
    };
    (config, grid)
}

fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>();
    (mean, (squares / values.len() as f64).sqrt())
}

/// Computes half the summed difference of two histograms, each scaled to a sum of 1.
pub(crate) fn total_variation(ours: &BTreeMap<usize, f64>, theirs: &Value) -> f64 {
    let theirs: BTreeMap<usize, f64> = theirs
        .as_object()
        .expect("a histogram")
        .iter()
        .map(|(key, n)| {
            (
                key.parse().expect("an integer"),
                n.as_f64().expect("a count"),
            )
        })
        .collect();
    let (sum_ours, sum_theirs): (f64, f64) = (ours.values().sum(), theirs.values().sum());
    let keys: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let share = |hist: &BTreeMap<usize, f64>, key, sum| hist.get(key).unwrap_or(&0.0) / sum;
    keys.into_iter()
        .map(|key| (share(ours, key, sum_ours) - share(&theirs, key, sum_theirs)).abs())
        .sum::<f64>()
        / 2.0
}

/// Checks that our mean is within five standard errors of the file's.
pub(crate) fn check_mean(
    name: &str,
    what: &str,
    ours: &[f64],
    n_ours: f64,
    theirs: &Value,
    n_theirs: f64,
) {
    let (mean, _) = mean_and_std(ours);
    let (their_mean, std) = (theirs["mean"].as_f64(), theirs["std"].as_f64());
    let (their_mean, std) = (their_mean.expect("a mean"), std.expect("a std"));
    let n_theirs = theirs["over_masks"].as_f64().unwrap_or(n_theirs);
    let allowed = 5.0 * std * (1.0 / n_theirs + 1.0 / n_ours).sqrt() + 0.01;
    assert!(
        (mean - their_mean).abs() <= allowed,
        "{name}: mean {what} is {mean}, the reference's {their_mean} ± {allowed}"
    );
}

fn check_case(name: &str, case: &Value, config: MaskConfig, grid: usize) {
    let mut ours = Statistics::default();
    let mut mask = vec![0; grid * grid];
    for sample in 0..N_DRAWN as u64 {
        config.draw(
            SampleKey {
                seed: 20,
                epoch: 0,
                sample,
            },
            &mut mask,
        );
        ours.add(&mask, grid);
    }
    let theirs = &case["statistics"];
    let n_theirs = theirs["rows"].as_f64().expect("the number of masks");

    let count = &theirs["masked_count"];
    let n_ours = N_DRAWN as f64;
    check_mean(
        name,
        "masked count",
        &ours.masked_count,
        n_ours,
        count,
        n_theirs,
    );
    let mut histogram = BTreeMap::new();
    for &n in &ours.masked_count {
        *histogram.entry(n as usize).or_insert(0.0) += 1.0;
    }
    let distance = total_variation(&histogram, &count["hist"]);
    if count["std"] == 0.0 {
        assert!(distance == 0.0, "{name}: masked counts are {histogram:?}");
        assert_eq!(
            config.n_kept(grid * grid),
            Some(grid * grid - count["mean"].as_f64().unwrap() as usize)
        );
    }
    assert!(
        distance <= 0.03,
        "{name}: masked counts are {distance} apart"
    );
    let (min, max) = (
        count["min"].as_f64().unwrap(),
        count["max"].as_f64().unwrap(),
    );
    let beyond = ours
        .masked_count
        .iter()
        .filter(|&&n| n < min || n > max)
        .count();
    assert!(
        (beyond as f64) < 1e-3 * N_DRAWN as f64,
        "{name}: {beyond} counts out of range"
    );

    for (position, p) in theirs["per_position_probability"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let p = p.as_f64().unwrap();
        let own = ours.position[position] / N_DRAWN as f64;
        let spread = (p * (1.0 - p) * (1.0 / n_theirs + 1.0 / N_DRAWN as f64)).sqrt();
        assert!(
            (own - p).abs() <= 5.5 * spread + 0.002,
            "{name}: patch {position} is masked with probability {own}, the reference's with {p}"
        );
    }
    for (what, values) in &ours.pairs {
        check_mean(name, what, values, n_ours, &theirs[*what], n_theirs);
    }
    let distance = total_variation(
        &ours.run_lengths,
        &theirs["masked_run_length_hist_along_rows"],
    );
    assert!(distance <= 0.03, "{name}: run lengths are {distance} apart");
}

/// Returns the golden files whose `algorithm` names `sampler`, by path; none, with the reason printed,
/// if there is no golden data.
pub(crate) fn golden_cases(sampler: &str) -> Vec<(String, Value)> {
    let folder = parity_folder().join("masks");
    let Ok(files) = std::fs::read_dir(&folder) else {
        skip("parity", &format!("no golden data in {}", folder.display()));
        return Vec::new();
    };
    let paths = files.map(|file| file.unwrap().path());
    let cases = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (path.display().to_string(), case)
        })
        .filter(|(_, case)| {
            let algorithm = case["algorithm"].as_str();
            algorithm.is_some_and(|algorithm| algorithm.contains(sampler))
        });
    let cases: Vec<_> = cases.collect();
    assert!(!cases.is_empty(), "no {sampler} in {}", folder.display());
    cases
}

#[test]
fn image_masks_match_reference_statistics() {
    for sampler in ["BEiT", "compute_block_mask_2d"] {
        for (name, case) in golden_cases(sampler) {
            let (config, grid) = config_of(&case);
            check_case(&name, &case, config, grid);
        }
    }
}
