//! `understudy export`: a model of ours for other tools.
//!
//! data2vec 1.0 becomes a Hugging Face folder, which `transformers` loads. 2.0 has no class there:
//! it becomes safetensors under our names, with its config and a table of the names.

mod hugging_face;
mod key_table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use understudy_pipelines::store::Folder;

use crate::config::Overrides;
use crate::import::Tensors;
use crate::model::{EncoderConfig, ModelConfig};
use crate::new_folder;
use crate::pretrained::{HEADS, Pretrained, PretrainedError, Whose};
use crate::weights::{self, WeightsError};

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Heads of one, weights of the other.
    #[error("{0}: its heads were trained on the student's weights; take --weights student")]
    TeacherWithHeads(String),
    /// There is no model.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// A file of safetensors cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A store does not give a file.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is there.
    #[error("{0}: not empty; name a new folder")]
    Taken(PathBuf),
    /// The small files that an imported model came with are damaged.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: String,
        /// The parser's words.
        reason: String,
    },
    /// Hugging Face's classes are of the published shape.
    #[error("Hugging Face's class has no place for {0}")]
    NoPlace(String),
}

/// What an export made.
#[derive(Debug)]
pub struct Exported {
    /// Where it lies.
    pub path: PathBuf,
    /// How to load it, in a sentence.
    pub hint: String,
}

/// A model in memory.
struct Model {
    pretrained: Pretrained,
    /// Of the encoder, and in 2.0 the decoder.
    tensors: Tensors,
    /// Of a fine-tuned model that was imported.
    heads: Tensors,
}

/// Writes the model at `from` (a run, a checkpoint or an imported model) to the folder `to`.
pub fn export(from: &Folder, whose: Option<Whose>, to: &Path) -> Result<Exported, ExportError> {
    if new_folder::is_taken(to).map_err(at(to))? {
        return Err(ExportError::Taken(to.to_owned()));
    }
    let mut pretrained = Pretrained::open(from, whose, &Overrides::default())?;
    let heads = match pretrained.folder.size(HEADS)? {
        Some(_) => weights::read_in(&pretrained.folder, HEADS)?,
        None => Tensors::new(),
    };
    if !heads.is_empty() {
        // They were trained on the student.
        if whose == Some(Whose::Teacher) {
            return Err(ExportError::TeacherWithHeads(pretrained.folder.url()));
        }
        pretrained.whose = Whose::Student;
    }
    // What is not the config's is refused here, not by the tool that loads it later.
    pretrained.encoder(&burn::tensor::Device::flex())?;
    let model = Model {
        tensors: pretrained.tensors()?,
        heads,
        pretrained,
    };
    let partial = new_folder::begin(to).map_err(at(to))?;
    let written = match &model.pretrained.config.model {
        ModelConfig::Data2vec1(_) => {
            hugging_face::write(model, &partial).map(|class| class.hint(to))
        }
        ModelConfig::Data2vec2(_) => {
            key_table::write(model, &partial).map(|()| key_table::HINT.to_owned())
        }
    };
    let finished = written.and_then(|hint| {
        new_folder::finish(&partial, to)
            .map_err(at(to))
            .map(|()| hint)
    });
    let hint = match finished {
        Ok(hint) => hint,
        Err(error) => {
            // The error that matters is the first one.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
    };
    Ok(Exported {
        path: to.to_owned(),
        hint,
    })
}

/// The medium's encoder.
fn encoder(model: &Model) -> EncoderConfig<'_> {
    model.pretrained.config.model.encoder()
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), ExportError> {
    let mut text = serde_json::to_string_pretty(value).expect("JSON of our own making");
    text.push('\n');
    fs::write(path, text).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError + '_ {
    move |source| ExportError::Io {
        path: path.to_owned(),
        source,
    }
}
