//! Opus, which symphonia demuxes from Ogg but does not decode: the crate `opus-decoder` behind
//! symphonia's decoder trait.

use opus_decoder::OpusDecoder;
use symphonia::core::audio::{
    AsGenericAudioBufferRef, AudioBuffer, AudioMut, AudioSpec, GenericAudioBufferRef,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, FinalizeResult};
use symphonia::core::errors::{Error, Result};
use symphonia::core::packet::PacketRef;

/// Opus always decodes at this rate, whatever the rate of the encoder's input.
const RATE_HZ: u32 = 48_000;

/// Frames of the longest packet: 120 ms.
const MOST_FRAMES: usize = 5760;

/// Returns the frames of the encoder's lead-in, from the header `OpusHead` (RFC 7845, 5.1).
pub(super) fn n_skipped(params: &AudioCodecParameters) -> u64 {
    let head = params.extra_data.as_deref();
    let skipped = head.and_then(|head| head.get(10..12)?.first_chunk::<2>());
    skipped.map_or(0, |skipped| u64::from(u16::from_le_bytes(*skipped)))
}

pub(super) struct Opus {
    params: AudioCodecParameters,
    inner: OpusDecoder,
    gain: f32,
    interleaved: Vec<f32>,
    buffer: AudioBuffer<f32>,
}

impl Opus {
    pub(super) fn new(params: &AudioCodecParameters) -> Result<Self> {
        let head = params.extra_data.as_deref().unwrap_or_default();
        let (Some(gain), Some(0)) = (
            head.get(16..18).and_then(|gain| gain.first_chunk::<2>()),
            head.get(18),
        ) else {
            return Err(Error::Unsupported("Opus with more than two channels"));
        };
        let decibels = f32::from(i16::from_le_bytes(*gain)) / 256.0;
        let channels = params.channels.clone().unwrap_or_default();
        let inner = OpusDecoder::new(RATE_HZ, channels.count());
        Ok(Self {
            params: params.clone(),
            inner: inner.map_err(|_| Error::DecodeError("Opus: number of channels"))?,
            gain: 10_f32.powf(decibels / 20.0),
            interleaved: vec![0.0; MOST_FRAMES * channels.count()],
            buffer: AudioBuffer::new(AudioSpec::new(RATE_HZ, channels), MOST_FRAMES),
        })
    }
}

impl AudioDecoder for Opus {
    fn reset(&mut self) {
        self.inner.reset();
    }

    fn codec_info(&self) -> &CodecInfo {
        &CodecInfo {
            short_name: "opus",
            long_name: "Opus",
            profiles: &[],
        }
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.params
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        self.buffer.clear();
        let n_frames = self
            .inner
            .decode_float(packet.data, &mut self.interleaved, false)
            .map_err(|_| Error::DecodeError("Opus: damaged packet"))?;
        self.buffer.render_uninit(Some(n_frames));
        let n_channels = self.interleaved.len() / MOST_FRAMES;
        for channel in 0..n_channels {
            let samples = self.interleaved.iter().skip(channel).step_by(n_channels);
            let plane = self.buffer.plane_mut(channel);
            for (to, from) in plane.into_iter().flatten().zip(samples) {
                *to = self.gain * from;
            }
        }
        let (start, end) = (packet.trim_start.get(), packet.trim_end.get());
        self.buffer.trim(start as usize, end as usize);
        Ok(self.last_decoded())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}
