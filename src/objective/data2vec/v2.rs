//! data2vec 2.0, as in fairseq's `data2vec_multi`: the student encodes only the kept positions, for
//! several masks of each sample.

use burn::tensor::{Distribution, Tensor};

use super::network::Network;
use crate::model::{Masks, View};
use crate::objective::config::Data2Vec2Config;
use crate::objective::loss::error_sum;

/// The student's output for a micro-batch.
pub(super) struct Predicted {
    /// The decoder's output at masked positions, `[masked, D]`.
    pub(super) predictions: Tensor<2>,
    /// The class token of each row, `[R, D]`, if the encoder has one.
    pub(super) class_tokens: Option<Tensor<2>>,
}

/// Encodes the kept positions and decodes the masked ones.
///
/// # Panics
///
/// If the student has no decoder.
pub(super) fn predict(
    config: &Data2Vec2Config,
    student: &Network,
    local: Tensor<3>,
    padding: Option<&Tensor<2>>,
    masks: &Masks,
    noise: Option<Tensor<2>>,
) -> Predicted {
    let [_, n, dim] = local.dims();
    let (n_rows, n_kept) = (masks.n_rows(), masks.n_kept());
    let encoder = &student.encoder;
    let decoder = student.decoder.as_ref().expect("a student has a decoder");

    let noise = noise.unwrap_or_else(|| {
        let distribution = Distribution::Normal(0.0, config.noise_std);
        let device = local.device().without_autodiff();
        Tensor::random([masks.n_masked, dim], distribution, &device)
    });
    let sequence = encoder.sequence(local, View::Kept(masks), padding);
    let tokens = encoder.run(sequence, &mut |_, _| ());
    let class_tokens =
        (encoder.n_extra() == 1).then(|| tokens.clone().narrow(1, 0, 1).reshape([n_rows, dim]));
    let kept = encoder
        .without_extra(tokens)
        .reshape([n_rows * n_kept, dim]);

    let filled = Tensor::cat(vec![decoder.input(kept), noise], 0)
        .select(0, masks.ids_restore.clone())
        .reshape([n_rows, n, dim]);
    let decoded = decoder.forward(filled);
    let [_, _, decoder_dim] = decoded.dims();
    let masked = decoded
        .reshape([n_rows * n, decoder_dim])
        .select(0, masks.ids_masked_rows.clone());
    Predicted {
        predictions: decoder.project(masked),
        class_tokens,
    }
}

/// Returns the weighted loss of the class token, `[1]`.
///
/// The reference sums over the rows of one GPU and multiplies by the masked patches of that GPU.
/// After the division by all masked patches this is weight × (rows per GPU) × the mean over all
/// rows. Here rows per GPU are `cls_batch`·M, and the term of each row is multiplied by its own
/// masked patches: equal to the reference at that batch, and independent of the micro-batches.
pub(super) fn class_token_loss(
    config: &Data2Vec2Config,
    loss_scale: f64,
    class_tokens: Tensor<2>,
    targets: Tensor<3>,
    masks: &Masks,
) -> Tensor<1> {
    let [b, _, dim] = targets.dims();
    let means = targets
        .mean_dim(1)
        .reshape([b, dim])
        .select(0, masks.sample_of_row.clone());
    let rows = config.cls_batch * masks.n_masks;
    let masked_per_row = masks.n_masked / masks.n_rows();
    let weight = config.cls_loss_weight * (rows * masked_per_row) as f64 * loss_scale;
    error_sum(class_tokens, means, config.loss_beta).mul_scalar(weight)
}
