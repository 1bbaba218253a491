//! `understudy export`.

use std::path::PathBuf;

use clap::Args;
use understudy::checkpoint::pretrained::Weights;
use understudy::interop::export;
use understudy_pipelines::store::{Folder, StoreOptions};

use crate::output::{Outcome, print};

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// A run, one of its checkpoints, or an imported model: a path or URL
    model: String,
    /// New folder for the exported files
    #[arg(long)]
    to: PathBuf,
    /// Export the weights of the student, as in published models, or of the teacher
    #[arg(long, default_value = "student")]
    weights: Weights,
}

pub(crate) fn run(args: &ExportArgs) -> Outcome {
    let model = Folder::open(&args.model, &StoreOptions::default())?;
    let exported = export(&model, args.weights, &args.to)?;
    print(&format!("{}: {}", exported.path.display(), exported.hint))
}
