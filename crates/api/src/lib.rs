//! Herdsman's door for machines: pgroute66's HTTP API, and `/v2/topology` with everything the judge knows.
//!
//! Every answer comes from memory, from the [`Topology`](herdsman_watch::Topology) the watcher published last: no request
//! reaches a database, waits for one, or costs it anything. This crate decides nothing about the cluster. Two are
//! different: `/v2/stream` lasts, and passes on what a [`LiveStream`] yields; `POST /v2/mesh/…` and `/rpc` have a
//! [`MeshControl`] do something, for whoever shows a token or a certificate of the [`Scope`] it takes.
//!
//! # Routes
//!
//! All of them are in [`ROUTES`], with what each takes. All but the last two answer to `GET` and `HEAD`, health checks to `OPTIONS` as well.
//!
//! | path | status |
//! |---|---|
//! | `/v1/primary[?group=G]` | 200; 404 nobody; 409 split brain |
//! | `/v1/primaries[?group=G]`, `/v1/standbys[?group=G]` | 200 |
//! | `/v1/{id}/status`, `/v1/status/{id}`, `/v1/node/{id}` | 200 primary or standby; 422 unavailable; 404 unknown |
//! | `/v1/{id}/availability[?limit=SECONDS]` | 200; 408 exceeded; 417 cannot be told |
//! | `/primary` `/leader` `/read-write` `/replica` `/read-only` `/health` `/liveness` `/readiness` | 200 yes; 503 no |
//! | `/cluster`, `/metrics` | 200 |
//! | `/`, where `Accept` names `text/html`, `/dashboard` | 200, 304 |
//! | `/v2/topology`, `/v2/overview` | 200 |
//! | `/v2/events` | 200; 503 too many follow it |
//! | `/v2/stream[?table=S.T]` | 200; 400 no pattern; 401 and 403 no scope; 404 no stream; 503 too many follow it |
//! | `/v2/mesh` | 200; 404 no mesh |
//! | `/v2/hooks` | 200; 404 no hooks |
//! | `POST /v2/mesh/{verb}` | 200, 202 a job; 400, 401 and 403 no scope, 404, 409 busy, 413, 500 |
//! | `POST /rpc` | 200, 204; 400 no JSON-RPC; 401, 403, 404 no mesh, 413 |
//!
//! - The group `all` is every node and cannot be redefined. A group never hides a second primary: while two nodes
//!   claim the role without proof, a group that holds one of them is answered 409.
//! - `/v1/standbys` names the standbys that may be read from.
//! - Node ids are percent-decoded. A node may be called `primary`, `node` or `status`: the paths pgroute66 has come
//!   first, so `/v1/node/status` is the status of the node `node`, and `/v1/status/node` that of `node` as well.
//! - A path with one slash too many is answered 301.
//! - `/v1/primary` carries the cluster's verdict in the header `herdsman-verdict`: `primary`, `split-brain`, `none`.
//! - No answer may be cached (`cache-control: no-store`) but the files of the dashboard, which have an `etag`.
//! - Whether a node is available is told by the age of its copy of the heartbeat row, which the watcher reads. A node
//!   that cannot be reached or is not trusted is 417, however fresh its copy once was.
//!
//! - Health checks are Patroni's. They are about the node that `?node=` names or whose port ([`ApiConfig::node_ports`]) is
//!   asked; [`ApiConfig::agent_port`] is HAProxy's agent check.
//!
//! What the bodies look like is chosen by [`Bodies`].

mod access;
mod agent;
mod config;
mod connection;
mod control;
mod dashboard;
mod events;
mod health;
mod listen;
mod live;
mod metrics;
mod problem;
mod reply;
mod router;
mod routes;
mod server;
mod ssl;
mod state;
mod tally;
mod target;
mod v1;
mod v2;

pub use access::{CertificateConfig, ClientConfig, Scope, TokenConfig};
pub use config::{ApiConfig, Bodies};
pub use control::{ControlAnswer, ControlRefusal, MeshControl, Verb};
pub use listen::{BindError, Listen, Passed};
pub use live::{LiveFeed, LiveRefusal, LiveRequest, LiveStream};
pub use metrics::Metrics;
pub use routes::{ROUTES, Route, Takes};
pub use server::{Handle, Server};
pub use ssl::{ClientAuth, Ssl, SslError, TlsIdentity};
pub use state::{ApiState, Groups};
pub use tally::ApiStatistics;
pub use v2::HookBoard;
