//! Several PostgreSQL servers that all take writes, kept alike over logical replication.
//!
//! Every row carries a [`Stamp`]: when and on which node it was last written. Stamps are totally ordered, the greater
//! one wins, and a deletion is a stamped row of its own. Taking the greater of two is commutative, associative and
//! idempotent, so nodes that have received the same versions hold the same rows, whatever the order they came in, how
//! often they came and whatever crashed meanwhile.
//!
//! - [`resolve`]: that rule, and what else a table may ask for; pure.
//! - [`install`]: what a node needs to be a member, planned before it is changed.
//! - [`engine`]: reads every member's own changes and applies them to every other one.
//! - [`verify`], [`heal`]: whether the members hold the same rows, and making them.
//! - [`join`], [`leave`]: members come and go while writes run.

pub mod apply;
pub mod config;
pub mod conflicts;
pub mod ddl;
pub mod engine;
mod error;
pub mod group;
pub mod heal;
pub mod install;
pub mod join;
pub mod leave;
pub mod link;
pub mod loadtest;
pub mod look;
pub mod names;
pub mod parts;
pub mod resolve;
pub mod sequences;
pub mod setup;
#[cfg(test)]
mod simulation;
mod stamp;
pub mod status;
pub mod table;
pub mod target;
pub mod verify;

pub use config::MeshConfig;
pub use error::MeshError;
pub use setup::{Member, Setup};
pub use stamp::{NodeId, Stamp, next_time};
