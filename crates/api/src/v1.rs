//! `/v1`: the API of pgroute66, in both of its shapes.

use herdsman_node::{NodeName, Role};
use herdsman_watch::{Answer, Heartbeat, NodeView, Verdict};
use hyper::StatusCode;

use crate::Bodies;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::state::{View, unavailable};
use crate::target::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Primary,
    Primaries,
    Standbys,
    Status(&'a str),
    Availability(&'a str),
}

/// The nodes a request is about.
#[derive(Clone, Copy, Debug)]
enum Members<'a> {
    All,
    Only(&'a [NodeName]),
}

/// How fresh a node's copy of the heartbeat is.
#[derive(Clone, Debug, PartialEq)]
enum Availability {
    Fresh,
    Exceeded { limit: f64, age: f64 },
    Untold(String),
}

/// What pgroute66 takes for granted when no limit is given, in seconds.
const DEFAULT_LIMIT: f64 = 10.0;
const NO_TABLE: &str = "table \"public\".\"pgr66_avc\" does not exist";
/// All that pgroute66 says of a node it cannot ask.
const NOT_ASKED: &str = "failed to check for table \"public\".\"pgr66_avc\"";

/// The route that the path segments after `/v1` name. Where two could match, the one pgroute66 has wins.
pub(crate) fn route<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    match *segments {
        ["primary"] => Some(Route::Primary),
        ["primaries"] => Some(Route::Primaries),
        ["standbys"] => Some(Route::Standbys),
        [id, "availability"] => Some(Route::Availability(id)),
        [id, "status"] | ["status" | "node", id] => Some(Route::Status(id)),
        _ => None,
    }
}

pub(crate) fn answer(route: Route<'_>, query: &Query, view: &View<'_>) -> Result<Reply, Problem> {
    match route {
        Route::Primary => {
            let mut reply = match members(query, view) {
                Ok(members) => primary(members, view),
                Err(problem) => problem.reply(view),
            };
            reply.verdict = Some(verdict(&view.topology.verdict));
            Ok(reply)
        }
        Route::Primaries => {
            let members = members(query, view)?;
            Ok(list(members, view.topology.with_role(Role::Primary), view))
        }
        Route::Standbys => {
            let members = members(query, view)?;
            Ok(list(members, view.topology.readers(), view))
        }
        Route::Status(id) => status(id, view),
        Route::Availability(id) => {
            let mut reply = availability(id, query, view).unwrap_or_else(|p| p.reply(view));
            reply.wants_heartbeat = true;
            Ok(reply)
        }
    }
}

fn primary(members: Members<'_>, view: &View<'_>) -> Reply {
    let (status, node) = match view.topology.verdict.answer(|node| members.contain(node)) {
        Answer::Primary(node) => (StatusCode::OK, Some(node)),
        Answer::SplitBrain => (StatusCode::CONFLICT, None),
        Answer::None => (StatusCode::NOT_FOUND, None),
    };
    match view.bodies {
        Bodies::V0 => Reply::json(status, view.bodies, &node.map_or("", NodeName::as_str)),
        Bodies::Readme => Reply::json(status, view.bodies, &Vec::from_iter(node)),
    }
}

fn list<'a>(
    members: Members<'_>,
    nodes: impl Iterator<Item = &'a NodeName>,
    view: &View<'_>,
) -> Reply {
    let names: Vec<&NodeName> = nodes.filter(|node| members.contain(node)).collect();
    // Go writes a list that was never filled as `null`.
    let names = (view.bodies == Bodies::Readme || !names.is_empty()).then_some(names);
    Reply::json(StatusCode::OK, view.bodies, &names)
}

