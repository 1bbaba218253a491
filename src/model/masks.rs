//! Masks as index tensors, built on the host once per micro-batch.

use burn::tensor::{Device, Int, Tensor, TensorData};
use thiserror::Error;

/// Masks that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MaskError {
    /// The values do not divide into samples.
    #[error(
        "invalid masks: {len} values are not a multiple of {n_masks} masks × {n_positions} positions"
    )]
    Length {
        /// Number of mask values given.
        len: usize,
        /// Masks per sample.
        n_masks: usize,
        /// Positions per sample.
        n_positions: usize,
    },
    /// Rows keep different numbers of positions, and the student sees only the kept ones.
    #[error(
        "invalid masks: rows keep different numbers of positions, which data2vec 2.0 cannot batch"
    )]
    UnequalRows,
    /// No position is masked.
    #[error("invalid masks: no position is masked")]
    NothingMasked,
}

/// The positions (patches, audio features, tokens) that the student does not see, for B samples of
/// N positions with M masks each.
///
/// Row r is mask r mod M of sample r / M; positions are listed in the order of (row, position). The
/// tensors `ids_*` number rows of a flattened tensor: MAE's `ids_keep` and `ids_restore`, over the
/// batch.
#[derive(Debug, Clone)]
pub struct Masks {
    /// Samples, B.
    pub n_samples: usize,
    /// Masks per sample, M.
    pub n_masks: usize,
    /// Positions per sample, N.
    pub n_positions: usize,
    /// Masked positions over all rows.
    pub n_masked: usize,
    /// Whether all rows mask the same number of positions.
    equal_rows: bool,
    /// 1 = masked, `[R, N]`.
    pub(crate) mask: Tensor<2>,
    /// Kept positions as rows of `[B·N]`.
    pub(crate) ids_keep: Tensor<1, Int>,
    /// Kept positions as rows of `[R·N]`.
    pub(crate) ids_keep_rows: Tensor<1, Int>,
    /// Kept positions by their number within the sample, as float.
    pub(crate) kept_positions: Tensor<1>,
    /// Masked positions as rows of `[B·N]`.
    pub(crate) ids_masked: Tensor<1, Int>,
    /// Masked positions as rows of `[R·N]`.
    pub(crate) ids_masked_rows: Tensor<1, Int>,
    /// For each of `[R·N]` its index in the kept positions followed by the masked ones.
    pub(crate) ids_restore: Tensor<1, Int>,
    /// The sample of each row, `[R]`.
    pub(crate) sample_of_row: Tensor<1, Int>,
}

impl Masks {
    /// Builds the index tensors on `device`. `masks` holds M rows of N values per sample, 1 =
    /// masked.
    pub fn new(
        masks: &[u8],
        n_masks: usize,
        n_positions: usize,
        device: &Device,
    ) -> Result<Self, MaskError> {
        let len = masks.len();
        if len == 0 || !len.is_multiple_of(n_masks * n_positions) {
            return Err(MaskError::Length {
                len,
                n_masks,
                n_positions,
            });
        }
        let n_rows = len / n_positions;
        let n_masked = masks.iter().filter(|&&value| value != 0).count();
        if n_masked == 0 {
            return Err(MaskError::NothingMasked);
        }

        let n_kept = len - n_masked;
        let mut ids_keep = Vec::with_capacity(n_kept);
        let mut ids_keep_rows = Vec::with_capacity(n_kept);
        let mut kept_positions = Vec::with_capacity(n_kept);
        let mut ids_masked = Vec::with_capacity(n_masked);
        let mut ids_masked_rows = Vec::with_capacity(n_masked);
        let mut ids_restore = Vec::with_capacity(len);
        for (i, &value) in masks.iter().enumerate() {
            let (row, position) = (i / n_positions, i % n_positions);
            let of_samples = (row / n_masks * n_positions + position) as i64;
            if value == 0 {
                ids_restore.push(ids_keep_rows.len() as i64);
                ids_keep.push(of_samples);
                ids_keep_rows.push(i as i64);
                kept_positions.push(position as f32);
            } else {
                ids_restore.push((n_kept + ids_masked_rows.len()) as i64);
                ids_masked.push(of_samples);
                ids_masked_rows.push(i as i64);
            }
        }
        let equal_rows = masks
            .chunks_exact(n_positions)
            .all(|row| row.iter().filter(|&&value| value != 0).count() * n_rows == n_masked);

        let values: Vec<f32> = masks.iter().map(|&value| f32::from(value != 0)).collect();
        let plain = device.clone().without_autodiff();
        let index = |rows: Vec<i64>| {
            let len = rows.len();
            Tensor::from_data(TensorData::new(rows, [len]), &plain)
        };
        Ok(Self {
            n_samples: n_rows / n_masks,
            n_masks,
            n_positions,
            n_masked,
            equal_rows,
            mask: Tensor::from_data(TensorData::new(values, [n_rows, n_positions]), &plain),
            ids_keep: index(ids_keep),
            ids_keep_rows: index(ids_keep_rows),
            kept_positions: Tensor::from_data(TensorData::new(kept_positions, [n_kept]), &plain),
            ids_masked: index(ids_masked),
            ids_masked_rows: index(ids_masked_rows),
            ids_restore: index(ids_restore),
            sample_of_row: index((0..n_rows).map(|row| (row / n_masks) as i64).collect()),
        })
    }

