//! Golden tensors of the reference implementations, on libtorch and on flex.
//!
//! Every case folder of a known kind in `$UNDERSTUDY_PARITY` is run; sizes come from its
//! `config.json` and tolerances from its `case.json`. `README.md` here says what becomes of every
//! option of the references.
#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot be read fails its test"
)]

mod case;
mod compare;
mod formula;
mod forward;
mod hugging_face;
mod losses;
mod options;
mod pretrain;
mod reference;
#[path = "../../pipelines/tests/support/skip.rs"]
mod skip;
mod v1;
mod v2;

use burn::tensor::Device;
use case::Case;

/// Runs `run` on every case of these kinds.
fn each_case(kinds: &[&str], device: &Device, run: fn(&Case, &Device)) {
    let Some(cases) = Case::find(kinds) else {
        return;
    };
    for case in cases {
        say(&format!("{} on {device:?}", case.name()));
        run(&case, device);
    }
}

#[expect(clippy::print_stderr, reason = "progress of a test")]
fn say(text: &str) {
    eprintln!("{text}");
}

const FORWARD: [&str; 2] = ["hf_forward", "hf_forward_base_geometry"];
const PRETRAIN: [&str; 1] = ["pretrain_step"];

mod flex {
    use super::*;

    #[test]
    fn hugging_face_forward() {
        each_case(&FORWARD, &Device::flex(), hugging_face::check);
    }

    #[test]
    fn pretrain_steps() {
        each_case(&PRETRAIN, &Device::flex(), pretrain::check);
    }
}

/// On the CPU and, if there is one, on `cuda:0`.
#[cfg(feature = "libtorch")]
mod libtorch {
    use super::*;

    #[test]
    fn hugging_face_forward() {
        for (_, device) in understudy::libtorch::devices().iter().take(2) {
            each_case(&FORWARD, device, hugging_face::check);
        }
    }

    #[test]
    fn pretrain_steps() {
        for (_, device) in understudy::libtorch::devices().iter().take(2) {
            each_case(&PRETRAIN, device, pretrain::check);
        }
    }
}
