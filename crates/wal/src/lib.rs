//! PostgreSQL's logical replication, from the socket to the row.
//!
//! - [`decode`]: pgoutput's messages, versions 1 to 4. Pure, and allocates nothing per row.
//! - [`Change`] and [`ChangeRef`]: one change with where it comes from; [`json`] writes it in three shapes.
//!
//! It knows nothing of sinks, handlers or which server is primary: those are the business of the crates above.

mod catalogue;
pub mod change;
pub mod decode;
mod error;
mod glob;
pub mod inspect;
pub mod json;
mod name;
mod pinned;
mod progress;
pub mod publication;
mod relation;
mod replication;
pub mod slot;
pub mod snapshot;
mod stream;
mod types;
pub mod value;

pub use catalogue::Catalogue;
pub use change::{
    Body, Change, ChangeRef, FromField, Kind, Row, RowError, Source, Timestamp, Transaction,
};
pub use error::WalError;
pub use glob::{Glob, InvalidGlob};
pub use inspect::Session;
pub use name::{InvalidObjectName, PublicationName, SlotName, quote_identifier, quote_literal};
pub use progress::Progress;
pub use relation::{Column, Relation, ReplicaIdentity};
pub use replication::{CreateSlot, CreatedSlot, Feedback, Identity, Replication, SlotSnapshot};
pub use stream::{Event, Start, Stream, StreamOptions};
pub use types::{DataType, TypeBook, TypeKind};
pub use value::{InvalidNumeric, Numeric};
