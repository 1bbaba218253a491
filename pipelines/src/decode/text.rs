//! UTF-8 text.

use crate::SampleError;

/// Borrows the bytes as text.
///
/// # Errors
///
/// [`SampleError::Decode`] if the bytes are not valid UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, SampleError> {
    std::str::from_utf8(bytes)
        .map_err(|error| SampleError::Decode(format!("invalid UTF-8: {error}")))
}
