//! `herdsman status`: the cluster at a glance.

use std::time::{Duration, SystemTime};

use herdsman_watch::{Lag, NodeView, Topology};
use tokio::time::Instant;

use self::changes::Changes;
use super::ask::{self, Direct, Told};
use crate::cli::{Global, StatusArgs};
use crate::client::Endpoint;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{bytes, clean};

mod changes;
pub(super) mod table;

/// How soon it is noticed that nobody reads any more.
const GLANCE: Duration = Duration::from_millis(500);

/// Where topologies come from.
enum Source {
    Remote(Endpoint),
    Direct(Direct),
}

/// Shows the cluster, once or until Ctrl-C.
pub(crate) async fn run(args: &StatusArgs, global: &Global) -> Result<Exit, Failed> {
    let (source, first) = Box::pin(begin(args, global)).await?;
    let outcome = if let Some(pause) = args.watch {
        let until_interrupted = async {
            tokio::select! {
                outcome = keep_showing(&source, first, args.json, pause) => outcome,
                _interrupted = tokio::signal::ctrl_c() => Ok(Exit::Success),
            }
        };
        Box::pin(until_interrupted).await
    } else {
        output::line(&shown(&first, args.json));
        Ok(Exit::Success)
    };
    if let Source::Direct(direct) = source {
        direct.stop().await;
    }
    outcome
}

/// Asks whom the arguments say; a Herdsman that does not answer is no reason not to look oneself.
async fn begin(args: &StatusArgs, global: &Global) -> Result<(Source, Told), Failed> {
    if !args.ask.direct {
        let endpoint = ask::endpoint(&args.ask, global)?;
        match ask::remote(&endpoint).await {
            Ok(told) => return Ok((Source::Remote(endpoint), told)),
            Err(failed) if args.ask.url.is_some() => return Err(failed),
            Err(failed) => {
                output::note(&format!(
                    "{}; looking at the nodes from here instead",
                    failed.message
                ));
            }
        }
    }
    let direct = Direct::start(global)?;
    let told = direct.settled().await;
    Ok((Source::Direct(direct), told))
}

async fn keep_showing(
    source: &Source,
    first: Told,
    json: bool,
    pause: Duration,
) -> Result<Exit, Failed> {
    let mut changes = Changes::default();
    let mut look = Ok::<_, Failed>(first);
    loop {
        match &look {
            Ok(told) if json => output::line(&shown(told, true)),
            // It may be back in a second; until then the reader must not take the old table for the truth.
            Err(failed) if json => output::note(&failed.message),
            Ok(told) if output::is_painted() => output::refresh(&shown(told, false)),
            Err(failed) if output::is_painted() => output::refresh(&failed.message),
            look => {
                if let Some(line) = changes.line(look.as_ref().map(|told| &told.topology)) {
                    let now = humantime::format_rfc3339_seconds(SystemTime::now());
                    output::line(&format!("{now} {line}"));
                }
            }
        }
        if !still_read_after(pause).await {
            return Ok(Exit::Success);
        }
        look = match source {
            Source::Direct(direct) => Ok(direct.now()),
            Source::Remote(endpoint) => ask::remote(endpoint).await,
        };
    }
}

/// Waits; false as soon as nobody reads any more, however little there is to print.
async fn still_read_after(pause: Duration) -> bool {
    let end = Instant::now() + pause;
    loop {
        if output::reader_has_gone() {
            return false;
        }
        let now = Instant::now();
        if now >= end {
            return true;
        }
        tokio::time::sleep_until(end.min(now + GLANCE)).await;
    }
}

fn shown(told: &Told, json: bool) -> String {
    if json {
        // One line per topology is what a program reading `--watch --json` can take apart.
        return serde_json::to_string(told).unwrap_or_default();
    }
    format!("{}\n\n{}", clean(&told.topology.verdict.to_string()), table::of(&told.topology))
}

pub(super) fn lag(lag: Option<&Lag>) -> String {
    lag.map_or_else(|| "-".to_owned(), |lag| format!("{}, {:.1} s", bytes(lag.bytes), lag.seconds))
}

/// Everything odd about a node, in one cell.
pub(super) fn remarks(view: &NodeView) -> String {
    let mut remarks = Vec::new();
    if view.fenced && !view.reasons.iter().any(|reason| reason.contains("fence")) {
        remarks.push("fenced".to_owned());
    }
    if view.foreign && !view.reasons.iter().any(|reason| reason.contains("cluster")) {
        remarks.push("of another cluster".to_owned());
    }
    remarks.extend(view.reasons.iter().cloned());
    if let Some(error) = &view.error
        && !remarks.iter().any(|remark| remark.contains(error.as_str()))
    {
        remarks.push(error.clone());
    }
    clean(&remarks.join("; "))
}

/// Which topology, for those who compare two looks.
pub(super) fn edition(topology: &Topology) -> String {
    let system = topology.system_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    format!("topology {}, term {}, system identifier {system}", topology.version, topology.term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_say_each_thing_once_and_never_move_the_cursor() {
        let view = NodeView {
            fenced: true,
            foreign: true,
            reasons: vec!["it is fenced".to_owned(), "refused\u{1b}[2J".to_owned()],
            error: Some("refused".to_owned()),
            ..NodeView::default()
        };
        assert_eq!(remarks(&view), "of another cluster; it is fenced; refused [2J");
    }
}
