//! `understudy export`.

use std::path::PathBuf;

use clap::Args;
use understudy::interop::export;
use understudy_pipelines::store::{Folder, StoreOptions};

use crate::options::WeightsOption;
use crate::output::{Outcome, print};

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// A run, one of its checkpoints, or an imported model: a path or URL
    model: String,
    /// Folder of the exported files: a new one
    #[arg(long)]
    to: PathBuf,
    #[command(flatten)]
    weights: WeightsOption,
}

pub(crate) fn run(args: &ExportArgs) -> Outcome {
    let model = Folder::open(&args.model, &StoreOptions::default())?;
    let exported = export(&model, args.weights.weights, &args.to)?;
    print(&format!("{}: {}", exported.path.display(), exported.hint))
}
