//! `understudy import`: a checkpoint of another project becomes a model of ours.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use super::hugging_face::{self, audio, classes, text, vision};
use super::{ImportError, Tensors, data2vec_vision, fairseq, files, recipe, sizes};
use crate::config::Overrides;
use crate::model::{EncoderConfig, ModelConfig};
use crate::new_folder;
use crate::pretrained::{HEADS, HUGGING_FACE, Pretrained, STUDENT, TEACHER, Whose};
use crate::weights;

/// What an import made.
#[derive(Debug)]
pub struct Imported {
    /// Where it lies.
    pub path: PathBuf,
    /// What it was: `a Hugging Face folder`.
    pub source: &'static str,
    /// The method and its sizes.
    pub model: ModelConfig,
    /// Float values of the student and of heads.
    pub n_values: usize,
    /// Whether there is a teacher.
    pub has_teacher: bool,
    /// Whether a head, a pooler included, came along.
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

/// Files beside a Hugging Face model's weights that go with it wherever it goes.
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
struct Model {
    source: &'static str,
    config: ModelConfig,
    /// The student's tensors and those of heads.
    tensors: Tensors,
    teacher: Option<Tensors>,
    /// The class of `transformers` that it says it is.
    class: Option<String>,
}

/// Reads `source` (a Hugging Face folder, or a `.pt` or `.pth` of fairseq or `data2vec_vision`) and
/// writes a model to the folder `to`: `config.toml` (the published recipe with the model's own
/// sizes), `student.safetensors`, `teacher.safetensors` if the source has one, `heads.safetensors`
/// of a fine-tuned model, and the small files of a Hugging Face folder. It appears in full or not
/// at all.
pub fn import(source: &Path, to: &Path) -> Result<Imported, ImportError> {
    if new_folder::is_taken(to).map_err(at(to))? {
        return Err(ImportError::Taken(to.to_owned()));
    }
    let model = if source.is_dir() {
        hugging_face_folder(source)?
    } else {
        pickled(source)?
    };
    sizes::check(&model.config, &model.tensors)?;
    let mut config = recipe::fitted(model.config)?;
    if source.is_dir() {
        recipe::apply_preprocessor(&mut config, source)?;
    }
    let (student, heads): (Tensors, Tensors) = model.tensors.into_iter().partition(|(name, _)| {
        ["encoder.", "lm_head.", "decoder."]
            .iter()
            .any(|part| name.starts_with(part))
    });
    let medium = hugging_face::medium(config.model.encoder());
    if medium.class(heads.keys(), model.class.as_deref()).is_none() {
        return Err(ImportError::NoClass(heads.into_keys().collect()));
    }

    let partial = new_folder::begin(to).map_err(at(to))?;
    let written = (|| {
        weights::write(&partial.join(STUDENT), &student)?;
        if let Some(teacher) = &model.teacher {
            weights::write(&partial.join(TEACHER), teacher)?;
        }
        if !heads.is_empty() {
            weights::write(&partial.join(HEADS), &heads)?;
        }
        let path = partial.join("config.toml");
        fs::write(&path, config.to_toml()).map_err(at(&path))?;
        if source.is_dir() {
            copy_companions(source, &partial.join(HUGGING_FACE))?;
        }
        let teacher = model.teacher.as_ref().map(|_| Whose::Teacher);
        for whose in std::iter::once(Whose::Student).chain(teacher) {
            Pretrained::open(
                &partial.as_path().into(),
                Some(whose),
                &Overrides::default(),
            )
            .and_then(|pretrained| pretrained.encoder(&Device::flex()))
            .map_err(|error| ImportError::Tensors(Box::new(error)))?;
        }
        new_folder::finish(&partial, to).map_err(at(to))
    })();
    if let Err(error) = written {
        // What cannot be opened is not left behind; the error that matters is the first one.
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

fn hugging_face_folder(folder: &Path) -> Result<Model, ImportError> {
    let path = folder.join("config.json");
    let config: Value = files::json(&path)?;
    let kind = config["model_type"].as_str().unwrap_or("nothing");
    let tensors = files::of_folder(folder)?;
    let at_config = |error: serde_json::Error| ImportError::Config {
        path: path.clone(),
        reason: error.to_string(),
    };
    let class = classes::told(config.get("architectures")).map(str::to_owned);
    let (config, tensors) = match kind {
        "data2vec-audio" => {
            let folder: audio::AudioFolder =
                serde_json::from_value(config.clone()).map_err(at_config)?;
            let encoder = folder.encoder()?;
            let model = recipe::with_encoder(EncoderConfig::Audio(&encoder));
            (model, audio::import(tensors)?)
        }
        "data2vec-text" => {
            let folder: text::TextFolder =
                serde_json::from_value(config.clone()).map_err(at_config)?;
            if !folder.tie_word_embeddings && tensors.contains_key("lm_head.decoder.weight") {
                return Err(ImportError::Unsupported("tie_word_embeddings of false"));
            }
            let encoder = folder.encoder()?;
            let model = recipe::with_encoder(EncoderConfig::Text(&encoder));
            (model, text::import(tensors)?)
        }
        "data2vec-vision" => {
            let folder: vision::VisionFolder =
                serde_json::from_value(config.clone()).map_err(at_config)?;
            let encoder = folder.encoder()?;
            let model = recipe::with_encoder(EncoderConfig::Vit1(&encoder));
            (model, vision::import(tensors)?)
        }
        other => {
            return Err(ImportError::OtherModel {
                path,
                name: other.to_owned(),
            });
        }
    };
    Ok(Model {
        source: "a Hugging Face folder",
        config,
        tensors,
        teacher: None,
        class,
    })
}

fn pickled(path: &Path) -> Result<Model, ImportError> {
    if !path.exists() {
        return Err(at(path)(std::io::ErrorKind::NotFound.into()));
    }
    if files::has_key(path, "cfg")? {
        let checkpoint = fairseq::open(path)?;
        return Ok(Model {
            source: "a fairseq checkpoint",
            config: checkpoint.model,
            tensors: checkpoint.student,
            teacher: checkpoint.teacher,
            class: None,
        });
    }
    // `data2vec_vision` has `args` too, but not what fairseq keeps beside them.
    if files::has_key(path, "args")? && files::has_key(path, "extra_state")? {
        return Err(ImportError::FairseqArgs(path.to_owned()));
    }
    // DeepSpeed's wrapper has `module`.
    let key = if files::has_key(path, "module")? {
        "module"
    } else {
        "model"
    };
    let tensors = data2vec_vision::import(files::pickled(path, Some(key))?)?;
    let encoder = data2vec_vision::encoder(&tensors)?;
    let teacher = if files::has_key(path, "model_ema")? {
        let teacher = files::pickled(path, Some("model_ema"))?;
        Some(data2vec_vision::import(teacher)?)
    } else {
        None
    };
    Ok(Model {
        source: "a checkpoint of data2vec_vision",
        config: recipe::with_encoder(EncoderConfig::Vit1(&encoder)),
        tensors,
        teacher,
        class: None,
    })
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> ImportError + '_ {
    move |source| ImportError::Io {
        path: path.to_owned(),
        source,
    }
}
