//! `herdsman mesh status`: who is how far behind whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use herdsman_mesh::look::look;
use serde::Deserialize;
use serde_json::Value;

use super::door::document;
use super::target::{Target, failed};
use crate::cli::{AskArgs, ConfigFile, Global};
use crate::client::Endpoint;
use crate::commands::ask;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, bytes, clean};

/// `herdsman mesh status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    ask: AskArgs,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Show it again each second until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// The document, as far as it is shown.
#[derive(Deserialize)]
struct Told {
    mesh: String,
    #[serde(default)]
    problem: Option<String>,
    targets: BTreeMap<String, Member>,
}

#[derive(Deserialize)]
struct Member {
    state: String,
    problem: Option<String>,
    links: BTreeMap<String, Link>,
    rows: u64,
    #[serde(default)]
    rows_per_second: f64,
    conflicts: u64,
}

#[derive(Deserialize)]
struct Link {
    state: String,
    problem: Option<String>,
    lag_bytes: u64,
    lag_seconds: f64,
}

const PATH: &str = "/v2/mesh";
const REFRESH: Duration = Duration::from_secs(1);

/// Shows it, once or again and again.
pub(super) async fn run(args: &StatusArgs, global: &Global) -> Result<Exit, Failed> {
    let global = &Global {
        config: args.file.file.clone().or_else(|| global.config.clone()),
        ..global.clone()
    };
    let target = args.ask.direct.then(|| Target::find(global.config.as_deref())).transpose()?;
    let endpoint = match &target {
        Some(_) => None,
        None => Some(ask::endpoint(&args.ask, global)?),
    };
    let seen = || async {
        match (&target, &endpoint) {
            (Some(target), _) => {
                let status = look(&target.setup).await.map_err(|error| failed(&error))?;
                Ok(document(&target.setup.config.name, &status))
            }
            (None, Some(endpoint)) => remote(endpoint).await,
            (None, None) => Err(Exit::Internal.with("there is nobody to ask")),
        }
    };
    if !args.watch {
        let document = Box::pin(seen()).await?;
        let (text, exit) = shown(&document, args.json)?;
        output::line(&text);
        return Ok(exit);
    }
    loop {
        // Who was away may be back in a second.
        match Box::pin(seen()).await.and_then(|document| shown(&document, args.json)) {
            Ok((text, _)) if args.json => output::line(&text),
            Ok((text, _)) => output::refresh(&text),
            Err(failed) if args.json => output::note(&failed.message),
            Err(failed) => output::refresh(&failed.message),
        }
        tokio::time::sleep(REFRESH).await;
    }
}

async fn remote(endpoint: &Endpoint) -> Result<Value, Failed> {
    let unavailable = |problem: String| Exit::Unavailable.with(problem);
    let answer = endpoint.get(PATH).await.map_err(|error| unavailable(error.to_string()))?;
    if !answer.status.is_success() {
        return Err(unavailable(format!(
            "{} answers {} to {PATH}; does that Herdsman run a mesh? `--direct` asks the members themselves",
            endpoint.url(),
            answer.status
        )));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        unavailable(format!("{} answers something else than a status: {error}", endpoint.url()))
    })
}

fn shown(document: &Value, json: bool) -> Result<(String, Exit), Failed> {
    let told = Told::deserialize(document).map_err(|error| {
        Exit::Unavailable.with(format!("the answer is no status of a mesh: {error}"))
    })?;
    // Another process at work is as good as this one.
    let well = |target: &Member| matches!(target.state.as_str(), "working" | "waiting");
    let all = told.problem.is_none() && !told.targets.is_empty() && told.targets.values().all(well);
    let exit = if all { Exit::Success } else { Exit::Failure };
    let text = if json { document.to_string() } else { text(&told) };
    Ok((text, exit))
}

fn text(told: &Told) -> String {
    let mut lines = vec![format!("mesh `{}`: {}", clean(&told.mesh), members(told.targets.len()))];
    lines.extend(told.problem.iter().map(|problem| clean(problem)));
    if told.targets.is_empty() {
        return lines.join("\n");
    }
    let header = ["MEMBER", "STATE", "ROWS", "ROWS/S", "CONFLICTS", "REMARKS"];
    let rows = told.targets.iter().map(|(name, target)| {
        let mut remarks: Vec<_> = target.problem.iter().cloned().collect();
        for (source, link) in &target.links {
            remarks.extend(link.problem.iter().map(|problem| format!("from {source}: {problem}")));
        }
        [
            name.clone(),
            target.state.clone(),
            target.rows.to_string(),
            format!("{:.0}", target.rows_per_second),
            target.conflicts.to_string(),
            clean(&remarks.join("; ")),
        ]
    });
    lines.push(String::new());
    lines.push(show::table(header, rows.collect()));
    lines.push(String::new());
    lines.push(lags(told));
    lines.join("\n")
}

fn members(count: usize) -> String {
    match count {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    }
}

/// How far each member is behind each other one: a line for each source, a column for each target.
fn lags(told: &Told) -> String {
    let sources: BTreeSet<_> = told.targets.values().flat_map(|t| t.links.keys()).collect();
    let mut header = vec!["FROM \\ TO".to_owned()];
    header.extend(told.targets.keys().cloned());
    let rows = sources.into_iter().map(|source| {
        let mut row = vec![source.clone()];
        row.extend(told.targets.iter().map(|(name, target)| match target.links.get(source) {
            // Its own changes are looked at again: no news for anybody.
            _ if name == source => "-".to_owned(),
            None => "-".to_owned(),
            Some(link) => {
                let lag = format!("{}, {:.1} s", bytes(link.lag_bytes), link.lag_seconds);
                if link.state == "streaming" { lag } else { format!("{} ({lag})", link.state) }
            }
        }));
        row
    });
    show::lined_up(header, rows.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(state: &str) -> Value {
        let link = |state: &str, bytes: u64, problem: Value| {
            json!({"state": state, "problem": problem, "sent": "0/0", "confirmed": "0/0", "lag_bytes": bytes,
                   "lag_seconds": 0.25, "rows": 1, "transactions": 1})
        };
        let target = |state: &str, links: Value| json!({"state": state, "problem": null, "links": links, "rows": 7, "rows_per_second": 12.4, "conflicts": 2});
        json!({"mesh": "shop", "problem": null, "targets": {
            "a": target("working", json!({"a": link("streaming", 0, Value::Null),
                                          "b": link("paused", 2048, Value::Null)})),
            "b": target(state, json!({"a": link("failing", 1, json!("no route")), "b": link("streaming", 9, Value::Null)})),
        }})
    }

    #[test]
    fn the_matrix_has_a_line_for_each_source_and_a_column_for_each_target() {
        let (text, exit) = shown(&status("waiting"), false).unwrap();
        assert_eq!(exit, Exit::Success);
        let expected = "\
mesh `shop`: 2 members

MEMBER  STATE    ROWS  ROWS/S  CONFLICTS  REMARKS
a       working  7     12      2
b       waiting  7     12      2          from a: no route

FROM \\ TO  a                       b
a          -                       failing (1 B, 0.2 s)
b          paused (2.0 kB, 0.2 s)  -";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_member_that_does_not_work_is_told_by_the_exit_code() {
        assert_eq!(shown(&status("failing"), true).unwrap().1, Exit::Failure);
        let empty = json!({"mesh": "m", "problem": "nobody answers", "targets": {}});
        let (text, exit) = shown(&empty, false).unwrap();
        assert_eq!((text.as_str(), exit), ("mesh `m`: 0 members\nnobody answers", Exit::Failure));
        assert!(shown(&json!([]), false).is_err());
    }
}
