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

/// `--weights`.
#[derive(Args)]
pub(crate) struct WeightsOption {
    /// Weights of the teacher or of the student [default: teacher, if the model has one]
    #[arg(long)]
    pub(crate) weights: Option<Weights>,
}
