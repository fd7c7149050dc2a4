//! The commands: each turns arguments into an exit code.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Cli, Command, ConfigFile};
use crate::codes::Code;
use crate::exit::{Exit, Failed};
use crate::{logs, output};

mod ask;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod import;
pub(crate) mod ledger;
pub(crate) mod manual;
pub(crate) mod mesh;
pub(crate) mod primary;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod top;

/// Does what the command line asks.
pub(crate) async fn dispatch(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let named = |file: &ConfigFile| file.file.clone().or_else(|| global.config.clone());
    if cli.command.is_some() && cli.file.is_some() {
        return finish(Err(Exit::Usage
            .with("a file cannot come before a command; name it after, or with `-c FILE`")));
    }
    let runs = match &cli.command {
        None | Some(Command::Run(_)) => true,
        Some(Command::Stream(args)) => args.runs(),
        Some(Command::Mesh(args)) => args.runs(),
        Some(Command::Ledger(args)) => args.runs(),
        Some(_) => false,
    };
    if global.debug
        && !runs
        && let Err(problem) = logs::start_bare(global.log_format)
    {
        return finish(Err(Exit::Usage.with(problem)));
    }
    let outcome = match cli.command {
        None => match fallback(cli.file.as_deref(), global.config.as_deref()) {
            Ok(file) => Box::pin(run::run(file, None, global)).await,
            Err(failed) => Err(failed),
        },
        Some(Command::Run(args)) => {
            let file = named(&args.file);
            Box::pin(run::run(file.as_deref(), args.take_over.as_deref(), global)).await
        }
        Some(Command::Check(args)) => check::run(&args, named(&args.file).as_deref()).await,
        Some(Command::Import(args)) => import::run(&args),
        Some(Command::Doctor(args)) => {
            Box::pin(doctor::run(&args, named(&args.file).as_deref())).await
        }
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Status(args)) => status::run(&args, global).await,
        Some(Command::Top(args)) => Box::pin(top::run(&args, global)).await,
        Some(Command::Primary(args)) => primary::run(&args, global).await,
        Some(Command::Hold) => Box::pin(console::hold(global)).await,
        Some(Command::Resume) => Box::pin(console::resume(global)).await,
        Some(Command::Switchover(args)) => Box::pin(console::switchover(&args, global)).await,
        Some(Command::Mesh(args)) => Box::pin(mesh::run(&args, global)).await,
        Some(Command::Ledger(args)) => Box::pin(ledger::run(&args, global)).await,
        Some(Command::Stream(args)) => Box::pin(stream::run(&args, global)).await,
        Some(Command::Sandbox(args)) => return sandbox::run(args).await,
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Manual(args)) => manual::run(&args),
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
                if let Some(code) = Code::of_exit(exit) {
                    output::hint(&format!("`herdsman explain {code}` says what to do"));
                }
            }
            exit.into()
        }
    }
}
