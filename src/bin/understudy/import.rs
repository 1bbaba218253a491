//! `understudy import`.

use std::path::PathBuf;

use clap::Args;
use understudy::interop::import;

use crate::output::{CommandError, Outcome, print};

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// A Hugging Face folder, or a .pt or .pth file, which is read without executing its pickle
    source: PathBuf,
    /// New folder for the model
    #[arg(long)]
    to: PathBuf,
}

pub(crate) fn run(args: &ImportArgs) -> Outcome {
    let imported = import(&args.source, &args.to).map_err(|error| {
        CommandError::from(error).context(format!("importing {}", args.source.display()))
    })?;
    print(&imported.to_string())
}
