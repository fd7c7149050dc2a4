//! The ledger on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![allow(clippy::large_futures, reason = "a test's own future is on the heap of its runtime")]

mod chaos;
mod clients;
mod conformance;
mod guard;
mod herd;
mod history;
mod lockstep;
mod nodes;
mod references;
mod requests;
mod upkeep;
