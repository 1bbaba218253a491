//! Mask samplers for audio and text: every file of `masks` that describes a mask on a sequence.

use std::collections::BTreeMap;

use serde_json::Value;

use understudy_pipelines::mask::{Bert, Blocks, TokenSpans, Tokens, spans};
use understudy_pipelines::rng::{Purpose, Rng, SampleKey};
use understudy_pipelines::tokenize::SpecialTokens;

use crate::masks::{N_DRAWN, check_mean, golden_cases, total_variation};

/// The statistics of the JSON files, for masks of our own.
struct Statistics {
    masked_count: Vec<f64>,
    position: Vec<f64>,
    /// Maximal runs of unmasked and of masked positions: length to number.
    runs: [BTreeMap<usize, f64>; 2],
    masked_runs: Vec<f64>,
}

impl Statistics {
    /// Counts masks `[rows, length]`; runs are counted in each row's first `valid` positions.
    fn of<'a>(length: usize, rows: impl Iterator<Item = (&'a [u8], usize)>) -> Statistics {
        let mut statistics = Statistics {
            masked_count: Vec::new(),
            position: vec![0.0; length],
            runs: Default::default(),
            masked_runs: Vec::new(),
        };
        for (mask, valid) in rows {
            let mut masked_runs = 0.0;
            for run in mask[..valid].chunk_by(|a, b| a == b) {
                *statistics.runs[usize::from(run[0])]
                    .entry(run.len())
                    .or_default() += 1.0;
                masked_runs += f64::from(run[0]);
            }
            statistics.masked_runs.push(masked_runs);
            let count: u32 = mask.iter().map(|&masked| u32::from(masked)).sum();
            statistics.masked_count.push(f64::from(count));
            for (sum, &masked) in statistics.position.iter_mut().zip(mask) {
                *sum += f64::from(masked);
            }
        }
        statistics
    }

    /// Compares with the `statistics` of a file whose rows were drawn `batch` at a time.
    fn check(&self, name: &str, theirs: &Value, batch: usize) {
        // Rows of one batch have the same count: they are one draw of it.
        let n_theirs = theirs["rows"].as_f64().unwrap();
        let n_ours = self.masked_count.len() as f64;
        let (calls_theirs, calls_ours) = (n_theirs / batch as f64, n_ours / batch as f64);
        let count = &theirs["masked_count"];
        for (what, ours, theirs) in [
            ("masked count", &self.masked_count, count),
            (
                "number of runs",
                &self.masked_runs,
                &theirs["masked_runs_per_row"],
            ),
        ] {
            check_mean(name, what, ours, calls_ours, theirs, calls_theirs);
        }
        let distance = self.count_distance(&count["hist"]);
        if count["std"] == 0.0 {
            assert!(distance == 0.0, "{name}: another masked count occurs");
        }
        // Kolmogorov and Smirnov's bound at p = 1e-4.
        let allowed = 2.23 * (1.0 / calls_theirs + 1.0 / calls_ours).sqrt();
        assert!(
            distance <= allowed,
            "{name}: masked counts are {distance} apart, {allowed} allowed"
        );

        let probabilities = theirs["per_position_probability"].as_array().unwrap();
        assert_eq!(probabilities.len(), self.position.len());
        for (position, (p, sum)) in probabilities.iter().zip(&self.position).enumerate() {
            let (p, own) = (p.as_f64().unwrap(), sum / n_ours);
            let spread = (p * (1.0 - p) * (1.0 / n_theirs + 1.0 / n_ours)).sqrt();
            assert!(
                (own - p).abs() <= 5.5 * spread + 0.002,
                "{name}: position {position} is masked with probability {own}, the reference's \
                 with {p}"
            );
        }
        for (runs, key) in self
            .runs
            .iter()
            .zip(["unmasked_run_length_hist", "masked_run_length_hist"])
        {
            let distance = total_variation(runs, &theirs[key]);
            assert!(distance <= 0.03, "{name}: {key} is {distance} apart");
        }
    }

    /// Returns the largest difference of the two cumulative distributions of the masked count.
    fn count_distance(&self, theirs: &Value) -> f64 {
        let theirs = theirs.as_object().unwrap();
        let mut steps: BTreeMap<usize, f64> = BTreeMap::new();
        for &count in &self.masked_count {
            *steps.entry(count as usize).or_default() += 1.0 / self.masked_count.len() as f64;
        }
        let n: f64 = theirs.values().map(|n| n.as_f64().unwrap()).sum();
        for (count, rows) in theirs {
            let rows = rows.as_f64().unwrap();
            *steps.entry(count.parse().unwrap()).or_default() -= rows / n;
        }
        let mut sum = 0.0;
        let differences = steps.values().map(|step| {
            sum += step;
            f64::abs(sum)
        });
        let largest = differences.fold(0.0, f64::max);
        if largest < 1e-9 { 0.0 } else { largest } // Sums of tenths are never quite equal.
    }
}

fn key(sample: u64) -> SampleKey {
    SampleKey {
        seed: 20,
        epoch: 0,
        sample,
    }
}

fn number(case: &Value, name: &str) -> f64 {
    case["parameters"][name].as_f64().unwrap()
}

