//! Fine-tuned models of fairseq: a wrapper that adds a head to a pre-trained model.
//!
//! The wrapper's config contains the config of the pre-training run. Its tensors contain those of
//! the pre-trained model below a prefix, without teacher, decoder and prediction head.

use super::cfg::Cfg;
use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{self, Names};

/// A fairseq model that wraps a pre-trained one.
struct Wrapper {
    /// Its `_name` in the config.
    name: &'static str,
    /// Key of the pre-training run's config.
    run: &'static str,
    /// Prefix of the pre-trained model's tensors.
    prefix: &'static str,
    /// Names of its heads.
    heads: &'static Names,
}

const WRAPPERS: [Wrapper; 3] = [
    Wrapper {
        name: "wav2vec_ctc",
        run: "w2v_args",
        prefix: "w2v_encoder.w2v_model.",
        heads: CTC,
    },
    Wrapper {
        name: "data2vec_text_classification",
        run: "pretrained_model_args",
        prefix: "model.",
        heads: SENTENCE,
    },
    Wrapper {
        name: "mae_image_classification",
        run: "pretrained_model_args",
        prefix: "model.",
        heads: IMAGE,
    },
];

const CTC: &Names = &[("w2v_encoder.proj.", "ctc.")];

/// Sentence classification of data2vec 2.0, with the head's name in its task. (1.0 was fine-tuned as
/// a `roberta`.)
const SENTENCE: &Names = &[
    (
        "classification_heads.sentence_classification_head.dense.",
        "sentence.pooler.dense.",
    ),
    (
        "classification_heads.sentence_classification_head.out_proj.",
        "sentence.out_proj.",
    ),
];

const IMAGE: &Names = &[("fc_norm.", "fc_norm."), ("head.", "head.")];

/// Returns the config of the pre-trained model in `cfg`; `None` if `cfg` is not a wrapper's.
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

/// Splits tensors into the pre-trained model's, under the names that it has without a wrapper, and
/// the heads', under our names.
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

/// Returns fairseq's name of our head parameter.
pub(in crate::interop) fn their_head(ours: &str) -> Option<String> {
    let mut tables = WRAPPERS.iter().map(|wrapper| wrapper.heads);
    tables.find_map(|heads| names::theirs(heads, ours))
}
