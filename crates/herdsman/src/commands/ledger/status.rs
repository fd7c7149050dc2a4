//! `herdsman ledger status`: who is how far behind the end of the log.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use herdsman_ledger::Offset;
use herdsman_ledger::config::{LogConfig, NodeConfig};
use herdsman_ledger::engine::Condition;
use herdsman_ledger::node::{Node, Place};
use serde::{Deserialize, Serialize};

use super::door::{self, Unanswered};
use super::keeper::Keeper;
use super::lock;
use super::target::{self, Setup};
use super::work::{Answer, Request};
use crate::cli::{ConfigFile, Global};
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, clean, or_dash};

/// `herdsman ledger status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// How long a node or the log may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Digits of a hash that are shown.
const SHOWN: usize = 12;

/// Where a ledger stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Status {
    ledger: String,
    /// Whether a program has the nodes follow.
    runs: bool,
    /// The last entry of the log; none where the log is empty.
    end: Option<u64>,
    nodes: Vec<NodeStatus>,
}

/// Where a node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NodeStatus {
    name: String,
    kind: String,
    /// `following`, `starting`, `troubled`, `fenced`, `stopped` (nobody has it follow), `new` (it never did) or `unreachable`.
    state: String,
    problem: Option<String>,
    applied: Option<u64>,
    /// Entries that it lacks.
    lag: Option<u64>,
    /// How long it has lacked the first of them; known to a program that runs.
    lag_seconds: Option<f64>,
    /// Of the log up to what it has applied: nodes at the same place have the same.
    hash: Option<String>,
}

/// Shows it.
pub(super) async fn run(args: &StatusArgs, global: &Global) -> Result<Exit, Failed> {
    let (_, setup) = target::find(args.file.file.as_deref().or(global.config.as_deref()))?;
    let status = match door::call(&setup.socket, &Request::Status, LIMIT * 3).await {
        Ok(Answer::Status(status)) => status,
        Ok(Answer::Failed(refusal)) => return Err(Exit::Unavailable.with(refusal.message)),
        Ok(_) => {
            return Err(
                Exit::Unavailable.with("the running program answers something else than a status")
            );
        }
        Err(Unanswered::Nobody) => direct(&setup).await?,
        Err(Unanswered::Broken(why)) => {
            let place = lock::place(&setup.socket);
            let message =
                format!("the program that has {} does not say how it is: {why}", place.display());
            return Err(Exit::Unavailable.with(message));
        }
    };
    let well = status.runs && status.nodes.iter().all(|node| node.state == "following");
    output::line(&if args.json {
        serde_json::to_string_pretty(&status).unwrap_or_default()
    } else {
        text(&status)
    });
    Ok(if well { Exit::Success } else { Exit::Failure })
}

/// As the program that runs it sees it.
pub(super) async fn of(keeper: &Keeper) -> Status {
    let (end, places) = tokio::join!(
        tokio::time::timeout(LIMIT, keeper.log.end()),
        join_all(keeper.lookers.iter().map(|node| look(&**node)))
    );
    let end = end.ok().and_then(Result::ok);
    let conditions = keeper.ledger.status();
    let nodes = keeper.lookers.iter().zip(places).zip(conditions).map(|((node, place), known)| {
        let (.., known) = known;
        let behind = place.is_ok().then_some(known.behind.as_secs_f64());
        let mut judged = judged(&**node, Some(&known.condition), place, end, behind);
        if known.late && judged.state == "following" {
            judged.state = "late".to_owned();
        }
        judged
    });
    Status {
        ledger: keeper.config.name.clone(),
        runs: true,
        end: end.and_then(last),
        nodes: nodes.collect(),
    }
}

/// As the nodes have written down, where nobody has them follow.
async fn direct(setup: &Setup) -> Result<Status, Failed> {
    let end = match &setup.config.log {
        // Who only looks makes no files.
        Some(LogConfig::Embedded(log)) if !log.path.exists() => Offset::GENESIS,
        _ => {
            let unavailable = |problem: String| Exit::Unavailable.with(problem);
            let end = async {
                let log = setup.open_log().await.map_err(|error| unavailable(error.to_string()))?;
                log.end().await.map_err(|error| unavailable(error.to_string()))
            };
            let late =
                |_| unavailable(format!("the log does not say within {LIMIT:?} where it ends"));
            tokio::time::timeout(LIMIT, end).await.map_err(late)??
        }
    };
    let nodes = setup.nodes()?;
    let looked = nodes.iter().map(|node| async move {
        let missing = |path: &Path| !path.exists();
        match setup.config.nodes.get(node.name()) {
            Some(NodeConfig::Sqlite(file)) if missing(&file.path) => Ok(None),
            _ => look(&**node).await,
        }
    });
    let places = join_all(looked).await;
    let nodes = nodes.iter().zip(places);
    let nodes = nodes.map(|(node, place)| judged(&**node, None, place, Some(end), None));
    Ok(Status {
        ledger: setup.config.name.clone(),
        runs: false,
        end: last(end),
        nodes: nodes.collect(),
    })
}

