//! `herdsman doctor`: what is wrong on every node and in every section, and what mends it.
//!
//! [`gather`] looks, and decides nothing; [`judge`] decides, and looks at nothing but what was gathered.

mod evidence;
mod finding;
mod gather;
mod judge;
mod text;

use std::path::Path;

use crate::cli::DoctorArgs;
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};
use crate::{output, show};

/// Looks, judges, tells.
pub(crate) async fn run(args: &DoctorArgs, file: Option<&Path>) -> Result<Exit, Failed> {
    let config = Config::load(file, Depth::Full)?;
    let evidence = Box::pin(gather::gather(&config)).await;
    let report = finding::Report::of(judge::findings(&config, &evidence));
    if args.json {
        output::line(&serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        output::line(&text::shown(&report, args.all, show::width_or_default()));
    }
    Ok(report.exit())
}
