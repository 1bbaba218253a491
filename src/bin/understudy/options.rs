//! Options that several commands share.

use clap::Args;
use understudy::checkpoint::pretrained::Weights;
use understudy::device::{self, DeviceError};

/// `--device`.
#[derive(Args)]
pub(crate) struct DeviceOption {
    /// auto, cpu, cuda, cuda:N or flex
    #[arg(long, default_value = "auto")]
    device: String,
}

impl DeviceOption {
    /// Opens the device.
    pub(crate) fn open(&self) -> Result<burn::tensor::Device, DeviceError> {
        device::open(&self.device)
    }
}

/// `--set`.
#[derive(Args)]
pub(crate) struct SetOption {
    /// Override a value of the config, such as optim.lr=1e-4; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `--weights`.
#[derive(Args)]
pub(crate) struct WeightsOption {
    /// Weights of the teacher or of the student [default: teacher, if the model has one]
    #[arg(long)]
    pub(crate) weights: Option<Weights>,
}
