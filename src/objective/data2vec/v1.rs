//! data2vec 1.0: the student sees all positions, with a learned value or the mask token
//! at the masked ones.
//!
//! Images as in `data2vec_vision/beit`, audio and text as in fairseq.

use burn::tensor::Tensor;

use super::network::Network;
use crate::model::{Masks, View};

/// Returns the student's predictions at masked positions, `[masked, D]`.
///
/// # Panics
///
/// If the student has no prediction head.
pub(super) fn predict(
    student: &Network,
    local: Tensor<3>,
    padding: Option<&Tensor<2>>,
    masks: &Masks,
) -> Tensor<2> {
    let [b, n, dim] = local.dims();
    let encoder = &student.encoder;
    let head = student.lm_head.as_ref().expect("a student has a head");
    let sequence = encoder.sequence(local, View::Masked(masks), padding);
    let tokens = encoder.run(sequence, &mut |_, _| ());
    // Norm and head act on each position alone: only the masked ones need them.
    let masked = encoder
        .without_extra(tokens)
        .reshape([b * n, dim])
        .select(0, masks.ids_masked.clone());
    head.forward_rows(encoder.normed(masked))
}
