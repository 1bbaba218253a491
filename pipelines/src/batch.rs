//! Batches: plain buffers and shapes.

/// One micro-batch in host memory, of one rank's share of one step.
///
/// B is [`n_samples`](Self::n_samples), M [`n_masks`](Self::n_masks) and P
/// [`n_positions`](Self::n_positions), the positions of the encoder's output: patches, audio features
/// or tokens. All buffers are dense and row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The optimizer step, from 0; the number of the batch in an evaluation pass.
    pub step: u64,
    /// Number of this micro-batch in the rank's share of the step, from 0.
    pub micro_batch: usize,
    /// Micro-batches of the rank's share of the step; 1 in an evaluation pass.
    pub n_micro_batches: usize,
    /// Samples in this batch, B. The last batch of an evaluation pass may be short; a batch by cost may be
    /// empty, if all its samples were bad.
    pub n_samples: usize,
    /// The samples themselves: pixels, waveforms or token ids.
    pub media: Media,
    /// Masks per sample, M; 0 in an evaluation pass.
    pub n_masks: usize,
    /// Positions of a mask, P; 0 in an evaluation pass.
    pub n_positions: usize,
    /// 1 = masked, `[B * M, P]`: the masks of sample b are rows `b * M .. (b + 1) * M`.
    pub masks: Vec<u8>,
    /// Class numbers, `[B]`; empty in training and for a dataset without labels.
    pub labels: Vec<i64>,
    /// Path and label of each row, `[B]`; empty except in a pass with keys
    /// ([`OnePass::keyed`](crate::pipeline::OnePass::keyed)).
    pub keys: Vec<Key>,
    /// Epoch and row of each sample, `[B]`.
    pub samples: Vec<SampleId>,
}

/// Path and label of a row, to find it again from its features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key {
    /// Path of the file that the media came from, if the dataset has it.
    pub path: Option<String>,
    /// Class number, if the row has a valid label.
    pub label: Option<i64>,
}

/// The media of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// Square images of one size.
    Images {
        /// Side of the images in pixels, S.
        size: usize,
        /// RGB, `[B, S, S, 3]`, 0–255; normalisation with mean and deviation is left to the device.
        pixels: Vec<u8>,
    },
    /// Audio of one channel, at the config's rate. Each waveform has mean 0 and variance 1 over its full
    /// length.
    Audio {
        /// PCM frames of each waveform, T: in training the length of the shortest, else of the longest.
        n_frames: usize,
        /// `[B, T]`; zero after a sample's own frames.
        waveforms: Vec<f32>,
        /// Number of a sample's own frames, `[B]`; T in training.
        lengths: Vec<u32>,
    },
    /// Token ids.
    Text {
        /// Tokens of each sample, T.
        n_tokens: usize,
        /// `[B, T]`; `<pad>` after a sample's own tokens.
        tokens: Vec<u32>,
        /// The student's input, `[B * M, T]`, if masks replace tokens; else empty.
        student_tokens: Vec<u32>,
        /// Number of a sample's own tokens, `[B]`.
        lengths: Vec<u32>,
    },
}

/// Identifies a sample. Its crop and masks depend on this and the seed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId {
    /// Epoch of the sample's lane in its dataset, from 0.
    pub epoch: u64,
    /// Row number in the dataset, shards sorted by relative path. The datasets of a mixture are numbered
    /// one after another.
    pub row: u64,
}
