//! Chains of operations that libtorch differentiates itself; each is one operation for burn.
//!
//! burn computes norms, softmax and the gradients of convolutions in many passes over memory.
//! libtorch has one kernel for each, but tch does not expose the backward kernels. libtorch's autograd
//! calls them: it records the chain in the forward pass and computes the gradients of its inputs in
//! the backward pass.
#![expect(
    deprecated,
    reason = "deprecated in the last burn with libtorch; see Cargo.toml"
)]

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn_tch::{LibTorch, TchTensor};

type Tracked = FloatTensor<Autodiff<LibTorch>>;

/// Normalises `x`, `[..., D]`. Returns none if `x` is not on libtorch.
pub(crate) fn layer_norm<const R: usize>(
    x: &Tensor<R>,
    gain: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<R>> {
    let inputs = [input(x)?, input(gain)?, input(bias)?];
    Some(apply(inputs, |[x, gain, bias]| {
        x.layer_norm(gain.size(), Some(gain), Some(bias), eps, true)
    }))
}

/// Applies a convolution over a sequence or a square grid, a norm over its channels and GELU. Returns
/// none if `x` is not on libtorch.
///
/// # Shapes
///
/// - x: `[B, T, in]`, T the cells of a grid in row-major order; output: `[B, T', out]`
/// - weight: `[out, in / groups, kernel]` or, for a grid, `[out, in / groups, kernel, kernel]`
/// - gain and bias of the norm: `[out]`
pub(crate) fn conv_norm_gelu<const W: usize>(
    x: &Tensor<3>,
    (weight, bias): (&Tensor<W>, Option<&Tensor<1>>),
    (stride, padding, groups): (usize, usize, usize),
    (gain, shift): (&Tensor<1>, &Tensor<1>),
    eps: f64,
) -> Option<Tensor<3>> {
    let [stride, padding, groups] = [stride, padding, groups].map(|n| n as i64);
    let chain = |x: &tch::Tensor, weight: &_, bias: Option<&_>, gain: &tch::Tensor, shift: &_| {
        let y = match x.size()[..] {
            [b, n, n_in] if W == 4 => {
                let grid = n.isqrt();
                // Channels last is libtorch's `channels_last`: nothing is copied.
                let x = x.reshape([b, grid, grid, n_in]).permute([0, 3, 1, 2]);
                let y = x.conv2d(weight, bias, stride, padding, 1, groups);
                y.permute([0, 2, 3, 1]).flatten(1, 2)
            }
            _ => {
                let y = x.transpose(1, 2);
                let y = y.conv1d(weight, bias, stride, padding, 1, groups);
                y.transpose(1, 2)
            }
        };
        y.layer_norm(gain.size(), Some(gain), Some(shift), eps, true)
            .gelu("none")
    };
    let [x, weight] = [input(x)?, input(weight)?];
    let [gain, shift] = [input(gain)?, input(shift)?];
    Some(match bias {
        Some(bias) => apply([x, weight, input(bias)?, gain, shift], |[x, w, b, g, s]| {
            chain(x, w, Some(b), g, s)
        }),
        None => apply([x, weight, gain, shift], |[x, w, g, s]| {
            chain(x, w, None, g, s)
        }),
    })
}

/// Computes softmax(q·kᵀ / √d + bias)·v. Returns none if `q` is not on libtorch.
///
/// # Shapes
///
/// - q, k, v and output: `[B, H, S, D / H]`; bias: `[B or 1, H or 1, S, S]`
pub(crate) fn attention(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    bias: Option<&Tensor<4>>,
) -> Option<Tensor<4>> {
    let chain = |q: &tch::Tensor, k: &_, v: &_, bias: Option<&tch::Tensor>| {
        tch::Tensor::scaled_dot_product_attention(q, k, v, bias, 0.0, false, None, false)
    };
    let [q, k, v] = [input(q)?, input(k)?, input(v)?];
    Some(match bias {
        Some(bias) => apply([q, k, v, input(bias)?], |[q, k, v, bias]| {
            chain(q, k, v, Some(bias))
        }),
        None => apply([q, k, v], |[q, k, v]| chain(q, k, v, None)),
    })
}

/// One input of a chain.
enum Input {
    Plain(TchTensor),
    Autodiff(Tracked),
}

/// Returns `tensor` as an input if it is on libtorch.
fn input<const D: usize>(tensor: &Tensor<D>) -> Option<Input> {
    let tensor = tensor.clone();
    if tensor.is_autodiff() {
        let tensor = tensor.try_into_primitive::<Autodiff<LibTorch>>();
        tensor.ok().map(Input::Autodiff)
    } else {
        let tensor = tensor.try_into_primitive::<LibTorch>();
        tensor.ok().map(Input::Plain)
    }
}

/// Applies `chain` to `inputs`. The result is on the plain device if all inputs are, else on the
/// autodiff device.
fn apply<const N: usize, const R: usize>(
    inputs: [Input; N],
    chain: impl Fn([&tch::Tensor; N]) -> tch::Tensor,
) -> Tensor<R> {
    let run = |tensors: &[TchTensor; N]| {
        let output = chain(tensors.each_ref().map(|tensor| &tensor.tensor));
        TchTensor::new(output)
    };
    if !inputs
        .iter()
        .any(|input| matches!(input, Input::Autodiff(_)))
    {
        let tensors = inputs.map(|input| match input {
            Input::Plain(tensor) => tensor,
            Input::Autodiff(_) => unreachable!("there is none"),
        });
        return Tensor::from_primitive::<LibTorch>(run(&tensors));
    }
    let inputs = inputs.map(|input| match input {
        Input::Plain(tensor) => Tracked::new(tensor),
        Input::Autodiff(tensor) => tensor,
    });
    let is_tracked = inputs.each_ref().map(Tracked::is_tracked);
    let nodes = inputs.each_ref().map(Tracked::node);
    let tensors = inputs.map(Tracked::into_primitive);
    let output = match Chain
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::UnTracked(prep) => prep.finish(run(&tensors)),
        OpsKind::Tracked(prep) => {
            let mut is_tracked = is_tracked.into_iter();
            let leaves = tensors.each_ref().map(|input| {
                let leaf = input.tensor.detach();
                TchTensor::new(leaf.set_requires_grad(is_tracked.next() == Some(true)))
            });
            let tracked = run(&leaves);
            let output = TchTensor::new(tracked.tensor.detach());
            let graph = Graph {
                leaves,
                tracked,
                _untouched: (tensors, output.clone()),
            };
            prep.finish(graph, output)
        }
    };
    Tensor::from_primitive::<Autodiff<LibTorch>>(output)
}

