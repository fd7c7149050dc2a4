//! `herdsman stream status`: where the stream stands, told by the server and the folder with our state.

use std::collections::BTreeMap;

use herdsman_node::NodeName;
use herdsman_wal::publication::{self, Publication};
use herdsman_wal::slot::{self, Slot};
use serde::Serialize;

use super::target::Target;
use super::{JsonArgs, slots};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, bytes, or_dash};

/// What is told.
#[derive(Debug, Serialize)]
struct Told {
    node: NodeName,
    endpoint: String,
    database: String,
    slot: Option<Slot>,
    publication: Option<Publication>,
    /// By sink; sinks without any are left out.
    dead_letters: BTreeMap<String, usize>,
}

/// Looks and tells.
pub(super) async fn run(args: &JsonArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global).await?;
    let stream = &target.config.stream;
    let session = target.session().await?;
    let told = Told {
        node: target.node.clone(),
        endpoint: target.info.endpoint(),
        database: target.info.dbname.clone(),
        slot: slot::inspect(&session, &stream.slot).await.map_err(|error| target.failed(&error))?,
        publication: publication::inspect(&session, &stream.publication)
            .await
            .map_err(|error| target.failed(&error))?,
        dead_letters: super::dlq::counts(stream)?,
    };
    if args.json {
        output::line(&serde_json::to_string_pretty(&told).unwrap_or_default());
    } else {
        output::line(&text(&target, &told));
    }
    Ok(Exit::Success)
}

fn text(target: &Target, told: &Told) -> String {
    let stream = &target.config.stream;
    let mut lines = vec![format!("{}: {}, database {}", told.node, told.endpoint, told.database)];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:13}{value}"));
    match &told.slot {
        None => line("slot", format!("`{}` is not there", stream.slot)),
        Some(slot) => {
            let reader = slot.active_pid.map_or_else(
                || "nobody reads it".to_owned(),
                |pid| format!("read by process {pid} of the server"),
            );
            line("slot", format!("`{}`, {reader}", slot.name));
            line("confirmed", or_dash(slot.confirmed));
            line("waiting", format!("{} of log not confirmed", or_dash(slot.waiting().map(bytes))));
            line("kept", format!("{} of log on the server", or_dash(slot.retained().map(bytes))));
            let remarks = slots::remarks(slot);
            if !remarks.is_empty() {
                line("remarks", show::clean(&remarks));
            }
        }
    }
    match &told.publication {
        None => line("publication", format!("`{}` is not there", stream.publication)),
        Some(publication) => {
            let tables = match publication.spec.tables.len() {
                _ if publication.spec.all_tables => "every table".to_owned(),
                1 => "1 table".to_owned(),
                number => format!("{number} tables"),
            };
            line("publication", format!("`{}`, {tables}", publication.spec.name));
        }
    }
    let letters: Vec<_> =
        told.dead_letters.iter().map(|(sink, number)| format!("{sink}: {number}")).collect();
    line("dead letters", if letters.is_empty() { "none".to_owned() } else { letters.join(", ") });
    lines.join("\n")
}
