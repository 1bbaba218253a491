//! Positions of patches: fixed sin-cos embeddings and learned relative biases.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::parameter::parameter;

/// Returns fixed position embeddings of a square grid, `[grid², dim]` (MAE; data2vec 2.0).
///
/// Channels: sine and cosine of the column, then sine and cosine of the row, a quarter each, with
/// frequencies 10000^(−k / (dim / 4)).
pub fn sin_cos_positions(grid: usize, dim: usize, device: &Device) -> Tensor<2> {
    let quarter = dim / 4;
    let frequencies: Vec<f64> = (0..quarter)
        .map(|k| 10_000_f64.powf(-(k as f64) / quarter as f64))
        .collect();
    let mut values = Vec::with_capacity(grid * grid * dim);
    for row in 0..grid {
        for column in 0..grid {
            for position in [column, row] {
                let angles = frequencies
                    .iter()
                    .map(|frequency| position as f64 * frequency);
                values.extend(angles.clone().map(|angle| angle.sin() as f32));
                values.extend(angles.map(|angle| angle.cos() as f32));
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [grid * grid, dim]), device)
}

/// A learned bias of attention logits by relative position (BEiT; data2vec 1.0).
#[derive(Module, Debug)]
pub struct RelativePositionBias {
    /// `[(2·grid − 1)² + 3, H]`: one row per offset of two patches, then class token → patch,
    /// patch → class token and class token → itself.
    relative_position_bias_table: Param<Tensor<2>>,
    /// The table row of each pair of tokens, `[S²]`; S = grid² + 1, the class token first.
    index: Tensor<1, Int>,
}

impl RelativePositionBias {
    /// The bias of a square grid of patches and a class token, without values.
    pub fn new(grid: usize, n_heads: usize, device: &Device) -> Self {
        let n_rows = (2 * grid - 1).pow(2) + 3;
        let index: Vec<i64> = relative_position_index(grid)
            .iter()
            .map(|&row| row as i64)
            .collect();
        let n_pairs = index.len();
        Self {
            relative_position_bias_table: parameter([n_rows, n_heads], device),
            index: Tensor::from_data(TensorData::new(index, [n_pairs]), device),
        }
    }

    /// Returns the bias of the attention logits, `[1, H, S, S]`.
    pub fn forward(&self) -> Tensor<4> {
        let table = self.relative_position_bias_table.val();
        let [_, n_heads] = table.dims();
        let [n_pairs] = self.index.dims();
        let n_tokens = n_pairs.isqrt();
        table
            .select(0, self.index.clone())
            .reshape([n_tokens, n_tokens, n_heads])
            .permute([2, 0, 1])
            .unsqueeze()
    }
}

/// Returns the table row of each pair of tokens, row-major by (query, key).
fn relative_position_index(grid: usize) -> Vec<usize> {
    let offsets = 2 * grid - 1;
    let class_rows = offsets * offsets;
    let n_tokens = grid * grid + 1;
    let mut index = Vec::with_capacity(n_tokens * n_tokens);
    for query in 0..n_tokens {
        for key in 0..n_tokens {
            index.push(match (query.checked_sub(1), key.checked_sub(1)) {
                (None, None) => class_rows + 2,
                (None, Some(_)) => class_rows,
                (Some(_), None) => class_rows + 1,
                (Some(query), Some(key)) => {
                    let row = query / grid + grid - 1 - key / grid;
                    let column = query % grid + grid - 1 - key % grid;
                    row * offsets + column
                }
            });
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_position_index_matches_beit() {
        // The reference's values for a 14 × 14 grid (data2vec.md, verification numbers).
        let index = relative_position_index(14);
        let at = |query: usize, key: usize| index[query * 197 + key];
        assert_eq!(at(1, 1), 364);
        assert_eq!(at(1, 196), 0);
        assert_eq!(at(196, 1), 728);
        assert_eq!([at(0, 5), at(5, 0), at(0, 0)], [729, 730, 731]);
    }

    #[test]
    fn sin_cos_channels_start_with_the_column() {
        let positions = sin_cos_positions(3, 8, &Device::flex()).into_data();
        let positions = positions.as_slice::<f32>().unwrap();
        // Patch 1 is in row 0, column 1; frequencies are 1 and 0.01.
        let expected = [
            1_f64.sin(),
            0.01_f64.sin(),
            1_f64.cos(),
            0.01_f64.cos(),
            0.0,
            0.0,
            1.0,
            1.0,
        ];
        for (found, expected) in positions[8..16].iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-7);
        }
    }
}
