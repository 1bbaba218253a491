//! Rows of a shard, by schema.

/// One row of a shard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Row {
    /// A row of `schemas/image.toml`.
    Image {
        bytes: Vec<u8>,
        path: Option<String>,
        width: u32,
        height: u32,
        label: Option<i64>,
        xxh3: u64,
    },
    /// A row of `schemas/audio.toml`.
    Audio {
        bytes: Vec<u8>,
        path: Option<String>,
        sample_rate_hz: u32,
        n_frames: u64,
        transcript: Option<String>,
        speaker: Option<String>,
        label: Option<i64>,
        xxh3: u64,
    },
    /// A row of `schemas/text.toml`.
    Text {
        text: String,
        text_b: Option<String>,
        label: Option<i64>,
        score: Option<f32>,
        xxh3: u64,
    },
    /// A row of `schemas/tokens.toml`.
    Tokens {
        bytes: Vec<u8>,
        n_tokens: u32,
        xxh3: u64,
    },
}

impl Row {
    /// Returns the size of the media in bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        let n = match self {
            Self::Image { bytes, .. } | Self::Audio { bytes, .. } | Self::Tokens { bytes, .. } => {
                bytes.len()
            }
            Self::Text { text, text_b, .. } => text.len() + text_b.as_ref().map_or(0, String::len),
        };
        n as u64
    }

    /// Returns the number of tokens without padding; `None` for other schemas.
    pub(crate) fn n_tokens(&self) -> Option<u64> {
        match self {
            Self::Tokens { n_tokens, .. } => Some(u64::from(*n_tokens)),
            Self::Image { .. } | Self::Audio { .. } | Self::Text { .. } => None,
        }
    }
}
