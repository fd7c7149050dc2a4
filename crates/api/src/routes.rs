//! Every path there is, and what each takes. A path that is not here is answered 404, whoever would know an answer.

use crate::Scope;

/// What a path takes of whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: names, roles, lags, and where the mesh stands. No rows, and nothing is changed.
    Nothing,
    /// As nothing, and it makes Herdsman write its own heartbeat for a while, as pgroute66 does.
    Heartbeat,
    /// Shows rows, or the last words of programs that others wrote: the scope `read`, once `api.tokens` or `api.certificates` names anybody.
    Rows,
    /// What its verb takes ([`Verb::takes`](crate::Verb::takes)).
    Verb,
}

/// One of the API's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its segments; `*` is any one.
    pub path: &'static [&'static str],
    /// What it takes.
    pub takes: Takes,
}

/// All of the API's paths. What is served elsewhere has its own logins: the gateway (`gateway.users`, and `gateway.admins` for
/// its console), and HAProxy's agent check, which only tells.
pub const ROUTES: &[Route] = &[
    open(&["v1", "primary"]),
    open(&["v1", "primaries"]),
    open(&["v1", "standbys"]),
    open(&["v1", "*", "status"]),
    open(&["v1", "status", "*"]),
    open(&["v1", "node", "*"]),
    Route { path: &["v1", "*", "availability"], takes: Takes::Heartbeat },
    open(&[""]),
    open(&["primary"]),
    open(&["leader"]),
    open(&["master"]),
    open(&["read-write"]),
    open(&["standby-leader"]),
    open(&["replica"]),
    open(&["read-only"]),
    open(&["health"]),
    open(&["liveness"]),
    open(&["livez"]),
    open(&["healthz"]),
    open(&["readiness"]),
    open(&["readyz"]),
    open(&["cluster"]),
    open(&["metrics"]),
    open(&["v2", "topology"]),
    open(&["v2", "overview"]),
    open(&["dashboard"]),
    open(&["dashboard", "*"]),
    open(&["v2", "events"]),
    Route { path: &["v2", "stream"], takes: Takes::Rows },
    Route { path: &["v2", "hooks"], takes: Takes::Rows },
    open(&["v2", "mesh"]),
    Route { path: &["v2", "mesh", "*"], takes: Takes::Verb },
    Route { path: &["rpc"], takes: Takes::Verb },
];

const fn open(path: &'static [&'static str]) -> Route {
    Route { path, takes: Takes::Nothing }
}

/// What a path takes, as segments; `None` where there is no such path. Where several patterns fit, the strictest holds.
pub(crate) fn takes(segments: &[&str]) -> Option<Takes> {
    let fits = |route: &&Route| {
        route.path.len() == segments.len()
            && route.path.iter().zip(segments).all(|(a, b)| *a == "*" || a == b)
    };
    ROUTES.iter().filter(fits).map(|route| route.takes).max_by_key(|takes| match takes {
        Takes::Nothing => 0,
        Takes::Heartbeat => 1,
        Takes::Rows => 2,
        Takes::Verb => 3,
    })
}

impl Takes {
    /// The scope of what is no verb. `guarded`: whether anybody is named who could show something.
    pub(crate) fn scope(self, guarded: bool) -> Option<Scope> {
        match self {
            Self::Rows if guarded => Some(Scope::Read),
            Self::Rows | Self::Nothing | Self::Heartbeat | Self::Verb => None,
        }
    }
}
