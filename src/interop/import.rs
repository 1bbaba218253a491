//! `understudy import`: converts a checkpoint of another project to an Understudy model.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use super::error::{ImportError, at};
use super::fairseq::{self, data2vec_vision};
use super::hugging_face::{self, audio, classes, text, vision};
use super::{pickle, published_recipe, size_check};
use crate::checkpoint::atomic_dir;
use crate::checkpoint::layout::{CONFIG, HEADS, HUGGING_FACE, STUDENT, TEACHER};
use crate::checkpoint::pretrained::{Pretrained, Weights};
use crate::checkpoint::safetensors::{self, Tensors};
use crate::config::Overrides;
use crate::model::EncoderConfig;
use crate::objective::ModelConfig;

/// Result of an import.
#[derive(Debug)]
pub struct Imported {
    /// The model's folder.
    pub path: PathBuf,
    /// Kind of the source, such as `a Hugging Face folder`.
    pub source: &'static str,
    /// Objective and sizes.
    pub model: ModelConfig,
    /// Number of values of the student and the heads.
    pub n_values: usize,
    /// Whether there is a teacher.
    pub has_teacher: bool,
    /// Whether there is a head or a pooler.
    pub has_head: bool,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.model {
            ModelConfig::Data2vec1(_) => "1.0",
            ModelConfig::Data2vec2(_) => "2.0",
        };
        write!(
            f,
            "{}: data2vec {method}, {}, {:.1} M parameters{}{}, from {}",
            self.path.display(),
            self.model.encoder().table(),
            self.n_values as f64 / 1e6,
            if self.has_teacher {
                " and a teacher"
            } else {
                ""
            },
            if self.has_head { " with a head" } else { "" },
            self.source,
        )
    }
}

/// Small files of a Hugging Face model that are imported, and exported again, with its weights.
const COMPANIONS: [&str; 10] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
];

/// A model under our names.
struct ImportedModel {
    source: &'static str,
    config: ModelConfig,
    /// Tensors of student and heads.
    tensors: Tensors,
    teacher: Option<Tensors>,
    /// Class of `transformers` that its config names.
    class: Option<String>,
}