fn status(id: &str, view: &View<'_>) -> Result<Reply, Problem> {
    let Some(node) = view.topology.nodes.get(id) else {
        return match view.bodies {
            Bodies::V0 => Ok(Reply::json(StatusCode::NOT_FOUND, view.bodies, &"invalid")),
            Bodies::Readme => Err(Problem::UnknownNode(id.to_owned())),
        };
    };
    let status = match node.role {
        Role::Primary | Role::Standby => StatusCode::OK,
        Role::Unavailable => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(match view.bodies {
        Bodies::V0 => Reply::json(status, view.bodies, &node.role),
        Bodies::Readme => Reply::json(status, view.bodies, &[node.role]),
    })
}

fn availability(id: &str, query: &Query, view: &View<'_>) -> Result<Reply, Problem> {
    let limit = limit(query, view)?;
    let Some(node) = view.topology.nodes.get(id) else {
        return match view.bodies {
            Bodies::V0 => Ok(Reply::json(StatusCode::EXPECTATION_FAILED, view.bodies, &"invalid")),
            Bodies::Readme => Err(Problem::UnknownNode(id.to_owned())),
        };
    };
    let (status, text) = match freshness(id, node, limit, view) {
        Availability::Fresh => (StatusCode::OK, "ok".to_owned()),
        Availability::Exceeded { limit, age } => {
            let limit = fixed(limit);
            let age = fixed(age);
            // Both are seconds; that the text says otherwise is pgroute66's, and scripts compare it.
            let text = format!("exceeded (exceeded {limit} by {age} msec)");
            (StatusCode::REQUEST_TIMEOUT, text)
        }
        Availability::Untold(why) => (StatusCode::EXPECTATION_FAILED, why),
    };
    Ok(Reply::json(status, view.bodies, &text))
}

fn freshness(id: &str, node: &NodeView, limit: f64, view: &View<'_>) -> Availability {
    let untold = |v0: &str, readme: String| {
        Availability::Untold(if view.bodies == Bodies::V0 { v0.to_owned() } else { readme })
    };
    // What an unreachable or distrusted node last said about its heartbeat proves nothing about it now.
    if node.role == Role::Unavailable {
        return untold(NOT_ASKED, format!("node {}", unavailable(id, node)));
    }
    match &node.heartbeat {
        Heartbeat::Beat(beat) => {
            let age = view.now.since(*beat).as_secs_f64();
            if age > limit { Availability::Exceeded { limit, age } } else { Availability::Fresh }
        }
        Heartbeat::Missing => Availability::Untold(NO_TABLE.to_owned()),
        Heartbeat::Unknown => {
            let wish = if view.writes { "written and read" } else { "read" };
            let readme = format!(
                "the heartbeat of node `{id}` is not known yet; this request asks for it to be {wish}, so try again \
                 in a second"
            );
            // The first call ever makes pgroute66 create the table; until a standby has it too, this is the answer.
            untold(NO_TABLE, readme)
        }
        Heartbeat::Failed(why) => {
            untold(NOT_ASKED, format!("failed to read the heartbeat of node `{id}`: {why}"))
        }
    }
}

/// The limit in seconds.
fn limit(query: &Query, view: &View<'_>) -> Result<f64, Problem> {
    match view.bodies {
        Bodies::V0 => Ok(query.first("limit").map_or(DEFAULT_LIMIT, limit_of_pgroute66)),
        Bodies::Readme => {
            let Some(text) = query.single("limit")? else { return Ok(DEFAULT_LIMIT) };
            match text.parse::<f64>() {
                Ok(limit) if limit.is_finite() && limit >= 0.0 => Ok(limit),
                _ => Err(Problem::BadLimit(text.to_owned())),
            }
        }
    }
}

/// What pgroute66 makes of a limit: single precision, -1 for nothing at all, 0 for what is no number, and no bound for
/// what is none (`NaN`, or too large).
fn limit_of_pgroute66(text: &str) -> f64 {
    let signed_nan = || text.trim_start_matches(['+', '-']).eq_ignore_ascii_case("nan");
    match text {
        "" => -1.0,
        // Rust takes a sign before NaN, Go does not.
        _ if text.starts_with(['+', '-']) && signed_nan() => 0.0,
        _ => text.parse::<f32>().map_or(0.0, f64::from),
    }
}

/// Go's `%f`.
fn fixed(seconds: f64) -> String {
    if seconds == f64::NEG_INFINITY { "-Inf".to_owned() } else { format!("{seconds:.6}") }
}

fn members<'a>(query: &Query, view: &View<'a>) -> Result<Members<'a>, Problem> {
    let group = match view.bodies {
        Bodies::V0 => query.first("group"),
        Bodies::Readme => query.single("group")?,
    };
    match (group, view.bodies) {
        (None | Some("all"), _) => Ok(Members::All),
        (Some(group), bodies) => match (view.groups.get(group), bodies) {
            (Some(nodes), _) => Ok(Members::Only(nodes)),
            (None, Bodies::V0) => Ok(Members::Only(&[])),
            (None, Bodies::Readme) => Err(Problem::UnknownGroup(group.to_owned())),
        },
    }
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Primary { .. } => "primary",
        Verdict::SplitBrain { .. } => "split-brain",
        Verdict::None { .. } => "none",
    }
}

impl Members<'_> {
    fn contain(&self, node: &NodeName) -> bool {
        match self {
            Self::All => true,
            Self::Only(nodes) => nodes.contains(node),
        }
    }
}

#[cfg(test)]
mod tests;
