//! data2vec 1.0 as Hugging Face stores it: `Data2VecVision*`, `Data2VecAudio*`, `Data2VecText*`.

pub mod audio;
pub mod text;
pub mod vision;
