//! Herdsman: keeps a herd of SQL servers together and makes it look like one dependable database.
//!
//! This crate is the door for hands: the command line, the one configuration file, and the wiring. What the program
//! does lives in the crates it composes.

mod cli;
mod client;
mod codes;
mod commands;
mod config;
mod exit;
mod logs;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::Exit;

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
    let code = runtime.block_on(Box::pin(commands::dispatch(cli)));
    #[cfg(feature = "otel")]
    otel::flush();
    // A lookup of a host name may hang for longer than anyone wants to wait.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}
