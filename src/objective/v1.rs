//! data2vec 1.0 on images, as `data2vec_vision/beit` has it.

use burn::tensor::Tensor;

use super::loss::smooth_l1_sum;
use super::targets::Average;
use super::{Inputs, Output};
use crate::model::{Data2Vec1Config, Network1, without_class_token};

/// The teacher's last block outputs, averaged, `[B, N, D]`.
pub(super) fn targets(
    config: &Data2Vec1Config,
    teacher: &Network1,
    images: Tensor<4>,
) -> Tensor<3> {
    let encoder = &teacher.encoder;
    let mut average = Average::new(config.targets, encoder.depth());
    let tokens = encoder.tokens(encoder.local(images), None);
    encoder.encode(tokens, &mut |block_idx, output| {
        average.add(block_idx, || without_class_token(output.hidden.clone()));
    });
    average.finish()
}

/// Smooth-L1 between the student's masked patches and the targets there.
pub(super) fn forward(
    config: &Data2Vec1Config,
    student: &Network1,
    targets: Tensor<3>,
    inputs: Inputs,
) -> Output {
    let Inputs { images, masks, .. } = inputs;
    let [b, n, dim] = targets.dims();
    let encoder = &student.encoder;

    let local = encoder.local(images);
    let tokens = encoder.tokens(local.clone(), Some(masks.mask));
    let tokens = encoder.encode(tokens, &mut |_, _| ());
    // The last norm looks at one token at a time: only the masked ones need it.
    let masked = without_class_token(tokens)
        .reshape([b * n, dim])
        .select(0, masks.masked_of_samples.clone());
    let predictions = student.lm_head.forward_rows(encoder.normed(masked));

    let targets = targets
        .reshape([b * n, dim])
        .select(0, masks.masked_of_samples);
    // The reference's loss is a mean over elements: per masked patch it is a mean over D.
    let loss_sum = smooth_l1_sum(predictions.clone(), targets.clone(), config.loss_beta)
        .div_scalar(dim as f64);
    Output {
        count: masks.n_masked as f64,
        regression_sum: loss_sum.clone().inner(),
        loss_sum,
        cls_sum: None,
        targets,
        predictions: predictions.inner(),
        local: local.inner().reshape([b * n, dim]),
    }
}
