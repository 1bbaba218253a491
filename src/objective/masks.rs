//! Masks as index tensors, built on the host once per micro-batch.

use burn::tensor::{Device, Int, Tensor, TensorData};
use thiserror::Error;

/// Why masks cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MaskError {
    /// Not a whole number of masked pictures.
    #[error("{len} mask values are no multiple of {n_masks} masks × {n_patches} patches")]
    Length {
        /// Values given.
        len: usize,
        /// Masks per picture.
        n_masks: usize,
        /// Patches per picture.
        n_patches: usize,
    },
    /// Rows that keep different numbers of patches where the student sees the kept ones alone.
    #[error("mask rows keep different numbers of patches; data2vec 2.0 needs one number")]
    UnequalRows,
    /// No patch is masked.
    #[error("the masks mask nothing")]
    NothingMasked,
}

/// Which patches the student does not see, for B pictures of N patches with M masks each.
///
/// Rows are numbered picture × M + mask; masked patches are listed in the order of (row, patch).
#[derive(Debug, Clone)]
pub struct Masks {
    /// Pictures, B.
    pub n_samples: usize,
    /// Masks per picture, M.
    pub n_masks: usize,
    /// Patches per picture, N.
    pub n_patches: usize,
    /// Masked patches over all rows.
    pub n_masked: usize,
    /// Whether all rows mask the same number of patches.
    equal_rows: bool,
    /// 1 = masked, `[R, N]`.
    pub(super) mask: Tensor<2>,
    /// Kept patches as rows of `[B·N]`.
    pub(super) kept: Tensor<1, Int>,
    /// Masked patches as rows of `[B·N]`.
    pub(super) masked_of_samples: Tensor<1, Int>,
    /// Masked patches as rows of `[R·N]`.
    pub(super) masked_of_rows: Tensor<1, Int>,
    /// For each of `[R·N]` its place in the kept patches followed by the masked ones.
    pub(super) restore: Tensor<1, Int>,
    /// The picture of each row, `[R]`.
    pub(super) sample_of_rows: Tensor<1, Int>,
}

impl Masks {
    /// `masks` holds M rows of N values per picture, 1 = masked; the tensors go to `device`.
    pub fn new(
        masks: &[u8],
        n_masks: usize,
        n_patches: usize,
        device: &Device,
    ) -> Result<Self, MaskError> {
        let len = masks.len();
        if len == 0 || !len.is_multiple_of(n_masks * n_patches) {
            return Err(MaskError::Length {
                len,
                n_masks,
                n_patches,
            });
        }
        let n_rows = len / n_patches;
        let n_masked = masks.iter().filter(|&&value| value != 0).count();
        if n_masked == 0 {
            return Err(MaskError::NothingMasked);
        }

        let n_kept = len - n_masked;
        let mut kept = Vec::with_capacity(n_kept);
        let mut masked_of_samples = Vec::with_capacity(n_masked);
        let mut masked_of_rows = Vec::with_capacity(n_masked);
        let mut restore = Vec::with_capacity(len);
        for (place, &value) in masks.iter().enumerate() {
            let (row, patch) = (place / n_patches, place % n_patches);
            let of_samples = (row / n_masks * n_patches + patch) as i64;
            if value == 0 {
                restore.push(kept.len() as i64);
                kept.push(of_samples);
            } else {
                restore.push((n_kept + masked_of_rows.len()) as i64);
                masked_of_samples.push(of_samples);
                masked_of_rows.push(place as i64);
            }
        }
        let equal_rows = masks
            .chunks_exact(n_patches)
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
            n_patches,
            n_masked,
            equal_rows,
            mask: Tensor::from_data(TensorData::new(values, [n_rows, n_patches]), &plain),
            kept: index(kept),
            masked_of_samples: index(masked_of_samples),
            masked_of_rows: index(masked_of_rows),
            restore: index(restore),
            sample_of_rows: index((0..n_rows).map(|row| (row / n_masks) as i64).collect()),
        })
    }

    /// The masks, if every row keeps the same number of patches.
    pub fn require_equal_rows(self) -> Result<Self, MaskError> {
        if self.equal_rows {
            Ok(self)
        } else {
            Err(MaskError::UnequalRows)
        }
    }

    /// Rows, R = B·M.
    pub fn n_rows(&self) -> usize {
        self.n_samples * self.n_masks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: Tensor<1, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn every_index_points_at_its_patch() {
        // Two pictures of three patches, two masks each.
        let masks = [1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1];
        let masks = Masks::new(&masks, 2, 3, &Device::flex()).unwrap();
        assert_eq!((masks.n_samples, masks.n_rows(), masks.n_masked), (2, 4, 8));
        assert_eq!(values(masks.kept.clone()), [1, 0, 5, 3]);
        assert_eq!(
            values(masks.masked_of_samples.clone()),
            [0, 2, 1, 2, 3, 4, 4, 5]
        );
        assert_eq!(
            values(masks.masked_of_rows.clone()),
            [0, 2, 4, 5, 6, 7, 10, 11]
        );
        assert_eq!(
            values(masks.restore.clone()),
            [4, 0, 5, 1, 6, 7, 8, 9, 2, 3, 10, 11]
        );
        assert_eq!(values(masks.sample_of_rows.clone()), [0, 0, 1, 1]);
        assert!(masks.require_equal_rows().is_ok());
    }

    #[test]
    fn unusable_masks_are_refused() {
        let new = |masks: &[u8]| Masks::new(masks, 2, 3, &Device::flex());
        let length = |len| MaskError::Length {
            len,
            n_masks: 2,
            n_patches: 3,
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
