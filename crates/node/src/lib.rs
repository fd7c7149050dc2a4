//! What one SQL server *is* to Herdsman: its [`NodeName`], how to reach it ([`Conninfo`], [`Tls`]), how to
//! [`connect`] to it, and the values PostgreSQL describes itself with ([`Lsn`], [`Timeline`], [`SystemId`], [`Role`]).
//!
//! This is the ground floor: it knows nothing of clusters, verdicts or routing.

mod backoff;
pub mod certificate;
mod connect;
mod conninfo;
pub mod environment;
mod identity;
mod lsn;
pub mod raw;
mod tls;
mod trust;
pub mod units;

pub use backoff::Backoff;
pub use connect::{ConnectError, ConnectErrorKind, Connection, connect, describe};
pub use conninfo::{Conninfo, ConninfoError, Hosts, LoadBalanceHosts, SslMode, TargetSessionAttrs};
pub use identity::{InvalidName, NodeName, ParseSystemIdError, Role, SystemId, Timeline};
pub use lsn::{Lsn, ParseLsnError};
pub use tls::{Tls, TlsError};
pub use trust::Trust;
