//! PostgreSQL's own grammar as the judge of `herdsman::classify`.
//!
//! [`judge`] parses a statement and walks the whole tree; [`corpus`] reads PostgreSQL's regression SQL and [`mutate`] makes
//! more of it. The tests hold the classifier to one promise: what it calls a read, the grammar never calls a write.

pub mod corpus;
mod judge;
pub mod mutate;

pub use judge::{Judgement, Volatility, judge};