    /// Returns the masks if every row keeps the same number of positions.
    pub fn require_equal_rows(self) -> Result<Self, MaskError> {
        if self.equal_rows {
            Ok(self)
        } else {
            Err(MaskError::UnequalRows)
        }
    }

    /// Number of rows, R = B·M.
    pub fn n_rows(&self) -> usize {
        self.n_samples * self.n_masks
    }

    /// Kept positions of one row, where all rows keep the same number.
    pub(crate) fn n_kept(&self) -> usize {
        self.n_positions - self.n_masked / self.n_rows()
    }

    /// Selects the kept positions: `[B·N, D]` → `[R, n_kept, D]`.
    pub(crate) fn keep(&self, rows: Tensor<2>) -> Tensor<3> {
        let [_, dim] = rows.dims();
        rows.select(0, self.ids_keep.clone())
            .reshape([self.n_rows(), self.n_kept(), dim])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: Tensor<1, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn index_tensors_list_kept_and_masked_positions() {
        // Two samples of three positions, two masks each.
        let masks = [1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1];
        let masks = Masks::new(&masks, 2, 3, &Device::flex()).unwrap();
        assert_eq!((masks.n_samples, masks.n_rows(), masks.n_masked), (2, 4, 8));
        assert_eq!(values(masks.ids_keep.clone()), [1, 0, 5, 3]);
        assert_eq!(values(masks.ids_keep_rows.clone()), [1, 3, 8, 9]);
        assert_eq!(values(masks.kept_positions.clone().int()), [1, 0, 2, 0]);
        assert_eq!(values(masks.ids_masked.clone()), [0, 2, 1, 2, 3, 4, 4, 5]);
        assert_eq!(
            values(masks.ids_masked_rows.clone()),
            [0, 2, 4, 5, 6, 7, 10, 11]
        );
        assert_eq!(
            values(masks.ids_restore.clone()),
            [4, 0, 5, 1, 6, 7, 8, 9, 2, 3, 10, 11]
        );
        assert_eq!(values(masks.sample_of_row.clone()), [0, 0, 1, 1]);
        assert!(masks.require_equal_rows().is_ok());
    }

    #[test]
    fn invalid_masks_are_rejected() {
        let new = |masks: &[u8]| Masks::new(masks, 2, 3, &Device::flex());
        let length = |len| MaskError::Length {
            len,
            n_masks: 2,
            n_positions: 3,
        };
        assert_eq!(new(&[]).unwrap_err(), length(0));
        assert_eq!(new(&[1; 7]).unwrap_err(), length(7));
        assert_eq!(new(&[0; 6]).unwrap_err(), MaskError::NothingMasked);
        let unequal = new(&[1, 0, 0, 1, 1, 0]).unwrap();
        assert_eq!(
            unequal.require_equal_rows().unwrap_err(),
            MaskError::UnequalRows
        );
    }
}
