//! `/v2`: everything the judge knows, what happens, the way to the stream of changes, and where mesh and hooks stand.

use std::collections::BTreeMap;
use std::fmt;

use herdsman_node::NodeName;
use herdsman_watch::Topology;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::problem::Problem;
use crate::reply::{Follow, Reply};
use crate::state::View;
use crate::{MeshControl, Metrics};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Topology,
    Overview,
    Stream,
    Events,
    Mesh,
    Hooks,
}

/// What is done when the herd changes, as it is asked at `/v2/hooks`.
pub trait HookBoard: fmt::Debug + Send + Sync + 'static {
    /// Where every hook stands, from memory. Must not block.
    fn status(&self) -> Value;

    /// The same without anything that a program, a receiver or a server said: whoever may see the dashboard is shown it.
    fn overview(&self) -> Value;
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    topology: Topology,
    groups: BTreeMap<&'a str, &'a [NodeName]>,
}

/// Every part of the program at one moment: what the dashboard shows. A part that is not there is `null`.
#[derive(Serialize)]
struct Overview<'a> {
    version: &'static str,
    topology: Document<'a>,
    gateway: Option<Value>,
    stream: Option<Value>,
    mesh: Option<Value>,
    ledger: Option<Value>,
    hooks: Option<Value>,
}

/// The route that the path segments after `/v2` name.
pub(crate) fn route(segments: &[&str]) -> Option<Route> {
    match segments {
        ["topology"] => Some(Route::Topology),
        ["overview"] => Some(Route::Overview),
        ["stream"] => Some(Route::Stream),
        ["events"] => Some(Route::Events),
        ["mesh"] => Some(Route::Mesh),
        ["hooks"] => Some(Route::Hooks),
        _ => None,
    }
}

pub(crate) fn answer(route: Route, view: &View<'_>) -> Result<Reply, Problem> {
    match route {
        Route::Topology => Ok(Reply::json(StatusCode::OK, view.bodies, &Document::of(view))),
        Route::Overview => {
            let overview = Overview {
                version: env!("CARGO_PKG_VERSION"),
                topology: Document::of(view),
                gateway: view.metrics.and_then(Metrics::gateway),
                stream: view.metrics.and_then(Metrics::stream),
                mesh: view.mesh.map(MeshControl::status),
                ledger: view.metrics.and_then(Metrics::ledger),
                hooks: view.hooks.map(HookBoard::overview),
            };
            Ok(Reply::json(StatusCode::OK, view.bodies, &overview))
        }
        Route::Stream if view.live => Ok(Reply::live(Follow::Stream)),
        Route::Events => Ok(Reply::live(Follow::Events)),
        Route::Stream => Err(Problem::NoStream),
        Route::Mesh => match view.mesh {
            Some(mesh) => Ok(Reply::json(StatusCode::OK, view.bodies, &mesh.status())),
            None => Err(Problem::NoMesh),
        },
        Route::Hooks => match view.hooks {
            Some(hooks) => Ok(Reply::json(StatusCode::OK, view.bodies, &hooks.status())),
            None => Err(Problem::NoHooks),
        },
    }
}

impl<'a> Document<'a> {
    fn of(view: &View<'a>) -> Self {
        let topology = view.topology.aged(view.now);
        let groups = view.groups.iter().filter(|(name, _)| *name != "all");
        let groups = groups.map(|(name, nodes)| (name.as_str(), nodes.as_slice())).collect();
        Self { topology, groups }
    }
}
