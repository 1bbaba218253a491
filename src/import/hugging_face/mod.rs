//! data2vec 1.0 as Hugging Face stores it: `Data2VecVision*`, `Data2VecAudio*`, `Data2VecText*`.

pub mod audio;
pub(crate) mod classes;
pub mod text;
pub mod vision;

use crate::model::EncoderConfig;

/// The medium that an encoder of 1.0 is for; heads of 2.0 have the same names here.
pub(crate) fn medium(encoder: EncoderConfig<'_>) -> &'static classes::Medium {
    match encoder {
        EncoderConfig::Audio(_) => &audio::MEDIUM,
        EncoderConfig::Text(_) => &text::MEDIUM,
        EncoderConfig::Beit(_) | EncoderConfig::Vit(_) => &vision::MEDIUM,
    }
}
