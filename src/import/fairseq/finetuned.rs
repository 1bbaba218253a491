//! Fine-tuned models of fairseq: a pre-trained one within a wrapper that adds a head.
//!
//! The wrapper's config holds the whole config of the pre-training run, and its tensors those of
//! the pre-trained model below a prefix, without teacher, decoder and prediction head.

use super::cfg::Cfg;
use crate::import::names::{self, Names};
use crate::import::{ImportError, Tensors};

/// A model that wraps a pre-trained one.
struct Wrapper {
    /// Its `_name`.
    name: &'static str,
    /// The key of the pre-training run's config.
    run: &'static str,
    /// Before the names of the pre-trained model's tensors.
    prefix: &'static str,
    heads: &'static Names,
}

const WRAPPERS: [Wrapper; 3] = [
    Wrapper {
        name: "wav2vec_ctc",
        run: "w2v_args",
        prefix: "w2v_encoder.w2v_model.",
        heads: LETTERS,
    },
    Wrapper {
        name: "data2vec_text_classification",
        run: "pretrained_model_args",
        prefix: "model.",
        heads: SENTENCES,
    },
    Wrapper {
        name: "mae_image_classification",
        run: "pretrained_model_args",
        prefix: "model.",
        heads: PICTURES,
    },
];

const LETTERS: &Names = &[("w2v_encoder.proj.", "ctc.")];

/// Those of 2.0; its task calls its one head so. (1.0's sentences were fine-tuned as a `roberta`.)
const SENTENCES: &Names = &[
    (
        "classification_heads.sentence_classification_head.dense.",
        "sentence.pooler.dense.",
    ),
    (
        "classification_heads.sentence_classification_head.out_proj.",
        "sentence.out_proj.",
    ),
];

const PICTURES: &Names = &[("fc_norm.", "fc_norm."), ("head.", "head.")];

/// The config of the pre-trained model within `cfg`, where `cfg` is that of a wrapper.
pub(super) fn pretrained<'a>(cfg: &'a Cfg<'a>) -> Result<Option<Cfg<'a>>, ImportError> {
    let name = cfg.text("_name")?;
    let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) else {
        return Ok(None);
    };
    if !cfg.has(wrapper.run) {
        return Err(cfg.missing(wrapper.run));
    }
    Ok(Some(Cfg {
        value: &cfg.value[wrapper.run]["model"],
        place: format!("{}.{}.model", cfg.place, wrapper.run),
    }))
}

/// Takes the heads' tensors out of a model's, under our names; what is left has the names that the
/// pre-trained model has when it is on its own.
pub(super) fn take_heads(name: &str, tensors: Tensors) -> Result<(Tensors, Tensors), ImportError> {
    let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == name);
    let (prefix, known) = match wrapper {
        Some(wrapper) => (wrapper.prefix, wrapper.heads),
        None => ("", &[] as &Names),
    };
    let (mut model, mut heads) = (Tensors::new(), Tensors::new());
    for (theirs, tensor) in tensors {
        if let Some(ours) = names::ours(known, &theirs) {
            heads.insert(ours, tensor);
        } else if let Some(inner) = theirs.strip_prefix(prefix) {
            model.insert(inner.to_owned(), tensor);
        } else {
            return Err(ImportError::UnknownName(theirs));
        }
    }
    Ok((model, heads))
}

/// fairseq's name of a head's parameter of ours.
pub(crate) fn their_head(ours: &str) -> Option<String> {
    let mut tables = WRAPPERS.iter().map(|wrapper| wrapper.heads);
    tables.find_map(|heads| names::theirs(heads, ours))
}
