//! Read your writes: what a session has written, and which readers have seen it.
//!
//! A standby replays the primary's log a little later, so whoever writes and then reads elsewhere may find the old row.
//! A [`Session`] remembers that something was written; its reads go to a reader that has replayed it, or to the writer.
//! Nothing is asked of the server for a write: it only marks the session, and the next read asks the writer once for its
//! position. A session that never writes costs nothing and reads anywhere.
//!
//! ```
//! use herdsman::session::{Session, session};
//!
//! # async fn create_order() {}
//! # async fn list_orders() {}
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! session(async {
//!     create_order().await; // goes to the writer
//!     list_orders().await; // finds the order, on whichever node it reads
//!
//!     // A spawned task is another task and does not inherit the session: hand it over.
//!     let session = Session::current().unwrap_or_default();
//!     tokio::spawn(session.scope(async { list_orders().await }));
//! })
//! .await;
//! # });
//! ```
//!
//! A [`SessionToken`] carries what a session has written from one process to the next; [`SessionLayer`] does so in an
//! HTTP header.
//!
//! What is promised is that a session sees its own acknowledged writes, and those its tokens stand for. It is not
//! promised that two reads of one session never go back in time: two readers may have replayed differently far. Nor can
//! a write be seen that a promotion has lost.
#![cfg_attr(
    not(feature = "sqlx"),
    allow(
        dead_code,
        unused_imports,
        reason = "half of this is called by `ReplicaSet`, which is not built"
    )
)]

mod ambient;
#[cfg(feature = "tower")]
mod layer;
mod replayed;
mod state;
mod token;

pub use ambient::{Session, session};
pub(crate) use ambient::{TransactionMark, WriteMark};
#[cfg(feature = "tower")]
pub use layer::{Resolve, ResponseFuture, SessionLayer, SessionService};
pub use replayed::{Reach, Replayed, covers, reach};
pub(crate) use state::Mark;
pub use state::Needs;
pub use token::{ParseTokenError, SessionToken};
