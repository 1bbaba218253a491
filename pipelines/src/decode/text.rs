//! Bytes become text.

use crate::SampleError;

/// The text that the bytes are.
///
/// # Errors
///
/// [`SampleError::Decode`] for what is no UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, SampleError> {
    std::str::from_utf8(bytes).map_err(|error| SampleError::Decode(format!("no UTF-8: {error}")))
}
