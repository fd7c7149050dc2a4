//! Real PostgreSQL clusters on this machine, with faults on demand.
//!
//! Two front ends stand on one engine. Tests build a [`Sandbox`] and drop it when they are done, and everything is gone:
//!
//! ```no_run
//! # async fn example() -> Result<(), herdsman_sandbox::SandboxError> {
//! let sandbox = herdsman_sandbox::Sandbox::builder().standbys(2).start().await?;
//! sandbox.kill("n1").await?;
//! sandbox.promote("n2").await?;
//! assert_eq!(sandbox.primary().await?, "n2");
//! # Ok(())
//! # }
//! ```
//!
//! The command line (`herdsman sandbox up`) keeps one alive behind a [`supervisor`] between invocations.
//!
//! Clients reach node X through a fault proxy of its own, and so does every other node that streams from X. A partition
//! between two nodes therefore leaves both reachable for clients.
//!
//! [`Kafka`] is a broker in the same manner, for what is streamed there, and [`MariaDb`] a server of that make.

pub mod postgres;
pub mod proxy;
pub mod supervisor;

mod account;
mod clock;
mod copying;
mod credentials;
mod error;
mod folder;
mod kafka;
mod mariadb;
mod ports;
mod process;
mod sandbox;
mod server;
mod settings;
mod sql;
mod template;
mod tls;
mod tool;
mod versions;

pub use credentials::{Credentials, ROLES};
pub use error::SandboxError;
pub use folder::{default_folder, is_sandbox};
pub use kafka::{Kafka, KafkaBuilder};
pub use mariadb::MariaDb;
pub use postgres::PgBinaries;
pub use proxy::{Fault, FaultProxy};
pub use sandbox::{Builder, LinkFault, NodeStatus, RejoinBy, Rejoined, Role, Sandbox};
pub use server::ProcessState;
pub use versions::tested_versions;
