//! The mesh on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod answers;
mod apply;
mod chaos;
mod controls;
mod ddl;
mod engine;
mod example;
mod fuzz;
mod harness;
mod install;
mod join;
mod leave;
mod matrix;
mod nodes;
mod parts;
mod proof;
mod sequences;
mod tables;
mod triggers;
mod trouble;
mod untouched;
mod verify;
mod world;
mod wraparound;