fn size(case: &Value, name: &str) -> usize {
    number(case, name) as usize
}

/// Draws one mask per sample and compares.
fn check_rows(name: &str, statistics: &Value, length: usize, draw: impl Fn(&mut Rng, &mut [u8])) {
    let mut masks = vec![0; N_DRAWN * length];
    for (sample, mask) in masks.chunks_mut(length).enumerate() {
        let mut rng = Rng::for_sample(key(sample as u64), Purpose::Mask, 0);
        draw(&mut rng, mask);
    }
    let rows = masks.chunks(length).map(|mask| (mask, length));
    Statistics::of(length, rows).check(name, statistics, 1);
}

#[test]
fn span_masks_match_reference_statistics() {
    for (name, case) in golden_cases("compute_mask_indices") {
        let (batch, length) = (size(&case, "batch"), size(&case, "length"));
        let valid = match case["parameters"]["valid_lengths"].as_array() {
            Some(lengths) => lengths
                .iter()
                .map(|length| length.as_u64().unwrap() as usize)
                .collect(),
            None => vec![length; batch],
        };
        let n_calls = N_DRAWN.div_ceil(batch);
        let mut masks = vec![0; n_calls * batch * length];
        for (call, masks) in masks.chunks_mut(batch * length).enumerate() {
            let keys: Vec<SampleKey> = (0..batch)
                .map(|row| key((call * batch + row) as u64))
                .collect();
            for ((mask, key), &valid) in masks.chunks_mut(length).zip(&keys).zip(&valid) {
                spans::draw_spans(
                    number(&case, "mask_prob"),
                    size(&case, "mask_length"),
                    size(&case, "min_masks"),
                    &mut Rng::for_sample(*key, Purpose::Mask, 0),
                    &mut mask[..valid],
                );
            }
            assert_eq!(case["parameters"]["require_same_masks"], true);
            spans::equalise(masks, length, &keys);
        }
        let rows = masks.chunks(length).zip(valid.iter().copied().cycle());
        Statistics::of(length, rows).check(&name, &case["statistics"], batch);
    }
}

#[test]
fn block_masks_match_reference_statistics() {
    for (name, case) in golden_cases("compute_block_mask_1d") {
        assert_eq!(case["parameters"]["inverse_mask"], false);
        let blocks = Blocks {
            n_masks: 1,
            prob: number(&case, "mask_prob"),
            prob_adjust: number(&case, "mask_prob_adjust"),
            block: size(&case, "mask_length"),
        };
        let length = size(&case, "length");
        check_rows(&name, &case["statistics"], length, |rng, mask| {
            blocks.draw(rng, mask);
        });
    }
}

#[test]
fn random_token_masks_match_reference_statistics() {
    for (name, case) in golden_cases("random_masking") {
        let tokens = Tokens {
            n_masks: 1,
            prob: number(&case, "mask_prob"),
        };
        let length = size(&case, "length");
        check_rows(&name, &case["statistics"], length, |rng, mask| {
            tokens.draw(rng, mask);
        });
    }
}

#[test]
fn token_span_and_bert_masks_match_reference_statistics() {
    for (name, case) in golden_cases("MaskTokensDataset") {
        let (length, span) = (size(&case, "length"), size(&case, "mask_multiple_length"));
        let prob = number(&case, "mask_prob");
        let spans = TokenSpans { prob, length: span };
        // Ids from 4 on are ordinary; `<mask>` is the last.
        let n_ids = number(&case, "vocabulary") as u32;
        let special = SpecialTokens {
            bos: 0,
            pad: 1,
            eos: 2,
            unk: 3,
            mask: n_ids,
            vocab_size: n_ids + 1,
        };
        check_rows(&name, &case["chosen_statistics"], length, |rng, mask| {
            spans.draw(&special, rng, &mut vec![4; length], mask);
        });
        let random_share = number(&case, "random_token_prob");
        let kept_share = number(&case, "leave_unmasked_prob");
        if random_share + kept_share <= 0.0 {
            continue;
        }
        assert_eq!(span, 1);
        let bert = Bert {
            prob,
            mask: 1.0 - random_share - kept_share,
            random: random_share,
        };
        let n_random = std::cell::RefCell::new(Vec::new());
        check_rows(&name, &case["statistics"], length, |rng, mask| {
            // An id that is never drawn, so that random tokens can be counted.
            let mut tokens = vec![n_ids + 1; length];
            bert.draw(&special, rng, &mut tokens, mask);
            for (&token, &masked) in tokens.iter().zip(&*mask) {
                assert_eq!(token == special.mask, masked == 1);
            }
            let random = tokens.iter().filter(|&&token| (4..n_ids).contains(&token));
            n_random.borrow_mut().push(random.count() as f64);
        });
        let theirs = serde_json::json!({
            "mean": case["kinds_mean_per_row"]["replaced_by_random"],
            "std": case["kinds_std_per_row"]["replaced_by_random"],
        });
        let (n_ours, n_theirs) = (N_DRAWN as f64, 20_000.0);
        check_mean(
            &name,
            "number of random tokens",
            &n_random.into_inner(),
            n_ours,
            &theirs,
            n_theirs,
        );
    }
}
