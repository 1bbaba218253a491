//! Audio: FLAC, WAV, MP3, Ogg (Vorbis, FLAC, Opus), M4A and AAC become one channel of floats.
//!
//! The content decides the format; names and content types are ignored. A damaged file is a bad
//! sample, never a shorter or a silent one: a truncated file, samples that differ from the encoded
//! ones (FLAC has an MD5), samples that are not finite numbers (WAV can hold them). Silence is valid
//! audio.

mod container;
mod opus;

use std::ops::Range;

use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;

pub use self::container::AudioHeader;
use self::container::{Container, Kind, sample_error};
use self::opus::Opus;
use super::header::{contained, within};
use crate::error::SampleError;
use crate::limits::Limits;

/// Decoded audio: the mean of its channels, at the sample rate of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// Frames per second, at least 1.
    pub sample_rate_hz: u32,
    /// Samples of the one channel, finite, mostly within ±1.
    pub frames: Vec<f32>,
}

/// Reads rate, channels and length, and checks them against `limits`, without decoding.
///
/// MP3 and bare AAC do not store their length reliably, so the headers of all their packets are
/// read.
pub fn read_audio_header(bytes: &[u8], limits: &Limits) -> Result<AudioHeader, SampleError> {
    contained(|| Ok(Container::open(bytes, limits)?.header))
}

/// Decodes the frames of `clip`, or all of them, within `limits`.
///
/// Packets before a clip are skipped and not decoded, except the last quarter of a second, on which
/// lossy codecs depend; packets behind it are not read. A clip equals the same range of the full
/// waveform: exactly for FLAC and WAV, within 1e-3 for the others (except AAC that fills bands with
/// noise). A clip that ends behind the last frame is an error.
pub fn decode_audio(
    bytes: &[u8],
    limits: &Limits,
    clip: Option<Range<u64>>,
) -> Result<Waveform, SampleError> {
    contained(|| {
        let container = Container::open(bytes, limits)?;
        let is_full = clip.is_none();
        let end = container.header.n_frames.unwrap_or(u64::MAX);
        let wanted = clip.unwrap_or(0..end);
        if wanted.is_empty() || wanted.end > end {
            return Err(SampleError::Decode(format!(
                "frames {wanted:?} are outside the file, which has {end}"
            )));
        }
        // A header cannot make us reserve more than 64 frames per byte, which only silence reaches.
        let most = (64 * bytes.len() as u64).min(container.header.decode_bytes / 4);
        let frames = Vec::with_capacity((wanted.end - wanted.start).min(most) as usize);
        let lead = container.lead;
        let wanted = wanted.start.saturating_add(lead)..wanted.end.saturating_add(lead);
        let mut decoding = Decoding::start(container, wanted, frames)?;
        while decoding.step(limits)? {}
        let (rate, frames) = decoding.finish(is_full)?;
        Ok(Waveform {
            sample_rate_hz: rate,
            frames,
        })
    })
}

/// The state of decoding one file, packet by packet.
struct Decoding<'a> {
    container: Container<'a>,
    decoder: Box<dyn AudioDecoder>,
    /// Frames to decode. Positions here and below count from the first decoded frame, including the
    /// encoder's lead-in.
    wanted: Range<u64>,
    /// Packets that end before this position are not decoded.
    from: u64,
    /// Position of the next decoded frame.
    at: u64,
    frames: Vec<f32>,
    /// One packet's frames, channels interleaved.
    interleaved: Vec<f32>,
}

impl<'a> Decoding<'a> {
    fn start(
        container: Container<'a>,
        wanted: Range<u64>,
        frames: Vec<f32>,
    ) -> Result<Self, SampleError> {
        let options = AudioDecoderOptions::default()
            .verify(container.kind == Kind::Flac && wanted.start == 0);
        let decoder = match container.params.codec {
            CODEC_ID_OPUS => Opus::new(&container.params).map(|opus| Box::new(opus) as Box<_>),
            _ => symphonia::default::get_codecs().make_audio_decoder(&container.params, &options),
        };
        let decoder = decoder.map_err(|error| sample_error(&error))?;
        // Lossy codecs depend on the frames before: these are decoded and thrown away.
        let run_up = match container.kind {
            Kind::Flac | Kind::Wav => 0,
            _ => u64::from(container.header.sample_rate_hz / 4),
        };
        let from = if container.counts_frames {
            wanted.start.saturating_sub(run_up)
        } else {
            0
        };
        Ok(Self {
            container,
            decoder,
            wanted,
            from,
            at: 0,
            frames,
            interleaved: Vec::new(),
        })
    }

