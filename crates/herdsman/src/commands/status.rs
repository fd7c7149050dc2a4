//! `herdsman status`: the cluster at a glance.

use std::time::Duration;

use herdsman_watch::{Lag, NodeView, Topology};

use super::ask::{self, Direct, Told};
use crate::cli::{Global, StatusArgs};
use crate::client::Endpoint;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{bytes, clean};

mod table;

/// Time between two looks with `--watch`.
const REFRESH: Duration = Duration::from_secs(1);

/// Where topologies come from.
enum Source {
    Remote(Endpoint),
    Direct(Direct),
}

/// Shows the cluster, once or until Ctrl-C.
pub(crate) async fn run(args: &StatusArgs, global: &Global) -> Result<Exit, Failed> {
    let (source, first) = Box::pin(begin(args, global)).await?;
    let outcome = if args.watch {
        let until_interrupted = async {
            tokio::select! {
                outcome = keep_showing(&source, first, args.json) => outcome,
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

async fn keep_showing(source: &Source, first: Told, json: bool) -> Result<Exit, Failed> {
    let mut text = shown(&first, json);
    loop {
        if json {
            output::line(&text);
        } else {
            output::refresh(&text);
        }
        tokio::time::sleep(REFRESH).await;
        text = match source {
            Source::Direct(direct) => shown(&direct.now(), json),
            Source::Remote(endpoint) => match ask::remote(endpoint).await {
                Ok(told) => shown(&told, json),
                // It may be back in a second; until then the reader must not take the old table for the truth.
                Err(failed) if json => {
                    output::note(&failed.message);
                    continue;
                }
                Err(failed) => failed.message,
            },
        };
    }
}

fn shown(told: &Told, json: bool) -> String {
    if json {
        // One line per topology is what a program reading `--watch --json` can take apart.
        return serde_json::to_string(told).unwrap_or_default();
    }
    format!("{}\n\n{}", clean(&told.topology.verdict.to_string()), table::of(&told.topology))
}

fn lag(lag: Option<&Lag>) -> String {
    lag.map_or_else(|| "-".to_owned(), |lag| format!("{}, {:.1} s", bytes(lag.bytes), lag.seconds))
}

/// Everything odd about a node, in one cell.
fn remarks(view: &NodeView) -> String {
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
fn edition(topology: &Topology) -> String {
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
