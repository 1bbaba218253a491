//! Chains of operations for which libtorch has faster kernels than burn's composition; on other
//! backends they are burn's.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, activation, module};

use super::conv::{Conv1d, Conv2d};

#[cfg(feature = "libtorch")]
use crate::libtorch::native;

/// Normalises over the last dimension, `[..., D]`, with a gain and a bias.
pub(crate) fn layer_norm<const R: usize>(
    x: Tensor<R>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<R> {
    #[cfg(feature = "libtorch")]
    if let Some(y) = native::layer_norm(&x, &gain, &bias, eps) {
        return y;
    }
    module::layer_norm(x, gain, Some(bias), eps)
}

/// Returns the gain 1 and bias 0 of a norm over `dim` channels without parameters.
pub(crate) fn no_affine<const R: usize>(x: &Tensor<R>, dim: usize) -> (Tensor<1>, Tensor<1>) {
    let device = x.device().without_autodiff();
    (Tensor::ones([dim], &device), Tensor::zeros([dim], &device))
}

/// Applies a convolution over a sequence, a norm over its channels and GELU.
///
/// # Shapes
///
/// - x: `[B, T, in]`; output: `[B, T', out]`; gain and bias of the norm: `[out]`
pub(crate) fn conv_norm_gelu(
    conv: &Conv1d,
    x: Tensor<3>,
    (gain, bias): (Tensor<1>, Tensor<1>),
    eps: f64,
) -> Tensor<3> {
    #[cfg(feature = "libtorch")]
    {
        let conv_bias = conv.bias.as_ref().map(burn::module::Param::val);
        let weights = (&conv.weight.val(), conv_bias.as_ref());
        if let Some(y) = native::conv_norm_gelu(&x, weights, conv.geometry(), (&gain, &bias), eps) {
            return y;
        }
    }
    activation::gelu(layer_norm(conv.forward(x), gain, bias, eps))
}

/// Applies a convolution over a grid, a norm over its channels and GELU.
///
/// # Shapes
///
/// - x: `[B, N, in]`; output: `[B, N, out]`; gain and bias of the norm: `[out]`
pub(crate) fn grid_conv_norm_gelu(
    conv: &Conv2d,
    x: Tensor<3>,
    (gain, bias): (Tensor<1>, Tensor<1>),
    eps: f64,
) -> Tensor<3> {
    #[cfg(feature = "libtorch")]
    {
        let weights = (&conv.weight.val(), Some(&conv.bias.val()));
        if let Some(y) = native::conv_norm_gelu(&x, weights, conv.geometry(), (&gain, &bias), eps) {
            return y;
        }
    }
    activation::gelu(layer_norm(conv.forward(x), gain, bias, eps))
}

/// Computes softmax(q·kᵀ / √d + bias)·v.
///
/// # Shapes
///
/// - q, k, v and output: `[B, H, S, D / H]`; bias: `[B or 1, H or 1, S, S]`
pub(crate) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    bias: Option<Tensor<4>>,
) -> Tensor<4> {
    #[cfg(feature = "libtorch")]
    if let Some(y) = native::attention(&q, &k, &v, bias.as_ref()) {
        return y;
    }
    if !q.is_autodiff() {
        return module::attention(q, k, v, None, bias, AttentionModuleOptions::default());
    }
    probabilities(q, k, bias).matmul(v)
}

/// Computes softmax(q·kᵀ / √d + bias), `[B, H, S, S]`.
pub(crate) fn probabilities(q: Tensor<4>, k: Tensor<4>, bias: Option<Tensor<4>>) -> Tensor<4> {
    // burn's composition under autodiff guards against fully masked rows; there are none here.
    let [_, _, _, head_dim] = q.dims();
    let q = q.mul_scalar((head_dim as f64).sqrt().recip());
    let logits = q.matmul(k.swap_dims(2, 3));
    let logits = match bias {
        Some(bias) => logits + bias,
        None => logits,
    };
    activation::softmax(logits, 3)
}

