//! `understudy demo`.

use std::path::PathBuf;

use clap::Args;

use crate::options::DeviceOption;
use crate::output::Outcome;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Folder of images, shards and the run
    #[arg(long, default_value = "runs/demo")]
    dir: PathBuf,
    #[command(flatten)]
    device: DeviceOption,
}

pub(crate) fn run(args: &DemoArgs) -> Outcome {
    let device = args.device.open()?;
    let ending = understudy::demo::run(&args.dir, &device)?;
    Ok(ending.exit_code().into())
}
