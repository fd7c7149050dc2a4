//! What a SeaORM application does with its connection, done with a `ReplicaSet` on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod crud;
mod entities;
mod farm;
mod faults;
#[path = "../servers/herd.rs"]
#[allow(dead_code, reason = "not every test binary uses everything")]
mod herd;
mod migrations;
mod sessions;
mod streams;
mod transactions;
