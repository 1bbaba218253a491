//! The file around the sound: what kind it is, and what it says before anything is decoded.

use std::borrow::Cow;
use std::io::Cursor;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::errors::Result as SymphoniaResult;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{
    MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadOnlySource,
};
use symphonia::core::units::TimeBase;
use symphonia::default::formats::{
    AdtsReader, FlacReader, IsoMp4Reader, MpaReader, OggReader, WavReader,
};

use super::{AudioHeader, opus, sample_error, within};
use crate::config::Limits;
use crate::error::SampleError;

/// Rates outside are faults of a header.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// What a decoder and the reader hold next to the wave, generously: buffers of 64 kB, tables of a
/// codec, one packet's frames for each channel.
const SCRATCH_BYTES: u64 = 4 << 20;

/// Kinds of files, each with one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flac,
    Wav,
    Ogg,
    Mp3,
    Mp4,
    Adts,
}

/// A file that has told what it holds.
pub(super) struct Container<'a> {
    pub(super) kind: Kind,
    pub(super) reader: Box<dyn FormatReader + 'a>,
    /// The track that is decoded: the first with sound.
    pub(super) track: u32,
    pub(super) params: AudioCodecParameters,
    /// Timestamps count frames, so that a place can be sought and told.
    pub(super) counts_frames: bool,
    /// The timestamp of the first frame.
    pub(super) start_ts: i64,
    /// Frames that decode before the sound begins.
    pub(super) lead: u64,
    pub(super) header: AudioHeader,
}

impl<'a> Container<'a> {
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, SampleError> {
        if bytes.is_empty() {
            return Err(SampleError::Empty);
        }
        within("bytes", bytes.len() as u64, limits.bytes)?;
        let sound = after_tags(bytes);
        let kind = kind_of(sound)?;
        let whole = match kind {
            Kind::Wav => with_length(sound),
            _ => Cow::Borrowed(sound),
        };
        let copied_bytes = match &whole {
            Cow::Owned(bytes) => bytes.len() as u64,
            Cow::Borrowed(_) => 0,
        };
        let reader = reader(whole, kind).map_err(|error| sample_error(&error))?;
        let track = reader.default_track(TrackType::Audio);
        let track = track.ok_or_else(|| SampleError::Decode("no sound in this file".to_owned()))?;
        let track = track.clone();
        let Some(CodecParameters::Audio(params)) = track.codec_params.clone() else {
            return Err(SampleError::Unsupported("an unknown codec".to_owned()));
        };
        let rate = params.sample_rate.unwrap_or(0);
        if !RATES_HZ.contains(&rate) {
            return Err(SampleError::Unsupported(format!(
                "a sample rate of {rate} Hz"
            )));
        }
        let n_channels = params.channels.as_ref().map_or(0, Channels::count);
        let lead = match params.codec {
            CODEC_ID_OPUS => opus::n_skipped(&params),
            _ => 0,
        };
        let counts_frames = track.time_base == TimeBase::try_from_recip(rate);
        let (n_frames, most_frames) = if counts_frames {
            let n_frames = n_frames(sound, kind, &track)?.saturating_sub(lead);
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

/// The file without the tags (`ID3v2`) that stand before it.
fn after_tags(mut bytes: &[u8]) -> &[u8] {
    while let [b'I', b'D', b'3', _, _, flags, a, b, c, d, rest @ ..] = bytes {
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        let seven_bits = [a, b, c, d].map(|byte| usize::from(byte & 0x7F));
        let size = seven_bits.iter().fold(0, |size, bits| size << 7 | bits);
        bytes = rest.get(size + footer..).unwrap_or_default();
    }
    bytes
}

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
        // A frame's sync word; then AAC says layer 0, which MPEG audio does not have.
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => Ok(Kind::Adts),
        [0xFF, second, ..] if second & 0xE0 == 0xE0 && second & 0x06 == 0x02 => Ok(Kind::Mp3),
        _ => {
            let start: Vec<String> = bytes
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Err(SampleError::Unsupported(format!(
                "not a sound: it begins {}",
                start.join(" ")
            )))
        }
    }
}

/// A WAV file that was written to a pipe, its length not known yet (all ones), with the length that
/// it turned out to have.
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
        at = at.saturating_add(8 + size as usize + (size as usize & 1)); // Chunks begin at even places.
    }
    Cow::Borrowed(bytes)
}

fn reader<'a>(bytes: Cow<'a, [u8]>, kind: Kind) -> SymphoniaResult<Box<dyn FormatReader + 'a>> {
    let source: Box<dyn MediaSource + 'a> = match kind {
        // Where it could jump to the end, the reader would guess the length from the bit rate, and
        // cut off what lies behind its guess.
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

/// The frames of a track: as the file says, or, where that is not reliable, by its packets.
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
            // The reader for MP3 leaves the frames that it trims in the duration.
            let trimmed = match kind {
                Kind::Mp3 => packet.trim_start.get() + packet.trim_end.get(),
                _ => 0,
            };
            n_frames += packet.dur.get().saturating_sub(trimmed);
        }
    }
    Ok(n_frames)
}
