//! Health checks, by the paths and status codes of Patroni's REST API: what balancers and probes already ask.
//!
//! A path is about one node: the one that `?node=` names, or the one the port belongs to (`api.node_ports`). Asked about
//! none, it is about the herd: is there *any* node of which it is true? 200 says yes, 503 no; the body says why.

use std::str::FromStr;

use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Verdict, Why};
use hyper::StatusCode;
use serde::Serialize;

use crate::problem::{Problem, echo};
use crate::reply::Reply;
use crate::state::{View, unavailable};
use crate::target::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Check(Check),
    Cluster,
}

/// What is asked about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It is the proven primary.
    Primary,
    /// It leads a cluster of standbys: there are none here, so nobody does.
    StandbyLeader,
    /// It is a standby that may be read.
    Replica,
    /// It may be read, whatever it is.
    ReadOnly,
    /// Its server answers.
    Health,
    /// This program works. Nothing about any server.
    Liveness,
    /// It may take part: the primary, or a standby that is not too far behind.
    Readiness,
}

/// The bounds a check may be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bounds {
    /// The most log bytes a standby may be behind.
    lag: Option<u64>,
    /// How it must replicate; only `streaming` is known here.
    replication_state: Option<String>,
    /// A tag was asked for: nodes have none here.
    tagged: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    state: &'static str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a NodeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xlog: Option<Xlog>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database_system_identifier: Option<String>,
    reason: String,
}

#[derive(Serialize)]
struct Xlog {
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed_location: Option<u64>,
}

#[derive(Serialize)]
struct Cluster<'a> {
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    name: &'a NodeName,
    role: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    /// In bytes; `unknown` where it is, as Patroni says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<MemberLag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lsn: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum MemberLag {
    Bytes(u64),
    Unknown(&'static str),
}

/// The route of a path, if it is one of these.
pub(crate) fn route(segments: &[&str]) -> Option<Route> {
    let check = match *segments {
        ["" | "primary" | "leader" | "master" | "read-write"] => Check::Primary,
        ["standby-leader"] => Check::StandbyLeader,
        ["replica"] => Check::Replica,
        ["read-only"] => Check::ReadOnly,
        ["health"] => Check::Health,
        ["liveness" | "livez" | "healthz"] => Check::Liveness,
        ["readiness" | "readyz"] => Check::Readiness,
        ["cluster"] => return Some(Route::Cluster),
        _ => return None,
    };
    Some(Route::Check(check))
}

pub(crate) fn answer(route: Route, query: &Query, view: &View<'_>) -> Result<Reply, Problem> {
    let check = match route {
        Route::Check(check) => check,
        Route::Cluster => return Ok(Reply::json(StatusCode::OK, view.bodies, &cluster(view))),
    };
    let bounds = Bounds::parse(query)?;
    let passed = match about(query, view)? {
        _ if check == Check::Liveness => Ok(None),
        Some((name, node)) => check.passes(name, node, &bounds, view).map(|()| Some((name, node))),
        None if check == Check::Readiness => herd_is_known(view).map(|()| None),
        None => any(check, &bounds, view).map(Some),
    };
    let (status, document) = match passed {
        Ok(found) => (StatusCode::OK, document(found, view, String::new())),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, document(about(query, view)?, view, reason))
        }
    };
    Ok(Reply::json(status, view.bodies, &document))
}

/// The node a request is about.
fn about<'a>(
    query: &Query,
    view: &View<'a>,
) -> Result<Option<(&'a NodeName, &'a NodeView)>, Problem> {
    let named = match query.single("node")? {
        Some(named) => named,
        None => match view.about {
            Some(node) => node.as_str(),
            None => return Ok(None),
        },
    };
    let found = view.topology.nodes.get_key_value(named);
    found.map(Some).ok_or_else(|| Problem::UnknownNode(named.to_owned()))
}

/// The first node of which it is true, or what is wrong with each.
fn any<'a>(
    check: Check,
    bounds: &Bounds,
    view: &View<'a>,
) -> Result<(&'a NodeName, &'a NodeView), String> {
    let mut refusals = Vec::new();
    for (name, node) in &view.topology.nodes {
        match check.passes(name, node, bounds, view) {
            Ok(()) => return Ok((name, node)),
            Err(reason) => refusals.push(reason),
        }
    }
    Err(refusals.join("; "))
}

/// Before the first answer of any node there is nothing to say to anybody.
fn herd_is_known(view: &View<'_>) -> Result<(), String> {
    match &view.topology.verdict {
        Verdict::None { why: Why::Starting, reason } => Err(reason.clone()),
        _ => Ok(()),
    }
}

