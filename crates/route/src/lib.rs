//! One write node, many read nodes, behind what looks like one sqlx pool or SeaORM connection.
//!
//! A program that holds a `PgPool` holds a [`ReplicaSet`] instead: `&ReplicaSet` is a `sqlx::Executor` and
//! `sqlx::Acquire`. Every statement's text is looked at ([`classify`]); what is proven to be a plain read goes to a
//! reader, everything else to the writer. Roles are given, or discovered by a watcher in the process. Within a
//! [`session()`], reads see what the session wrote.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let db = herdsman::ReplicaSet::from_hosts("host=db1,db2,db3 dbname=shop user=app")?;
//! sqlx::query("INSERT INTO orders (item) VALUES ('hay')").execute(&db).await?; // the primary
//! let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&db).await?; // a standby
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `sqlx` (default): [`ReplicaSet`] itself; without it only the pure parts are built.
//! - `sea-orm`: SeaORM's `ConnectionTrait`, `TransactionTrait` and `StreamTrait` on it.
//! - `config`: sets from a `herdsman.yml`.
//! - `metrics` (default): counters and gauges through the `metrics` facade.
//! - `tower` (default): a layer that carries session tokens in HTTP headers.

pub mod classify;
mod config;
pub mod policy;
pub mod session;

#[cfg(feature = "sqlx")]
mod attempt;
#[cfg(feature = "sqlx")]
mod builder;
#[cfg(feature = "sqlx")]
mod catalogue;
#[cfg(feature = "sqlx")]
mod error;
#[cfg(feature = "sqlx")]
mod executor;
#[cfg(feature = "sqlx")]
mod health;
#[cfg(feature = "sqlx")]
mod keeper;
#[cfg(feature = "sqlx")]
mod lease;
#[cfg(feature = "sqlx")]
mod member;
#[cfg(all(feature = "sqlx", feature = "metrics"))]
mod metrics;
#[cfg(feature = "sqlx")]
mod operation;
#[cfg(feature = "sqlx")]
mod pulse;
#[cfg(feature = "sqlx")]
mod remote;
#[cfg(feature = "sea-orm")]
mod seaorm;
#[cfg(feature = "sqlx")]
mod set;
#[cfg(feature = "sqlx")]
mod statistics;
#[cfg(feature = "sqlx")]
mod stats;
#[cfg(feature = "sqlx")]
mod trail;

#[cfg(feature = "sqlx")]
pub use builder::{BuildError, Builder};
#[cfg(feature = "config")]
pub use config::Settings;
pub use config::{
    Application, Balance, Fallback, GroupConfig, MaxLag, Mode, PoolConfig, ProbeConfig,
    RouteConfig, Secret,
};
#[cfg(feature = "sqlx")]
pub use error::{ConnectErrors, Error};
pub use herdsman_node::NodeName;
#[cfg(feature = "sqlx")]
pub use remote::{Remote, RemoteError};
#[cfg(feature = "sea-orm")]
pub use seaorm::SeaOrm;
pub use session::{Session, SessionToken, session};
#[cfg(feature = "sqlx")]
pub use set::ReplicaSet;
#[cfg(feature = "sqlx")]
pub use statistics::{NodeRole, NodeStatistics, Statistics};

/// The Rust in these pages is compiled with the documentation's tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/route.md")]
    struct Route;
    #[cfg(feature = "sea-orm")]
    #[doc = include_str!("../../../docs/recipes.md")]
    struct Recipes;
    #[doc = include_str!("../../../README.md")]
    struct Readme;
}
