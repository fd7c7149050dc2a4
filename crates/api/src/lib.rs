//! Herdsman's door for machines: pgroute66's HTTP API, and `/v2/topology` with everything the judge knows.
//!
//! Every answer but one comes from memory, from the [`Topology`](herdsman_watch::Topology) the watcher published last: no
//! request reaches a database, waits for one, or costs it anything. This crate decides nothing about the cluster. The
//! one is `/v2/stream`, which lasts: it passes on what a [`LiveStream`] yields.
//!
//! # Routes
//!
//! All answer to `GET` and `HEAD`.
//!
//! | path | status |
//! |---|---|
//! | `/v1/primary[?group=G]` | 200; 404 nobody; 409 split brain |
//! | `/v1/primaries[?group=G]`, `/v1/standbys[?group=G]` | 200 |
//! | `/v1/{id}/status`, `/v1/status/{id}`, `/v1/node/{id}` | 200 primary or standby; 422 unavailable; 404 unknown |
//! | `/v1/{id}/availability[?limit=SECONDS]` | 200; 408 exceeded; 417 cannot be told |
//! | `/v2/topology` | 200 |
//! | `/v2/stream[?table=S.T]` | 200; 400 no pattern; 404 no stream; 503 too many follow it |
//!
//! - The group `all` is every node and cannot be redefined. A group never hides a second primary: while two nodes
//!   claim the role without proof, a group that holds one of them is answered 409.
//! - `/v1/standbys` names the standbys that may be read from.
//! - Node ids are percent-decoded. A node may be called `primary`, `node` or `status`: the paths pgroute66 has come
//!   first, so `/v1/node/status` is the status of the node `node`, and `/v1/status/node` that of `node` as well.
//! - A path with one slash too many is answered 301.
//! - `/v1/primary` carries the cluster's verdict in the header `herdsman-verdict`: `primary`, `split-brain`, `none`.
//! - Nothing may be cached: every answer carries `cache-control: no-store`.
//! - Whether a node is available is told by the age of its copy of the heartbeat row, which the watcher reads. A node
//!   that cannot be reached or is not trusted is 417, however fresh its copy once was.
//!
//! What the bodies look like is chosen by [`Bodies`].

mod config;
mod connection;
mod listen;
mod live;
mod problem;
mod reply;
mod router;
mod server;
mod ssl;
mod state;
mod target;
mod v1;
mod v2;

pub use config::{ApiConfig, Bodies};
pub use listen::{BindError, Listen};
pub use live::{LiveFeed, LiveRefusal, LiveRequest, LiveStream};
pub use server::{Handle, Server};
pub use ssl::{Ssl, SslError, TlsIdentity};
pub use state::{ApiState, Groups};
