//! Whether the texts of a dataset are in the vocabulary of a model.

use understudy_pipelines::tokenize::Specials;

use super::encoders::config::EncoderConfig;

/// A text's tokens and a model's embedding do not fit.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}; a model reads texts in the vocabulary that it was made for")]
pub struct VocabularyError {
    /// The set.
    pub url: String,
    /// What differs.
    pub reason: String,
}

/// Warns where the vocabulary of the texts at `url` is not the one that a model was trained in: its
/// ids mean other tokens there. No error: the same vocabulary in files of another form has another
/// hash.
pub fn compare_vocabularies(trained: Option<&str>, url: &str, found: Option<&str>) {
    if let (Some(trained), Some(found)) = (trained, found)
        && trained != found
    {
        tracing::warn!(
            "{url}: the model was trained with other vocabulary files (SHA-256 {trained}, here \
             {found}); unless they are the same vocabulary in another form, ids mean other tokens \
             and the result means nothing"
        );
    }
}

/// Whether a model has an embedding for every token that texts of the set at `url` may have.
pub fn check_vocabulary(
    model: EncoderConfig<'_>,
    url: &str,
    specials: Option<Specials>,
) -> Result<(), VocabularyError> {
    let (EncoderConfig::Text(text), Some(specials)) = (model, specials) else {
        return Ok(());
    };
    let (size, pad) = (specials.vocab_size as usize, specials.pad as usize);
    let reason = if size > text.vocab_size {
        format!(
            "its vocabulary has {size} tokens, the model's vocab_size is {}",
            text.vocab_size
        )
    } else if pad != text.pad_token {
        format!(
            "its padding is token {pad}, the model's pad_token {}",
            text.pad_token
        )
    } else {
        return Ok(());
    };
    Err(VocabularyError {
        url: url.to_owned(),
        reason,
    })
}
