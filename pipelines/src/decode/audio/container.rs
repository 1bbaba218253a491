//! Audio containers: their format, and the header that is read before anything is decoded.

use std::borrow::Cow;
use std::io::Cursor;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::errors::{Error as SymphoniaError, Result as SymphoniaResult};
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{
    MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadOnlySource,
};
use symphonia::core::units::TimeBase;
use symphonia::default::formats::{
    AdtsReader, FlacReader, IsoMp4Reader, MpaReader, OggReader, WavReader,
};

use super::opus;
use crate::decode::header::{unrecognized, within};
use crate::error::SampleError;
use crate::limits::Limits;

/// Sample rates outside this range are header faults.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Upper bound on what a decoder and the reader hold in addition to the waveform: buffers of 64 kB,
/// a codec's tables, one packet's frames for each channel.
const SCRATCH_BYTES: u64 = 4 << 20;

/// Container formats, each with one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flac,
    Wav,
    Ogg,
    Mp3,
    Mp4,
    Adts,
}

/// Rate, channels, length and peak memory of an audio file, read without decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioHeader {
    /// Frames per second, as stored.
    pub sample_rate_hz: u32,
    /// Channels, as stored; decoding averages them.
    pub n_channels: u16,
    /// Frames (samples per channel) that decoding returns, without the encoder's padding; `None` for
    /// the rare M4A file whose clock does not count them.
    pub n_frames: Option<u64>,
    /// Peak memory of decoding all of it in bytes: the waveform is included, the encoded file is not.
    pub decode_bytes: u64,
}

/// An opened file whose header has been read.
pub(super) struct Container<'a> {
    pub(super) kind: Kind,
    pub(super) reader: Box<dyn FormatReader + 'a>,
    /// The track that is decoded: the first audio track.
    pub(super) track: u32,
    pub(super) params: AudioCodecParameters,
    /// Timestamps count frames, so that a position can be computed from them.
    pub(super) counts_frames: bool,
    /// The timestamp of the first frame.
    pub(super) start_ts: i64,
    /// Frames of the encoder's lead-in, decoded before the audio starts.
    pub(super) lead: u64,
    pub(super) header: AudioHeader,
}

impl<'a> Container<'a> {
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, SampleError> {
        if bytes.is_empty() {
            return Err(SampleError::Empty);
        }
        within("bytes", bytes.len() as u64, limits.bytes)?;
        let untagged = after_tags(bytes);
        let kind = kind_of(untagged)?;
        let file = match kind {
            Kind::Wav => with_length(untagged),
            _ => Cow::Borrowed(untagged),
        };
        let copied_bytes = match &file {
            Cow::Owned(bytes) => bytes.len() as u64,
            Cow::Borrowed(_) => 0,
        };
        let reader = reader(file, kind).map_err(|error| sample_error(&error))?;
        let track = reader.default_track(TrackType::Audio);
        let track = track.ok_or_else(|| SampleError::Decode("no audio track".to_owned()))?;
        let track = track.clone();
        let Some(CodecParameters::Audio(params)) = track.codec_params.clone() else {
            return Err(SampleError::Unsupported("unknown codec".to_owned()));
        };
        let rate = params.sample_rate.unwrap_or(0);
        if !RATES_HZ.contains(&rate) {
            return Err(SampleError::Unsupported(format!(
                "sample rate of {rate} Hz, outside {} to {} Hz",
                RATES_HZ.start(),
                RATES_HZ.end()
            )));
        }
        let n_channels = params.channels.as_ref().map_or(0, Channels::count);
        let lead = match params.codec {
            CODEC_ID_OPUS => opus::n_skipped(&params),
            _ => 0,
        };
        let counts_frames = track.time_base == TimeBase::try_from_recip(rate);
        let (n_frames, most_frames) = if counts_frames {
            let n_frames = n_frames(untagged, kind, &track)?.saturating_sub(lead);
            (Some(n_frames), n_frames)
        } else {
            let seconds = track.time_base.zip(track.duration);
            let seconds = seconds.and_then(|(base, duration)| base.calc_duration(duration));
            let seconds = seconds.map_or(0, |time| time.as_secs().max(0) as u64);
            (None, (seconds + 1).saturating_mul(u64::from(rate)))
        };
        if n_frames == Some(0) {
            return Err(SampleError::Decode("no frames".to_owned()));
        }
        let seconds = most_frames.div_ceil(u64::from(rate));
        within("seconds", seconds, limits.seconds)?;
        Ok(Self {
            kind,
            reader,
            track: track.id,
            params,
            counts_frames,
            start_ts: track.start_ts.get().max(0),
            lead,
            header: AudioHeader {
                sample_rate_hz: rate,
                n_channels: n_channels as u16,
                n_frames,
                decode_bytes: size_of::<f32>() as u64 * most_frames + copied_bytes + SCRATCH_BYTES,
            },
        })
    }
}

