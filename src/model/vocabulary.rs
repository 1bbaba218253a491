//! Checks that the texts of a dataset were tokenized for the vocabulary of a model.

use understudy_pipelines::tokenize::SpecialTokens;

use super::encoders::config::EncoderConfig;

/// Tokens of a dataset that the model's embedding does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "vocabulary does not match the model's ({reason}): {url}\nhint: tokenize the texts with the files that the model was trained with"
)]
pub struct VocabularyError {
    /// Path or URL of the dataset.
    pub url: String,
    /// Description of the difference.
    pub reason: String,
}

/// Warns if the vocabulary files of the dataset at `url` are not those that the model was trained
/// with: the ids would mean other tokens.
///
/// This is not an error, because the same vocabulary in another file format has another hash.
pub fn compare_vocabularies(trained: Option<&str>, url: &str, found: Option<&str>) {
    if let (Some(trained), Some(found)) = (trained, found)
        && trained != found
    {
        tracing::warn!(
            "vocabulary files differ from those of training: {url} (SHA-256 {found}, in training \
             {trained}); the result is valid only if both hold the same tokens in the same order"
        );
    }
}

/// Checks that the model has an embedding for every token of the vocabulary of the dataset at `url`.
pub fn check_vocabulary(
    model: EncoderConfig<'_>,
    url: &str,
    specials: Option<SpecialTokens>,
) -> Result<(), VocabularyError> {
    let (EncoderConfig::Text(text), Some(specials)) = (model, specials) else {
        return Ok(());
    };
    let (size, pad) = (specials.vocab_size as usize, specials.pad as usize);
    let reason = if size > text.vocab_size {
        format!(
            "{size} tokens, the model's vocab_size is {}",
            text.vocab_size
        )
    } else if pad != text.pad_token {
        format!(
            "padding is token {pad}, the model's pad_token is {}",
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
