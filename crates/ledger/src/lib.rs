//! Any mix of SQL databases in lockstep: one totally ordered log, and one pure rule on every node.
//!
//! A transaction runs on one node, against the data as they were at some place in the log, and is rolled back there.
//! What it would change goes into the log, with the keys that decide whether it may. Every node reads the log in order,
//! decides about each entry by the same rule (first committer wins), and does what was decided in one local transaction
//! that also writes down how far it is. No clock, random number, sequence or dialect can make nodes differ: the log
//! carries rows, not statements.
//!
//! - [`entry`]: what is in the log. [`table`], [`writes`], [`Value`]: tables, changes and values that every engine can hold.
//! - [`certify`], [`replica`]: who may commit, and what each entry means; pure, and simulated with everything that can go
//!   wrong.
//! - [`log`]: the log itself: Kafka, a file, or memory.
//! - [`node`]: PostgreSQL, MariaDB and SQLite.
//! - [`snapshot`]: all that a node holds at one place in the log, for other nodes and for files.
//! - [`requests`]: clients that have nothing but Kafka.
//! - [`engine`]: what ties them together. [`config`]: the section of the configuration that says what these are.

pub mod certify;
mod codec;
pub mod config;
pub mod engine;
pub mod entry;
mod identity;
pub mod log;
pub mod node;
pub mod replica;
pub mod requests;
#[cfg(test)]
mod simulation;
pub mod snapshot;
pub mod table;
mod value;
mod worker;
pub mod writes;

pub use codec::Malformed;
pub use identity::{ChainHash, LogId, Offset, RequestId};
pub use value::{Decimal, Kind, Unfit, Value};
