//! `herdsman completions`.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::{Exit, Failed};
use crate::output;

/// Prints the completions for a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "herdsman", &mut script);
    output::bytes(&script);
    Ok(Exit::Success)
}