impl Check {
    /// Whether it is true of a node, or why not.
    fn passes(
        self,
        name: &NodeName,
        node: &NodeView,
        bounds: &Bounds,
        view: &View<'_>,
    ) -> Result<(), String> {
        let is_primary = view.topology.is_writer(name);
        match self {
            Self::Liveness => Ok(()),
            Self::Primary if is_primary => Ok(()),
            Self::Primary => Err(format!("`{name}` is not the primary: {}", view.topology.verdict)),
            Self::StandbyLeader => Err(format!("`{name}` leads no cluster of standbys")),
            Self::Health if node.answers() => Ok(()),
            Self::Health => Err(unavailable(name.as_str(), node)),
            Self::ReadOnly | Self::Readiness if is_primary => Ok(()),
            Self::Replica | Self::ReadOnly | Self::Readiness => replica(name, node, bounds),
        }
    }
}

fn replica(name: &NodeName, node: &NodeView, bounds: &Bounds) -> Result<(), String> {
    if node.role != Role::Standby {
        return Err(if node.answers() && !node.fenced && !node.foreign {
            format!("`{name}` is not a standby")
        } else {
            unavailable(name.as_str(), node)
        });
    }
    if !node.readable {
        return Err(format!("`{name}` may not be read: {}", node.reasons.join("; ")));
    }
    if bounds.tagged {
        return Err(format!("`{name}` has no tags"));
    }
    if let Some(wanted) = &bounds.replication_state
        && replication_state(node) != Some(wanted)
    {
        return Err(format!("`{name}` is not known to be `{}`", echo(wanted)));
    }
    match (bounds.lag, node.lag) {
        (None, _) => Ok(()),
        (Some(most), Some(lag)) if lag.bytes <= most => Ok(()),
        (Some(most), Some(lag)) => {
            Err(format!("`{name}` is {} bytes behind, {most} are allowed", lag.bytes))
        }
        (Some(_), None) => Err(format!("it is not known how far `{name}` is behind")),
    }
}

/// Patroni's word for how a standby replicates, where it is known: both sides say that it streams.
fn replication_state(node: &NodeView) -> Option<&'static str> {
    (node.role == Role::Standby && node.follows.is_some()).then_some("streaming")
}

fn state(node: &NodeView) -> &'static str {
    match node.role {
        Role::Primary | Role::Standby => "running",
        Role::Unavailable if node.fenced => "fenced",
        Role::Unavailable if node.foreign => "foreign",
        Role::Unavailable => "unreachable",
    }
}

fn document<'a>(
    about: Option<(&'a NodeName, &'a NodeView)>,
    view: &View<'_>,
    reason: String,
) -> Document<'a> {
    let Some((name, node)) = about else {
        return Document {
            state: "running",
            role: "herd",
            name: None,
            server_version: None,
            timeline: None,
            xlog: None,
            replication_state: None,
            lag: None,
            database_system_identifier: view.topology.system_id.map(|id| id.to_string()),
            reason,
        };
    };
    let is_primary = view.topology.is_writer(name);
    let position = node.lsn.map(|lsn| lsn.0);
    Document {
        state: state(node),
        role: if is_primary { "primary" } else { "replica" },
        name: Some(name),
        server_version: node.server_version,
        timeline: node.timeline.map(|timeline| timeline.0),
        xlog: position.map(|position| Xlog {
            location: is_primary.then_some(position),
            replayed_location: (!is_primary).then_some(position),
        }),
        replication_state: replication_state(node),
        lag: node.lag.map(|lag| lag.bytes),
        database_system_identifier: node.system_id.map(|id| id.to_string()),
        reason,
    }
}

fn cluster<'a>(view: &View<'a>) -> Cluster<'a> {
    let members = view.topology.nodes.iter().map(|(name, node)| {
        let is_primary = view.topology.is_writer(name);
        Member {
            name,
            role: if is_primary { "leader" } else { "replica" },
            state: replication_state(node).unwrap_or_else(|| state(node)),
            timeline: node.timeline.map(|timeline| timeline.0),
            lag: (!is_primary).then(|| {
                node.lag.map_or(MemberLag::Unknown("unknown"), |lag| MemberLag::Bytes(lag.bytes))
            }),
            lsn: node.lsn.map(|lsn| lsn.to_string()),
        }
    });
    Cluster { members: members.collect() }
}

impl Bounds {
    fn parse(query: &Query) -> Result<Self, Problem> {
        let lag = query.single("lag")?;
        Ok(Self {
            lag: lag.filter(|text| !text.is_empty()).map(bytes).transpose()?,
            replication_state: query.single("replication_state")?.map(str::to_owned),
            tagged: query.pairs().any(|(name, _)| name.starts_with("tag_")),
        })
    }
}

/// A size as PostgreSQL and Patroni write it: `1048576`, `16kB`, `10MB`, and with blanks between.
fn bytes(text: &str) -> Result<u64, Problem> {
    let refused = || Problem::BadSize(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at_checked(digits).ok_or_else(refused)?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return Err(refused()),
    };
    u64::from_str(number).ok().and_then(|n| n.checked_mul(factor)).ok_or_else(refused)
}

#[cfg(test)]
mod tests;