#[derive(Debug)]
struct Chain;

/// The graph that libtorch recorded.
#[derive(Debug, Clone)]
struct Graph<const N: usize> {
    /// The inputs, as leaves of libtorch's autograd.
    leaves: [TchTensor; N],
    /// The output, from which libtorch runs the backward pass.
    tracked: TchTensor,
    /// Keeps these tensors shared, so that burn does not overwrite values that libtorch has saved.
    _untouched: ([TchTensor; N], TchTensor),
}

impl<const N: usize> Backward<LibTorch, N> for Chain {
    type State = Graph<N>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<LibTorch>(&ops.node).tensor;
        let graph = ops.state;
        // tch starts from ones: the gradient of the sum of products is the required one.
        let root = (&graph.tracked.tensor * grad).sum(None);
        let parents = ops.parents.iter().zip(&graph.leaves);
        let wanted: Vec<_> = parents
            .filter_map(|(parent, leaf)| Some((parent.as_ref()?, &leaf.tensor)))
            .collect();
        let leaves: Vec<_> = wanted.iter().map(|(_, leaf)| *leaf).collect();
        let found = tch::Tensor::run_backward(&[root], &leaves, false, false);
        for ((parent, _), found) in wanted.iter().zip(found) {
            grads.register::<LibTorch>(parent.id, TchTensor::new(found));
        }
    }
}
