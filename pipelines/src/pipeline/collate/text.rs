//! Pads the tokens of a batch to one length, and draws the masks over them.

use crate::batch::{Batch, Media};
use crate::config::MaskConfig;
use crate::pipeline::sample_kind::SampleKind;
use crate::pipeline::worker::{Sample, SampleMedia};
use crate::rng::SampleKey;

pub(super) fn empty() -> Media {
    Media::Text {
        n_tokens: 0,
        tokens: Vec::new(),
        student_tokens: Vec::new(),
        lengths: Vec::new(),
    }
}

/// Pads blocks to the block's size, and texts to the longest of the batch.
///
/// If the mask replaces tokens, it is drawn over a sample's own tokens. If the student sees only the
/// unmasked positions, it is drawn over the padding too, because every row must keep the same number.
pub(super) fn collate(
    batch: &mut Batch,
    held: &[Sample],
    kind: &SampleKind,
    mask: Option<&MaskConfig>,
    keys: &[SampleKey],
) {
    let Some(specials) = kind.special_tokens() else {
        return;
    };
    let texts: Vec<&[u32]> = held
        .iter()
        .filter_map(|sample| match &sample.media {
            SampleMedia::Tokens(tokens) => Some(tokens.as_slice()),
            _ => None,
        })
        .collect();
    let n_tokens = match kind {
        SampleKind::Tokens(info) => info.block_tokens as usize,
        _ => texts.iter().map(|text| text.len()).max().unwrap_or(0),
    };
    let mut tokens = Vec::with_capacity(texts.len() * n_tokens);
    for (i, text) in texts.iter().enumerate() {
        tokens.extend_from_slice(text);
        tokens.resize((i + 1) * n_tokens, specials.pad);
    }
    let mut student_tokens = Vec::new();
    if let Some(mask) = mask {
        batch.n_positions = n_tokens;
        batch.masks = vec![0; texts.len() * batch.n_masks * n_tokens];
        let rows = batch
            .masks
            .chunks_exact_mut((batch.n_masks * n_tokens).max(1));
        if mask.replaces_tokens() {
            student_tokens.clone_from(&tokens);
            let students = student_tokens.chunks_exact_mut(n_tokens.max(1));
            for (((masks, student), text), &key) in rows.zip(students).zip(&texts).zip(keys) {
                let own = text.len();
                mask.draw_tokens(key, &specials, &mut student[..own], &mut masks[..own]);
            }
        } else {
            for (masks, &key) in rows.zip(keys) {
                mask.draw(key, masks);
            }
        }
    }
    batch.media = Media::Text {
        n_tokens,
        tokens,
        student_tokens,
        lengths: texts.iter().map(|text| text.len() as u32).collect(),
    };
}
