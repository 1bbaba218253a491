//! data2vec 2.0 on images, as fairseq's `data2vec_multi` has it.

use burn::tensor::{Distribution, Tensor};

use super::loss::squared_error_sum;
use super::targets::Average;
use super::{Inputs, Masks, Output};
use crate::model::{Data2Vec2Config, Network2, without_class_token};

/// What the MLPs of the teacher's last blocks add, averaged, `[B, N, D]`.
pub(super) fn targets(
    config: &Data2Vec2Config,
    teacher: &Network2,
    images: Tensor<4>,
) -> Tensor<3> {
    let encoder = &teacher.encoder;
    let mut average = Average::new(config.targets, encoder.depth());
    encoder.encode(
        encoder.positioned(encoder.local(images)),
        &mut |block_idx, output| {
            average.add(block_idx, || without_class_token(output.ffn.clone()));
        },
    );
    average.finish()
}

/// Squared error between the decoder's masked patches and the targets there, and between the class
/// token and the targets' mean.
///
/// # Panics
///
/// If the student has no decoder.
pub(super) fn forward(
    config: &Data2Vec2Config,
    student: &Network2,
    targets: Tensor<3>,
    inputs: Inputs,
) -> Output {
    let Inputs {
        images,
        masks,
        noise,
    } = inputs;
    let [b, n, dim] = targets.dims();
    let encoder = &student.encoder;
    let decoder = student.decoder.as_ref().expect("a student has a decoder");

    // Once per picture, whatever the number of masks.
    let local = encoder.local(images);
    let patches = encoder.positioned(local.clone()).reshape([b * n, dim]);
    let (class_tokens, kept) = {
        let n_kept = n - masks.n_masked / masks.n_rows();
        let kept = patches
            .select(0, masks.kept.clone())
            .reshape([masks.n_rows(), n_kept, dim]);
        let tokens = encoder.encode(kept, &mut |_, _| ());
        let class_tokens = tokens
            .clone()
            .narrow(1, 0, 1)
            .reshape([masks.n_rows(), dim]);
        (
            class_tokens,
            without_class_token(tokens).reshape([masks.n_rows() * n_kept, dim]),
        )
    };

    let noise = noise.unwrap_or_else(|| {
        let distribution = Distribution::Normal(0.0, config.noise_std);
        Tensor::random([masks.n_masked, dim], distribution, &targets.device())
    });
    let filled = Tensor::cat(vec![kept, noise], 0)
        .select(0, masks.restore.clone())
        .reshape([masks.n_rows(), n, dim]);
    let decoded = decoder.forward(filled);
    let [_, _, decoder_dim] = decoded.dims();
    let masked = decoded
        .reshape([masks.n_rows() * n, decoder_dim])
        .select(0, masks.masked_of_rows.clone());
    let predictions = decoder.project(masked);

    let cls_sum = (config.cls_loss_weight > 0.0)
        .then(|| class_token_loss(config, class_tokens, targets.clone(), &masks));
    let targets = targets
        .reshape([b * n, dim])
        .select(0, masks.masked_of_samples.clone());
    let regression_sum = squared_error_sum(predictions.clone(), targets.clone())
        .mul_scalar((dim as f64).sqrt().recip());
    Output {
        loss_sum: match &cls_sum {
            Some(cls_sum) => regression_sum.clone() + cls_sum.clone(),
            None => regression_sum.clone(),
        },
        count: masks.n_masked as f64,
        regression_sum: regression_sum.inner(),
        cls_sum: cls_sum.map(Tensor::inner),
        targets,
        predictions: predictions.inner(),
        local: local.inner().reshape([b * n, dim]),
    }
}

/// The class token's loss with its weight.
///
/// The reference sums over the rows of one GPU and multiplies by that GPU's masked patches; what
/// is left after the division by all masked patches is weight × (rows per GPU) × the mean over all
/// rows. So rows per GPU are taken to be `cls_batch`·M, and each row's term is multiplied by its
/// own masked patches: equal to the reference at that batch, and the same for any split of a batch.
fn class_token_loss(
    config: &Data2Vec2Config,
    class_tokens: Tensor<2>,
    targets: Tensor<3>,
    masks: &Masks,
) -> Tensor<1> {
    let [b, _, dim] = targets.dims();
    let means = targets
        .mean_dim(1)
        .reshape([b, dim])
        .select(0, masks.sample_of_rows.clone());
    let rows = config.cls_batch * masks.n_masks;
    let masked_per_row = masks.n_masked / masks.n_rows();
    let weight = config.cls_loss_weight * (rows * masked_per_row) as f64 / (dim as f64).sqrt();
    squared_error_sum(class_tokens, means).mul_scalar(weight)
}
