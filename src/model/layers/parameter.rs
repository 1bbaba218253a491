//! Parameters whose values are written later.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};

/// Returns a parameter without a value. Reading it before a value was written is a bug and panics.
pub(crate) fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |_, _| panic!("a parameter of shape {shape:?} was read before it had a value"),
        device.clone(),
        true,
        shape.into(),
    )
}
