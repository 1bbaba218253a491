//! k-NN classification by cosine similarity (Wu et al. 2018; Caron et al. 2021).

use burn::tensor::{Device, Tensor};

use super::features::{Features, Split};

/// Number of neighbours that vote.
const K: usize = 20;
/// A neighbour's vote is exp(cosine / temperature).
const TEMPERATURE: f64 = 0.07;
/// Upper bound of similarities on the device at a time.
const CHUNK_ELEMENTS: usize = 1 << 26;

/// Accuracies on the validation set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knn {
    /// Accuracy of the weighted vote of 20 neighbours.
    pub top1: f64,
    /// Accuracy of the nearest neighbour alone.
    pub nearest_top1: f64,
}

/// Classifies `split.val` by its neighbours in `split.train`. Nothing is fitted or chosen.
///
/// Ties between neighbours go to the earlier row, ties between classes to the lower index.
pub fn knn(split: &Split, device: &Device) -> Knn {
    let Split {
        train,
        val,
        n_classes,
    } = split;
    let keys = unit_rows(train, device).transpose();
    let queries = unit_rows(val, device);
    let chunk = (CHUNK_ELEMENTS / train.n()).max(1);
    let (mut n_voted, mut n_nearest) = (0, 0);
    for start in (0..val.n()).step_by(chunk) {
        let n = chunk.min(val.n() - start);
        let similarities = queries.clone().narrow(0, start, n).matmul(keys.clone());
        let rows = nearest(similarities);
        for (neighbours, label) in rows.iter().zip(&val.labels[start..]) {
            n_voted += usize::from(vote(neighbours, &train.labels, *n_classes) == *label);
            n_nearest += usize::from(train.labels[neighbours[0].1] == *label);
        }
    }
    let share = |right: usize| right as f64 / val.n() as f64;
    Knn {
        top1: share(n_voted),
        nearest_top1: share(n_nearest),
    }
}

/// Scales rows to length one.
fn unit_rows(features: &Features, device: &Device) -> Tensor<2> {
    let rows = features.to_device(device);
    let lengths = rows.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    rows / lengths
}

/// Returns similarity and index of the nearest rows of each query, nearest first.
fn nearest(similarities: Tensor<2>) -> Vec<Vec<(f32, usize)>> {
    let [_, n] = similarities.dims();
    let read = |values: Tensor<2>| -> Vec<f32> {
        values.try_into_vec_as().expect("reads the device's values")
    };
    let (k, values, indices) = if n > K {
        let indices = similarities.clone().argtopk(K, 1);
        let values = read(similarities.gather(1, indices.clone()));
        let indices: Vec<i64> = indices
            .try_into_vec_as()
            .expect("reads the device's values");
        (K, values, indices)
    } else {
        let values = read(similarities);
        let indices = (0..values.len()).map(|i| (i % n) as i64).collect();
        (n, values, indices)
    };
    let sorted = |(values, indices): (&[f32], &[i64])| {
        let mut row: Vec<(f32, usize)> = values
            .iter()
            .zip(indices)
            .map(|(value, index)| (*value, *index as usize))
            .collect();
        row.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        row
    };
    values
        .chunks(k)
        .zip(indices.chunks(k))
        .map(sorted)
        .collect()
}

/// Returns the class with the largest sum of votes.
fn vote(neighbours: &[(f32, usize)], labels: &[usize], n_classes: usize) -> usize {
    let mut votes = vec![0.0; n_classes];
    for (similarity, row) in neighbours {
        votes[labels[*row]] += (f64::from(*similarity) / TEMPERATURE).exp();
    }
    let mut best = 0;
    for class in 1..n_classes {
        if votes[class] > votes[best] {
            best = class;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rows: &[([f32; 2], usize)]) -> Features {
        Features {
            values: rows.iter().flat_map(|(row, _)| *row).collect(),
            dim: 2,
            labels: rows.iter().map(|(_, label)| *label).collect(),
            of_each: None,
        }
    }

    /// Returns the point at `degrees` on a circle of `radius`.
    fn at(degrees: f32, radius: f32) -> [f32; 2] {
        let (sin, cos) = degrees.to_radians().sin_cos();
        [radius * cos, radius * sin]
    }

    #[test]
    fn only_direction_matters() {
        // By distance the query would belong to class 1.
        let train = features(&[(at(0.0, 100.0), 0), (at(40.0, 1.0), 1)]);
        let val = features(&[(at(10.0, 1.0), 0)]);
        let split = Split {
            train,
            val,
            n_classes: 2,
        };
        let perfect = Knn {
            top1: 1.0,
            nearest_top1: 1.0,
        };
        assert_eq!(knn(&split, &Device::flex()), perfect);
    }

    #[test]
    fn many_near_rows_outvote_the_nearest_and_far_rows_do_not() {
        // 30 rows, so that ten of them do not vote.
        let mut rows = vec![(at(0.0, 1.0), 0)];
        rows.extend((0..9).map(|i| (at(10.0 + i as f32 * 0.1, 1.0), 1)));
        rows.extend((0..20).map(|i| (at(80.0 + i as f32 * 0.1, 1.0), 0)));
        let val = features(&[(at(2.0, 1.0), 1), (at(2.0, 1.0), 0)]);
        let split = Split {
            train: features(&rows),
            val,
            n_classes: 2,
        };
        assert_eq!(
            knn(&split, &Device::flex()),
            Knn {
                top1: 0.5,
                nearest_top1: 0.5
            }
        );
        let votes = knn(
            &Split {
                val: features(&[(at(2.0, 1.0), 1)]),
                ..split
            },
            &Device::flex(),
        );
        assert_eq!(
            votes,
            Knn {
                top1: 1.0,
                nearest_top1: 0.0
            }
        );
    }

    #[test]
    fn ties_go_to_the_earlier_row_and_the_lower_class() {
        let train = features(&[(at(0.0, 1.0), 1), (at(0.0, 1.0), 0)]);
        let val = features(&[(at(0.0, 1.0), 0)]);
        let split = Split {
            train,
            val,
            n_classes: 2,
        };
        assert_eq!(
            knn(&split, &Device::flex()),
            Knn {
                top1: 1.0,
                nearest_top1: 0.0
            }
        );
    }
}
