//! Batches: plain buffers and shapes.

/// One micro-batch in host memory: a part of one rank's share of one step.
///
/// B is [`n_samples`](Self::n_samples), M [`n_masks`](Self::n_masks) and P
/// [`n_positions`](Self::n_positions): patches, frames of the model, or tokens. All buffers are
/// dense, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The optimizer step, from 0; the number of the batch in an evaluation pass.
    pub step: u64,
    /// Which part of this rank's share of the step.
    pub part: usize,
    /// Parts of this rank's share of the step; 1 in an evaluation pass.
    pub n_parts: usize,
    /// Samples here, B. The last batch of an evaluation pass may be short; a batch by cost may be
    /// empty, if all its samples were bad.
    pub n_samples: usize,
    /// What the model sees.
    pub media: Media,
    /// Masks per sample, M; 0 in an evaluation pass.
    pub n_masks: usize,
    /// Positions of a mask, P; 0 in an evaluation pass.
    pub n_positions: usize,
    /// 1 = masked, `[B * M, P]`: the masks of sample b are rows `b * M .. (b + 1) * M`.
    pub masks: Vec<u8>,
    /// Class numbers, `[B]`; empty in training and where the set has no labels.
    pub labels: Vec<i64>,
    /// What the rows say of themselves, `[B]`; empty but in a pass with keys
    /// ([`WholeSet::keyed`](crate::pipeline::WholeSet::keyed)).
    pub keys: Vec<Key>,
    /// Which samples these are, `[B]`.
    pub samples: Vec<SampleId>,
}

/// What a row says of itself, by which what is made of it is found again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key {
    /// The path that its media came from, where the set says.
    pub path: Option<String>,
    /// Its class number, where it has a label that the set knows.
    pub label: Option<i64>,
}

/// The samples of a batch themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// Pictures.
    Images {
        /// Side of the square pictures in pixels, S.
        size: usize,
        /// RGB, `[B, S, S, 3]`, 0–255; mean and deviation are applied on the device.
        pixels: Vec<u8>,
    },
    /// Recordings of one channel, at the recipe's rate, each of mean 0 and variance 1 as a whole.
    Audio {
        /// Frames of each, T: in training the length of the shortest, else that of the longest.
        n_frames: usize,
        /// `[B, T]`; zero behind a sample's own frames.
        waves: Vec<f32>,
        /// Frames that are the sample's own, `[B]`; all are T in training.
        lengths: Vec<u32>,
    },
    /// Token ids.
    Text {
        /// Tokens of each, T.
        n_tokens: usize,
        /// `[B, T]`; `<pad>` behind a sample's own tokens.
        tokens: Vec<u32>,
        /// What the student sees, `[B * M, T]`, where its masks replace tokens; else empty.
        student_tokens: Vec<u32>,
        /// Tokens that are the sample's own, `[B]`.
        lengths: Vec<u32>,
    },
}

/// What a sample is called: with the seed, all that its crop and masks depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId {
    /// Epoch of the sample's lane in its set, from 0.
    pub epoch: u64,
    /// Row number in the whole set, shards sorted by relative path; sets of a mix follow one another.
    pub row: u64,
}