/// The last entry of a log that ends there.
fn last(end: Offset) -> Option<u64> {
    end.0.checked_sub(1)
}

async fn look(node: &dyn Node) -> Result<Option<Place>, String> {
    match tokio::time::timeout(LIMIT, node.place()).await {
        Ok(place) => place.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

fn judged(
    node: &dyn Node,
    known: Option<&Condition>,
    place: Result<Option<Place>, String>,
    end: Option<Offset>,
    behind: Option<f64>,
) -> NodeStatus {
    let (state, problem) = state(known, &place);
    let place = place.ok().flatten();
    let applied = place.as_ref().map(|place| place.applied.0);
    NodeStatus {
        name: node.name().to_owned(),
        kind: node.engine().to_string(),
        state: state.to_owned(),
        problem,
        applied,
        lag: applied.zip(end).map(|(applied, end)| end.0.saturating_sub(applied).saturating_sub(1)),
        lag_seconds: behind,
        hash: place.map(|place| place.hash.to_string()),
    }
}

/// What a node is, of what is known of it here and of what it has written down.
fn state(
    known: Option<&Condition>,
    place: &Result<Option<Place>, String>,
) -> (&'static str, Option<String>) {
    let written = place.as_ref().ok().and_then(|it| it.as_ref()).and_then(|it| it.fenced.clone());
    match (known, place) {
        (Some(Condition::Fenced(why)), _) => ("fenced", Some(why.clone())),
        (_, Ok(_)) if written.is_some() => ("fenced", written),
        (Some(Condition::Troubled(why)), Ok(_)) => ("troubled", Some(why.clone())),
        (_, Err(why)) => ("unreachable", Some(why.clone())),
        (Some(Condition::Following), _) => ("following", None),
        (Some(Condition::Starting), _) => ("starting", None),
        (None, Ok(Some(_))) => ("stopped", None),
        (None, Ok(None)) => ("new", None),
    }
}

fn text(status: &Status) -> String {
    let end =
        status.end.map_or_else(|| "is empty".to_owned(), |end| format!("ends with entry {end}"));
    let runs =
        if status.runs { "" } else { "; nobody lets the nodes follow it (`herdsman ledger run`)" };
    let mut lines =
        vec![format!("ledger `{}`: the log {end}{runs}", clean(&status.ledger)), String::new()];
    let rows = status.nodes.iter().map(|node| {
        let hash = node.hash.as_ref().map(|hash| hash.chars().take(SHOWN).collect::<String>());
        let lag = node.lag.map(|lag| match node.lag_seconds {
            Some(seconds) => format!("{lag}, {seconds:.1} s"),
            None => lag.to_string(),
        });
        [
            node.name.clone(),
            node.kind.clone(),
            node.state.clone(),
            or_dash(node.applied),
            or_dash(lag),
            or_dash(hash),
            clean(node.problem.as_deref().unwrap_or_default()),
        ]
    });
    let header = ["NODE", "KIND", "STATE", "APPLIED", "LAG", "HASH", "PROBLEM"];
    lines.push(show::table(header, rows.collect()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use herdsman_ledger::{ChainHash, LogId};

    use super::*;

    #[test]
    fn a_node_is_what_is_known_and_what_it_has_written_down() {
        let place = |fenced: Option<&str>| {
            Ok(Some(Place {
                log: LogId([0; 16]),
                applied: Offset(3),
                hash: ChainHash::default(),
                fenced: fenced.map(str::to_owned),
            }))
        };
        let why = |text: &str| text.to_owned();
        let (follows, starting) = (Condition::Following, Condition::Starting);
        let (troubled, fenced) =
            (Condition::Troubled(why("full")), Condition::Fenced(why("differs")));
        let cases = [
            (Some(&follows), place(None), "following", None),
            (Some(&starting), place(None), "starting", None),
            (Some(&troubled), place(None), "troubled", Some("full")),
            (Some(&fenced), place(None), "fenced", Some("differs")),
            (Some(&fenced), Err(why("away")), "fenced", Some("differs")),
            (Some(&follows), place(Some("row")), "fenced", Some("row")),
            (Some(&follows), Err(why("away")), "unreachable", Some("away")),
            (Some(&troubled), Err(why("away")), "unreachable", Some("away")),
            (None, Err(why("away")), "unreachable", Some("away")),
            (None, place(Some("row")), "fenced", Some("row")),
            (None, place(None), "stopped", None),
            (None, Ok(None), "new", None),
        ];
        for (known, place, expected, problem) in cases {
            let found = state(known, &place);
            assert_eq!((found.0, found.1.as_deref()), (expected, problem), "{known:?} {place:?}");
        }
    }
}
