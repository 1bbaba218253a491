//! A recording becomes a row: checked, its frames counted, hashed; its bytes stay as they came.

use xxhash_rust::xxh3::xxh3_64;

use crate::SampleError;
use crate::config::Limits;
use crate::decode::{decode_audio, read_audio_header};
use crate::write::encode::row::Row;
use crate::write::options::{AudioOptions, Check};
use crate::write::sample::Facts;

/// Makes the row of an encoded recording. Frames are counted by decoding where the options asks for
/// it or where the header does not tell their number.
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
        let wave = decode_audio(&bytes, limits, None)?;
        (wave.sample_rate_hz, wave.frames.len() as u64)
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
