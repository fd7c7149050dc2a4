//! `ReplicaSet` on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod cancellation;
mod choosing;
mod from_hosts;
mod herd;
mod multibase;
mod nodes;
mod outages;
mod promotions;
mod read_your_writes;
mod routing;
mod sqlx_patterns;
mod sqlx_transactions;
