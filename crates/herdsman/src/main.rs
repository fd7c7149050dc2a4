//! Herdsman: keeps a herd of SQL servers together and makes it look like one dependable database.
//!
//! This crate is the door for hands: the command line, the one configuration file, and the wiring. What the program
//! does lives in the crates it composes.

mod cli;
mod client;
mod commands;
mod config;
mod exit;
mod logs;
mod output;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigFile};
use crate::exit::{Exit, Failed};

/// Threads that run tasks: a watcher of a hundred nodes and its API leave two of them idle.
const WORKERS: usize = 2;

/// Threads for blocking work (looking up host names, reading files).
const BLOCKING: usize = 16;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("failed to start the runtime: {error}"));
            return Exit::Internal.into();
        }
    };
    let code = runtime.block_on(Box::pin(dispatch(cli)));
    // A lookup of a host name may hang for longer than anyone wants to wait.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn dispatch(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let named = |file: &ConfigFile| file.file.clone().or_else(|| global.config.clone());
    if cli.command.is_some() && cli.file.is_some() {
        return finish(Err(Exit::Usage
            .with("a file cannot come before a command; name it after, or with `-c FILE`")));
    }
    let outcome = match cli.command {
        None => match fallback(cli.file.as_deref(), global.config.as_deref()) {
            Ok(file) => commands::run::run(file, global).await,
            Err(failed) => Err(failed),
        },
        Some(Command::Run(args)) => commands::run::run(named(&args).as_deref(), global).await,
        Some(Command::Check(args)) => {
            commands::check::run(&args, named(&args.file).as_deref()).await
        }
        Some(Command::Status(args)) => commands::status::run(&args, global).await,
        Some(Command::Primary(args)) => commands::primary::run(&args, global).await,
        Some(Command::Sandbox(args)) => return commands::sandbox::run(args).await,
        Some(Command::Completions(args)) => commands::completions::run(&args),
        Some(Command::Manual(args)) => commands::manual::run(&args),
    };
    finish(outcome)
}

/// The file to run with where no command was given.
fn fallback<'a>(
    file: Option<&'a Path>,
    config: Option<&'a Path>,
) -> Result<Option<&'a Path>, Failed> {
    match (file, config) {
        (Some(_), Some(_)) => {
            Err(Exit::Usage.with("the configuration is named twice; name it once"))
        }
        (Some(file), None) if !file.exists() => Err(Exit::Usage.with(format!(
            "`{}` is neither a command nor a file; see `herdsman --help`",
            file.display()
        ))),
        (file, config) => Ok(file.or(config)),
    }
}

fn finish(outcome: Result<Exit, Failed>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(Failed { exit, message }) => {
            if !message.is_empty() {
                output::note(&message);
            }
            exit.into()
        }
    }
}
