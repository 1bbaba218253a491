//! Batches: plain buffers and shapes.

/// One micro-batch in host memory: a part of one rank's share of one step.
///
/// B is [`n_samples`](Self::n_samples), S [`size`](Self::size), M [`n_masks`](Self::n_masks) and
/// P [`n_patches`](Self::n_patches). All buffers are dense, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The optimizer step, from 0; the number of the batch in an evaluation pass.
    pub step: u64,
    /// Which part of this rank's share of the step.
    pub part: usize,
    /// Parts of this rank's share of the step; 1 in an evaluation pass.
    pub n_parts: usize,
    /// Samples here, B; the last batch of an evaluation pass may be short.
    pub n_samples: usize,
    /// Side of the square pictures in pixels, S.
    pub size: usize,
    /// RGB, `[B, S, S, 3]`, 0–255; mean and deviation are applied on the device.
    pub images: Vec<u8>,
    /// Masks per sample, M; 0 in an evaluation pass.
    pub n_masks: usize,
    /// Patches of a mask, P; 0 in an evaluation pass.
    pub n_patches: usize,
    /// 1 = masked, `[B * M, P]`: the masks of sample b are rows `b * M .. (b + 1) * M`.
    pub masks: Vec<u8>,
    /// Class numbers, `[B]`; empty in training and where the set has no labels.
    pub labels: Vec<i64>,
    /// Which samples these are, `[B]`.
    pub samples: Vec<SampleId>,
}

/// What a sample is called: with the seed, all that its crop and masks depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId {
    /// Epoch of the sample's lane, from 0.
    pub epoch: u64,
    /// Row number in the whole set, shards sorted by relative path.
    pub row: u64,
}
