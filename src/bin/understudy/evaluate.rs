//! `understudy evaluate`.

use clap::Args;
use understudy::config::Overrides;
use understudy::evaluate::{self, EvalUnit};
use understudy_pipelines::store::{Folder, StoreOptions};

use crate::options::{DeviceOption, WeightsOption};
use crate::output::{Outcome, print};

#[derive(Args)]
pub(crate) struct EvaluateArgs {
    /// A run, one of its checkpoints, or an imported model: a path or URL
    run: String,
    #[command(flatten)]
    weights: WeightsOption,
    /// Classify single positions of audio, each with the label of its utterance, instead of utterances
    #[arg(long)]
    frames: bool,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceOption,
}

pub(crate) fn run(args: &EvaluateArgs) -> Outcome {
    let device = args.device.open()?;
    let run = Folder::open(&args.run, &StoreOptions::default())?;
    let unit = if args.frames {
        EvalUnit::Frames
    } else {
        EvalUnit::Samples
    };
    let table = evaluate::run(&run, args.weights.weights, unit, &args.overrides, &device)?;
    print(&table.to_string())
}
