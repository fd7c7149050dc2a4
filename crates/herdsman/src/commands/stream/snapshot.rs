//! `herdsman stream snapshot`.
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use clap::Args;

/// `herdsman stream snapshot`.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// Tables, as schema.table with * and ?
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<String>,
}

pub(super) async fn run(_args: &SnapshotArgs, _global: &Global) -> Result<Exit, Failed> {
    Ok(Exit::Success)
}
