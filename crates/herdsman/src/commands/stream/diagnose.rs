//! `herdsman stream diagnose`: what is in the stream's way, and what to do about it.

use herdsman_node::{Lsn, NodeName};
use herdsman_stream::StreamConfig;
use herdsman_stream::checkpoint::Checkpoint;
use herdsman_stream::diagnose::{Level, Report, Wanted, diagnose};
use serde::Serialize;

use super::JsonArgs;
use super::target::{LIMIT, Target};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;

/// What is told.
#[derive(Debug, Serialize)]
struct Told {
    node: NodeName,
    database: String,
    user: String,
    level: Level,
    #[serde(flatten)]
    report: Report,
}

/// Asks the server and tells everything that was found.
pub(super) async fn run(args: &JsonArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global).await?;
    let stream = &target.config.stream;
    let wanted = Wanted::of(stream, handled(stream)).map_err(|error| Exit::Config.with(error))?;
    let report = Box::pin(diagnose(&target.info, &target.tls, &wanted, LIMIT)).await;
    let told = Told {
        node: target.node.clone(),
        database: target.info.dbname.clone(),
        user: target.info.user.clone(),
        level: report.level(),
        report,
    };
    if args.json {
        output::line(&serde_json::to_string_pretty(&told).unwrap_or_default());
    } else {
        output::line(&text(&told, stream));
    }
    Ok(if told.level == Level::Fail { Exit::Failure } else { Exit::Success })
}

/// Up to where changes are known to be handled; not known while a stream runs, which has the folder to itself.
pub(in crate::commands) fn handled(stream: &StreamConfig) -> Option<Lsn> {
    if !stream.state.is_dir() {
        return None;
    }
    Checkpoint::open(&stream.state).ok()?.load().ok()?.map(|saved| saved.safe)
}

fn text(told: &Told, stream: &StreamConfig) -> String {
    format!(
        "{}: {}, database {}, as {}; slot `{}`, publication `{}`\n\n{}",
        told.node,
        told.report.endpoint,
        told.database,
        told.user,
        stream.slot,
        stream.publication,
        told.report.to_string().trim_end()
    )
}
