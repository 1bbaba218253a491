//! Hugging Face's data2vec 1.0: `Data2VecVision*`, `Data2VecAudio*`, `Data2VecText*`.

pub mod audio;
pub(super) mod classes;
pub(super) mod export;
pub mod text;
pub mod vision;

use crate::model::EncoderConfig;

/// Returns the class family of an encoder. data2vec 2.0 has no class, but its heads have the same
/// names.
pub(super) fn family(encoder: EncoderConfig<'_>) -> &'static classes::Family {
    match encoder {
        EncoderConfig::Audio(_) => &audio::FAMILY,
        EncoderConfig::Text(_) => &text::FAMILY,
        EncoderConfig::Beit(_) | EncoderConfig::Vit(_) => &vision::FAMILY,
    }
}
