//! The server on real sockets: both protocols, both kinds of transport, and clients that do not behave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod certificates;
mod client;
mod control;
mod dashboard;
mod doors;
mod fixture;
mod limits;
mod live;
mod plain;
mod routes;
mod secure;