/// Skips the tags (`ID3v2`) in front of the file.
fn after_tags(mut bytes: &[u8]) -> &[u8] {
    while let [b'I', b'D', b'3', _, _, flags, a, b, c, d, rest @ ..] = bytes {
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        let seven_bits = [a, b, c, d].map(|byte| usize::from(byte & 0x7F));
        let size = seven_bits.iter().fold(0, |size, bits| size << 7 | bits);
        bytes = rest.get(size + footer..).unwrap_or_default();
    }
    bytes
}

/// Detects the container format from the first bytes.
fn kind_of(bytes: &[u8]) -> Result<Kind, SampleError> {
    match bytes {
        [b'f', b'L', b'a', b'C', ..] => Ok(Kind::Flac),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'A',
            b'V',
            b'E',
            ..,
        ] => Ok(Kind::Wav),
        [b'O', b'g', b'g', b'S', ..] => Ok(Kind::Ogg),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Ok(Kind::Mp4),
        // A frame's sync word; then AAC has layer 0, which MPEG audio does not have.
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => Ok(Kind::Adts),
        [0xFF, second, ..] if second & 0xE0 == 0xE0 && second & 0x06 == 0x02 => Ok(Kind::Mp3),
        _ => Err(unrecognized("audio", bytes)),
    }
}

/// Fills in the length of a WAV file that was written to a pipe: there it is all ones, because it was
/// not yet known.
fn with_length(bytes: &[u8]) -> Cow<'_, [u8]> {
    let size_at = |at: usize| {
        let size = bytes.get(at + 4..at + 8)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*size))
    };
    let mut at = 12;
    while let Some(size) = size_at(at) {
        if &bytes[at..at + 4] == b"data" {
            let rest = (bytes.len() - at - 8).try_into();
            let (u32::MAX, Ok::<u32, _>(rest)) = (size, rest) else {
                break;
            };
            let mut bytes = bytes.to_vec();
            bytes[at + 4..at + 8].copy_from_slice(&rest.to_le_bytes());
            return Cow::Owned(bytes);
        }
        at = at.saturating_add(8 + size as usize + (size as usize & 1)); // Chunks begin at even offsets.
    }
    Cow::Borrowed(bytes)
}

/// Opens the reader of a container format.
fn reader<'a>(bytes: Cow<'a, [u8]>, kind: Kind) -> SymphoniaResult<Box<dyn FormatReader + 'a>> {
    let source: Box<dyn MediaSource + 'a> = match kind {
        // If it could seek to the end, the reader would guess the length from the bit rate and cut off
        // everything behind its guess.
        Kind::Mp3 => Box::new(ReadOnlySource::new(Cursor::new(bytes))),
        _ => Box::new(Cursor::new(bytes)),
    };
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let options = FormatOptions::default();
    Ok(match kind {
        Kind::Flac => Box::new(FlacReader::try_new(stream, options)?),
        Kind::Wav => Box::new(WavReader::try_new(stream, options)?),
        Kind::Ogg => Box::new(OggReader::try_new(stream, options)?),
        Kind::Mp3 => Box::new(MpaReader::try_new(stream, options)?),
        Kind::Mp4 => Box::new(IsoMp4Reader::try_new(stream, options)?),
        Kind::Adts => Box::new(AdtsReader::try_new(stream, options)?),
    })
}

/// Counts the frames of a track: as stored, or by its packets where the stored number is not
/// reliable.
fn n_frames(bytes: &[u8], kind: Kind, track: &Track) -> Result<u64, SampleError> {
    if let (Kind::Flac | Kind::Wav | Kind::Ogg | Kind::Mp4, Some(n_frames)) =
        (kind, track.num_frames)
    {
        return Ok(n_frames);
    }
    let mut reader = reader(Cow::Borrowed(bytes), kind).map_err(|error| sample_error(&error))?;
    let mut n_frames = 0;
    while let Some(packet) = reader.next_packet().map_err(|error| sample_error(&error))? {
        if packet.track_id == track.id {
            // The MP3 reader counts the frames that it trims in the duration.
            let trimmed = match kind {
                Kind::Mp3 => packet.trim_start.get() + packet.trim_end.get(),
                _ => 0,
            };
            n_frames += packet.dur.get().saturating_sub(trimmed);
        }
    }
    Ok(n_frames)
}

/// Converts a symphonia error.
pub(super) fn sample_error(error: &SymphoniaError) -> SampleError {
    match error {
        SymphoniaError::Unsupported(what) => SampleError::Unsupported((*what).to_owned()),
        SymphoniaError::ResetRequired => {
            SampleError::Unsupported("several streams in one file".to_owned())
        }
        SymphoniaError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            SampleError::Decode("truncated: unexpected end of file".to_owned())
        }
        error => SampleError::Decode(error.to_string()),
    }
}