/// Reads `source` (a Hugging Face folder, or a `.pt` or `.pth` of fairseq or `data2vec_vision`) and
/// writes a model to the folder `to`: `config.toml` (the published recipe with the model's own
/// sizes), `student.safetensors`, `teacher.safetensors` if the source has one, `heads.safetensors`
/// of a fine-tuned model, and the small files of a Hugging Face folder. The folder appears in full
/// or not at all.
pub fn import(source: &Path, to: &Path) -> Result<Imported, ImportError> {
    if atomic_dir::is_taken(to).map_err(at(to))? {
        return Err(ImportError::Taken(to.to_owned()));
    }
    let model = if source.is_dir() {
        hugging_face_folder(source)?
    } else {
        pickled_file(source)?
    };
    size_check::check(&model.config, &model.tensors)?;
    let mut config = published_recipe::fitted(model.config)?;
    if source.is_dir() {
        published_recipe::apply_preprocessor(&mut config, source)?;
    }
    let (student, heads): (Tensors, Tensors) = model.tensors.into_iter().partition(|(name, _)| {
        ["encoder.", "lm_head.", "decoder."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    let family = hugging_face::family(config.model.encoder());
    if family.class(heads.keys(), model.class.as_deref()).is_none() {
        return Err(ImportError::NoClass(heads.into_keys().collect()));
    }

    let partial = atomic_dir::begin(to).map_err(at(to))?;
    let written = (|| {
        safetensors::write(&partial.join(STUDENT), &student)?;
        if let Some(teacher) = &model.teacher {
            safetensors::write(&partial.join(TEACHER), teacher)?;
        }
        if !heads.is_empty() {
            safetensors::write(&partial.join(HEADS), &heads)?;
        }
        let path = partial.join(CONFIG);
        fs::write(&path, config.to_toml()).map_err(at(&path))?;
        if source.is_dir() {
            copy_companions(source, &partial.join(HUGGING_FACE))?;
        }
        let teacher = model.teacher.as_ref().map(|_| Weights::Teacher);
        for weights in std::iter::once(Weights::Student).chain(teacher) {
            Pretrained::open(
                &partial.as_path().into(),
                Some(weights),
                &Overrides::default(),
            )
            .and_then(|pretrained| pretrained.encoder(&Device::flex()))
            .map_err(|error| ImportError::Tensors(Box::new(error)))?;
        }
        atomic_dir::finish(&partial, to).map_err(at(to))
    })();
    if let Err(error) = written {
        // A model that cannot be opened is removed; the first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    Ok(Imported {
        path: to.to_owned(),
        source: model.source,
        model: config.model,
        n_values: student
            .values()
            .chain(heads.values())
            .map(|tensor| tensor.shape().num_elements())
            .sum(),
        has_teacher: model.teacher.is_some(),
        has_head: !heads.is_empty(),
    })
}

fn copy_companions(from: &Path, to: &Path) -> Result<(), ImportError> {
    fs::create_dir_all(to).map_err(at(to))?;
    for file in COMPANIONS {
        let path = from.join(file);
        if path.exists() {
            fs::copy(&path, to.join(file)).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn hugging_face_folder(folder: &Path) -> Result<ImportedModel, ImportError> {
    let path = folder.join("config.json");
    let config: Value = pickle::read_json(&path)?;
    let kind = config["model_type"].as_str().unwrap_or("nothing");
    let tensors = pickle::read_folder(folder)?;
    let at_config = |error: serde_json::Error| ImportError::Config {
        path: path.clone(),
        reason: error.to_string(),
    };
    let class = classes::named_class(config.get("architectures")).map(str::to_owned);
    let (config, tensors) = match kind {
        "data2vec-audio" => {
            let folder: audio::AudioFolder =
                serde_json::from_value(config.clone()).map_err(at_config)?;
            let encoder = folder.encoder()?;
            let model = published_recipe::with_encoder(EncoderConfig::Audio(&encoder));
            (model, audio::import(tensors)?)
        }
        "data2vec-text" => {
            let folder: text::TextFolder =
                serde_json::from_value(config.clone()).map_err(at_config)?;
            if !folder.tie_word_embeddings && tensors.contains_key("lm_head.decoder.weight") {
                return Err(ImportError::Unsupported("tie_word_embeddings of false"));
            }
            let encoder = folder.encoder()?;
            let model = published_recipe::with_encoder(EncoderConfig::Text(&encoder));
            (model, text::import(tensors)?)
        }
        "data2vec-vision" => {
            let folder: vision::VisionFolder =
                serde_json::from_value(config.clone()).map_err(at_config)?;
            let encoder = folder.encoder()?;
            let model = published_recipe::with_encoder(EncoderConfig::Beit(&encoder));
            (model, vision::import(tensors)?)
        }
        other => {
            return Err(ImportError::OtherModel {
                path,
                name: other.to_owned(),
            });
        }
    };
    Ok(ImportedModel {
        source: "a Hugging Face folder",
        config,
        tensors,
        teacher: None,
        class,
    })
}

fn pickled_file(path: &Path) -> Result<ImportedModel, ImportError> {
    if !path.exists() {
        return Err(at(path)(std::io::ErrorKind::NotFound.into()));
    }
    if pickle::has_key(path, "cfg")? {
        let checkpoint = fairseq::open(path)?;
        return Ok(ImportedModel {
            source: "a fairseq checkpoint",
            config: checkpoint.model,
            tensors: checkpoint.student,
            teacher: checkpoint.teacher,
            class: None,
        });
    }
    // `data2vec_vision` has `args` too, but no `extra_state`.
    if pickle::has_key(path, "args")? && pickle::has_key(path, "extra_state")? {
        return Err(ImportError::FairseqArgs(path.to_owned()));
    }
    // DeepSpeed's wrapper has `module`.
    let key = if pickle::has_key(path, "module")? {
        "module"
    } else {
        "model"
    };
    let tensors = data2vec_vision::import(pickle::read_pickle(path, Some(key))?)?;
    let encoder = data2vec_vision::encoder(&tensors)?;
    let teacher = if pickle::has_key(path, "model_ema")? {
        let teacher = pickle::read_pickle(path, Some("model_ema"))?;
        Some(data2vec_vision::import(teacher)?)
    } else {
        None
    };
    Ok(ImportedModel {
        source: "a checkpoint of data2vec_vision",
        config: published_recipe::with_encoder(EncoderConfig::Beit(&encoder)),
        tensors,
        teacher,
        class: None,
    })
}
