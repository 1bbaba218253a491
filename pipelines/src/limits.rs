//! Limits on one sample, so that a damaged or malicious file cannot take the machine's memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on one sample; a sample above one of them is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Encoded bytes.
    pub bytes: u64,
    /// Pixels of the decoded image, before any resize.
    pub pixels: u64,
    /// Seconds of audio: the length of the file, even where only a clip of it is decoded.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // A 64-megapixel image takes 200 MB decoded, an hour of mono audio at 16 kHz 230 MB:
        // larger ones are faults more often than data.
        Self {
            bytes: 64 << 20,
            pixels: 64_000_000,
            seconds: 3600,
        }
    }
}
