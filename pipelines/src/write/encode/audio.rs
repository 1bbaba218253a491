//! Encodes an audio file as a row: checks it, counts its frames and hashes it. Its bytes are unchanged.

use xxhash_rust::xxh3::xxh3_64;

use crate::SampleError;
use crate::config::Limits;
use crate::decode::{decode_audio, read_audio_header};
use crate::write::encode::row::Row;
use crate::write::options::{AudioOptions, Check};
use crate::write::sample::Facts;

/// Returns the row of an encoded audio file. Frames are counted by decoding if the options ask for it
/// or if the header does not contain their number.
pub(crate) fn audio_row(
    bytes: Vec<u8>,
    path: Option<String>,
    label: Option<i64>,
    facts: Facts,
    options: &AudioOptions,
    limits: &Limits,
) -> Result<Row, SampleError> {
    let header = read_audio_header(&bytes, limits)?;
    let counted = header.n_frames.filter(|_| options.check == Check::Header);
    let (sample_rate_hz, n_frames) = if let Some(n_frames) = counted {
        (header.sample_rate_hz, n_frames)
    } else {
        let waveform = decode_audio(&bytes, limits, None)?;
        (waveform.sample_rate_hz, waveform.frames.len() as u64)
    };
    if n_frames == 0 {
        return Err(SampleError::Empty);
    }
    let (transcript, speaker) = match facts {
        Facts::Speech {
            transcript,
            speaker,
        } => (transcript, speaker),
        Facts::Text { .. } | Facts::None => (None, None),
    };
    let xxh3 = xxh3_64(&bytes);
    Ok(Row::Audio {
        bytes,
        path,
        sample_rate_hz,
        n_frames,
        transcript,
        speaker,
        label,
        xxh3,
    })
}