#[cfg(all(test, feature = "libtorch"))]
mod tests {
    use burn::module::{Param, ParamId};
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Deterministic values that look random, tracked.
    fn values<const D: usize>(shape: [usize; D], seed: f32, device: &Device) -> Tensor<D> {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 12.9898 + seed).sin()).collect();
        let data = TensorData::new(values, shape);
        Tensor::from_data(data, &device.clone().autodiff()).require_grad()
    }

    fn list<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    /// Returns the output and the gradients of Σ output · weights, with unequal weights.
    fn found<const D: usize>(output: Tensor<D>, of: &[&dyn Gradient]) -> Vec<Vec<f32>> {
        let device = output.device();
        let weights = values(output.dims(), 0.5, &device);
        let grads = (output.clone() * weights.detach()).sum().backward();
        let gradients = of.iter().map(|tensor| tensor.gradient(&grads));
        std::iter::once(list(output)).chain(gradients).collect()
    }

    trait Gradient {
        fn gradient(&self, grads: &burn::tensor::Gradients) -> Vec<f32>;
    }

    impl<const D: usize> Gradient for Tensor<D> {
        fn gradient(&self, grads: &burn::tensor::Gradients) -> Vec<f32> {
            list(self.grad(grads).expect("a gradient"))
        }
    }

    /// Compares flex with libtorch on the CPU and, if there is one, on `cuda:0`.
    fn same_on_both(run: impl Fn(&Device) -> Vec<Vec<f32>>) {
        let flex = run(&Device::flex());
        for (name, device) in crate::libtorch::devices().iter().take(2) {
            let libtorch = run(device);
            assert_eq!(flex.len(), libtorch.len());
            for (which, (flex, libtorch)) in flex.iter().zip(&libtorch).enumerate() {
                assert_eq!(flex.len(), libtorch.len());
                let largest = flex.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
                assert!(largest > 1e-3, "{which} is all zero");
                for (a, b) in flex.iter().zip(libtorch) {
                    let is_near = (a - b).abs() < 1e-4 * largest.max(1.0);
                    assert!(is_near, "{which} on {name}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn norms_and_their_gradients_are_the_same_on_both_backends() {
        same_on_both(|device| {
            let x = values([3, 5, 8], 0.0, device);
            let (gain, bias) = (values([8], 1.0, device), values([8], 2.0, device));
            let y = layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5);
            found(y, &[&x, &gain, &bias])
        });
        // Without autodiff, as in the teacher and in evaluation.
        same_on_both(|device| {
            let x = values([3, 8], 0.0, device).inner();
            let (gain, bias) = no_affine(&x, 8);
            vec![list(layer_norm(x, gain, bias, 1e-5))]
        });
    }

    #[test]
    fn convolutions_and_their_gradients_are_the_same_on_both_backends() {
        for (is_same, groups) in [(true, 4), (true, 1), (false, 1)] {
            same_on_both(|device| {
                let mut conv = if is_same {
                    Conv1d::same(8, 12, 3, groups, device)
                } else {
                    Conv1d::strided(8, 12, 3, 2, device)
                };
                let weight = values([12, 8 / groups, 3], 1.0, device);
                conv.weight = Param::initialized(ParamId::new(), weight.clone());
                let bias = values([12], 2.0, device);
                if is_same {
                    conv.bias = Some(Param::initialized(ParamId::new(), bias.clone()));
                }
                let x = values([2, 9, 8], 0.0, device);
                let norm = (values([12], 3.0, device), values([12], 4.0, device));
                let y = conv_norm_gelu(&conv, x.clone(), norm.clone(), 1e-5);
                let mut of: Vec<&dyn Gradient> = vec![&x, &weight, &norm.0, &norm.1];
                if is_same {
                    of.push(&bias);
                }
                found(y, &of)
            });
        }
    }

    #[test]
    fn convolutions_over_grids_and_their_gradients_are_the_same_on_both_backends() {
        for groups in [1, 4] {
            same_on_both(|device| {
                let mut conv = Conv2d::new(8, 12, 3, groups, device);
                let weight = values([12, 8 / groups, 3, 3], 1.0, device);
                let bias = values([12], 2.0, device);
                conv.weight = Param::initialized(ParamId::new(), weight.clone());
                conv.bias = Param::initialized(ParamId::new(), bias.clone());
                let x = values([2, 16, 8], 0.0, device);
                let norm = (values([12], 3.0, device), values([12], 4.0, device));
                let y = grid_conv_norm_gelu(&conv, x.clone(), norm.clone(), 1e-5);
                found(y, &[&x, &weight, &bias, &norm.0, &norm.1])
            });
        }
    }

    #[test]
    fn attention_and_its_gradients_are_the_same_on_both_backends() {
        for has_bias in [true, false] {
            same_on_both(|device| {
                let [q, k, v] = [0.0, 1.0, 2.0].map(|seed| values([2, 2, 5, 4], seed, device));
                let bias = values([1, 2, 5, 5], 3.0, device);
                let given = has_bias.then(|| bias.clone());
                let y = attention(q.clone(), k.clone(), v.clone(), given);
                let mut of: Vec<&dyn Gradient> = vec![&q, &k, &v];
                if has_bias {
                    of.push(&bias);
                }
                found(y, &of)
            });
        }
    }

    #[test]
    fn constant_input_gets_no_gradient_and_inputs_are_not_overwritten() {
        let device = crate::libtorch::cpu();
        let x = values([3, 8], 0.0, &device);
        let (gain, bias) = no_affine(&x, 8);
        let before = list(x.clone());
        // burn computes in place on the output, while libtorch still needs the saved tensors.
        let y = layer_norm(x.clone(), gain, bias, 1e-5).add_scalar(1.0);
        assert!(x.grad(&y.exp().sum().backward()).is_some());
        assert_eq!(list(x.clone()), before);

        let (gain, bias) = (values([8], 1.0, &device), values([8], 2.0, &device));
        let y = layer_norm(x.inner(), gain.clone(), bias, 1e-5);
        assert!(gain.grad(&y.sum().backward()).is_some());
    }
}
