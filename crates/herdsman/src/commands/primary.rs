//! `herdsman primary`: one name for scripts, or a code that says why there is none.

use herdsman_api::Groups;
use herdsman_node::NodeName;
use herdsman_watch::{Answer, Topology, Verdict};

use super::ask::{self, Direct, Told};
use crate::cli::{Global, PrimaryArgs};
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};
use crate::output;

/// Prints the primary.
pub(crate) async fn run(args: &PrimaryArgs, global: &Global) -> Result<Exit, Failed> {
    let told = if args.ask.direct {
        let direct = Direct::start(global)?;
        let told = Box::pin(direct.settled()).await;
        direct.stop().await;
        told
    } else {
        ask::remote(&ask::endpoint(&args.ask, global)?).await?
    };
    let Told { topology, groups } = told;
    let node = answer(&topology, &groups, args.group.as_deref())?;
    if args.host {
        output::line(&host(node, global)?);
    } else {
        output::line(node.as_str());
    }
    Ok(Exit::Success)
}

/// Who it is, or why nobody: the same decision as the API's `/v1/primary`.
pub(super) fn answer<'a>(
    topology: &'a Topology,
    groups: &Groups,
    group: Option<&str>,
) -> Result<&'a NodeName, Failed> {
    let members = match group {
        None | Some("all") => None,
        Some(name) => Some(groups.get(name).ok_or_else(|| {
            let known: Vec<_> =
                std::iter::once("all").chain(groups.keys().map(String::as_str)).collect();
            Exit::NoPrimary.with(format!(
                "group `{name}` is not configured; the groups are {}",
                known.join(", ")
            ))
        })?),
    };
    let is_member = |node: &NodeName| members.is_none_or(|members| members.contains(node));
    match (topology.verdict.answer(is_member), &topology.verdict) {
        (Answer::Primary(node), _) => Ok(node),
        (Answer::SplitBrain, verdict) => Err(Exit::SplitBrain.with(verdict)),
        (Answer::None, Verdict::Primary { node, .. }) => Err(Exit::NoPrimary.with(format!(
            "the primary is {node}, which is not in group `{}`",
            group.unwrap_or("all")
        ))),
        (Answer::None, verdict) => Err(Exit::NoPrimary.with(verdict)),
    }
}

fn host(node: &NodeName, global: &Global) -> Result<String, Failed> {
    let config = Config::load(global.config.as_deref(), Depth::Outline)?;
    let info = config.nodes.get(node).ok_or_else(|| {
        Exit::Config.with(format!(
            "the primary is {node}, which {} does not know; without `--host` its name is printed",
            config.path.display()
        ))
    })?;
    Ok(info.endpoint())
}

#[cfg(test)]
mod tests {
    use herdsman_node::Timeline;
    use herdsman_watch::{Proof, Why};

    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[track_caller]
    fn check(verdict: &Verdict, group: Option<&str>, expected: Result<&str, Exit>) {
        let groups: Groups =
            [("g".to_owned(), vec![name("a")]), ("h".to_owned(), vec![name("c")])].into();
        let topology = Topology { verdict: verdict.clone(), ..Topology::default() };
        let found = answer(&topology, &groups, group).map(NodeName::as_str).map_err(|f| f.exit);
        assert_eq!(found, expected, "{verdict} in {group:?}");
    }

    #[test]
    fn the_codes_mirror_what_the_api_answers() {
        let reason = String::new;
        let primary = Verdict::Primary {
            node: name("a"),
            timeline: Timeline(1),
            proof: Proof::Attested,
            reason: reason(),
        };
        let split = Verdict::SplitBrain { claimants: vec![name("a"), name("b")], reason: reason() };
        let none = Verdict::None { why: Why::NoQuorum, reason: reason() };
        check(&primary, None, Ok("a"));
        check(&primary, Some("all"), Ok("a"));
        check(&primary, Some("g"), Ok("a"));
        check(&primary, Some("h"), Err(Exit::NoPrimary));
        check(&primary, Some("x"), Err(Exit::NoPrimary));
        check(&split, None, Err(Exit::SplitBrain));
        check(&split, Some("g"), Err(Exit::SplitBrain));
        check(&split, Some("h"), Err(Exit::NoPrimary));
        check(&none, None, Err(Exit::NoPrimary));
    }
}