    /// Decodes one packet; returns false at the end of the file or of the wanted frames.
    fn step(&mut self, limits: &Limits) -> Result<bool, SampleError> {
        let packet = self.container.reader.next_packet();
        let Some(packet) = packet.map_err(|error| sample_error(&error))? else {
            return Ok(false);
        };
        if packet.track_id != self.container.track {
            return Ok(true);
        }
        let at = self.position(&packet)?;
        if self.from > 0 && at + packet.dur.get() <= self.from {
            self.at = at + packet.dur.get();
            return Ok(true);
        }
        let rate = self.container.header.sample_rate_hz;
        let decoded = match self.decoder.decode(&packet) {
            Ok(decoded) => decoded,
            // The first packets of the run-up depend on packets that were not decoded.
            Err(_) if self.from > 0 && at < self.wanted.start => return Ok(true),
            Err(error) => return Err(sample_error(&error)),
        };
        if decoded.spec().rate() != rate {
            return Err(SampleError::Decode(format!(
                "the sample rate changes from {rate} to {} Hz at frame {at}",
                decoded.spec().rate()
            )));
        }
        let (n_frames, n_channels) = (decoded.frames() as u64, decoded.num_planes());
        decoded.copy_to_vec_interleaved(&mut self.interleaved);
        let end = at + n_frames;
        self.at = end;
        let skipped = self.wanted.start.saturating_sub(at).min(n_frames) as usize;
        let kept = n_frames as usize - end.saturating_sub(self.wanted.end).min(n_frames) as usize;
        if skipped < kept {
            let kept = &self.interleaved[skipped * n_channels..kept * n_channels];
            if n_channels == 1 {
                self.frames.extend_from_slice(kept);
            } else {
                let mean = |frame: &[f32]| frame.iter().sum::<f32>() / n_channels as f32;
                self.frames.extend(kept.chunks_exact(n_channels).map(mean));
            }
        }
        within(
            "seconds",
            self.frames.len() as u64 / u64::from(rate),
            limits.seconds,
        )?;
        Ok(end < self.wanted.end)
    }

    /// Returns the position of the first frame of `packet`.
    fn position(&self, packet: &Packet) -> Result<u64, SampleError> {
        let Container { start_ts, kind, .. } = self.container;
        let stated = packet.pts.get() - start_ts + packet.trim_start.get() as i64;
        let stated = u64::try_from(stated).unwrap_or(0);
        // The reader skips damaged packets: a gap in the positions shows them.
        if kind == Kind::Flac && stated != self.at {
            return Err(SampleError::Decode(format!(
                "frames {} to {stated} are damaged",
                self.at
            )));
        }
        // A codec returns less than a packet's duration for the first packet that it decodes.
        Ok(if self.from > 0 { stated } else { self.at })
    }

    /// Checks the decoded frames; returns the sample rate and the frames. `is_full`: the entire file
    /// was decoded, not a clip.
    fn finish(mut self, is_full: bool) -> Result<(u32, Vec<f32>), SampleError> {
        let (found, wanted) = (self.frames.len() as u64, self.wanted);
        let expected = wanted.end - wanted.start;
        if found == 0 {
            return Err(SampleError::Decode("no frames".to_owned()));
        }
        if found != expected && (!is_full || self.container.header.n_frames.is_some()) {
            return Err(SampleError::Decode(format!(
                "truncated: {found} of {expected} frames"
            )));
        }
        if is_full && self.decoder.finalize().verify_ok == Some(false) {
            return Err(SampleError::Decode(
                "MD5 mismatch: the decoded samples differ from the encoded ones".to_owned(),
            ));
        }
        if let Some(at) = self.frames.iter().position(|frame| !frame.is_finite()) {
            return Err(SampleError::Decode(format!(
                "frame {} is not a finite number",
                wanted.start - self.container.lead + at as u64
            )));
        }
        Ok((self.container.header.sample_rate_hz, self.frames))
    }
}
