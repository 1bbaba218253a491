//! `understudy demo`.

use std::path::PathBuf;

use clap::Args;
use understudy::exit_code::{ExitCode, FAILED};
use understudy::train::TrainError;

use crate::options::DeviceOption;
use crate::output::{CommandError, Outcome};

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
    let ending = understudy::demo::run(&args.dir, &device).map_err(|error| {
        let train = error.downcast_ref::<TrainError>();
        let code = train.map_or(FAILED, ExitCode::exit_code);
        CommandError::other(error)
            .with_code(code)
            .context(format!("the demo in {}", args.dir.display()))
    })?;
    Ok(ending.exit_code().into())
}
