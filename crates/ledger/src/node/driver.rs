//! A node of any engine: the same statements, in its dialect.

mod apply;
mod capture;
mod checksum;
mod notes;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    Checksums, Engine, Node, NodeError, Place, SqlError, Transaction,
    dialect::{Dialect, Failure, Purpose, Session as _},
};
use crate::{
    ChainHash,
    entry::Genesis,
    replica::{Durable, Step},
};

/// How many connections wait for the next client.
const IDLE_MOST: usize = 16;

/// A node of an engine.
pub(super) struct SqlNode<D: Dialect> {
    name: String,
    shared: Arc<Shared<D>>,
}

struct Shared<D: Dialect> {
    dialect: D,
    /// The one connection that applies; gone after trouble.
    applier: Mutex<Option<D::Session>>,
    idle: std::sync::Mutex<Vec<D::Session>>,
}

impl<D: Dialect> SqlNode<D> {
    pub(super) fn new(name: &str, dialect: D) -> Self {
        let shared =
            Shared { dialect, applier: Mutex::default(), idle: std::sync::Mutex::default() };
        Self { name: name.to_owned(), shared: Arc::new(shared) }
    }
}

impl<D: Dialect> Shared<D> {
    /// Does something on the connection that applies. After any failure the connection is let go, and with it whatever
    /// it had begun.
    async fn applying<T>(
        &self,
        job: impl AsyncFnOnce(&D, &mut D::Session) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let mut slot = self.applier.lock().await;
        let mut session = match slot.take() {
            Some(session) => session,
            None => self.dialect.connect(Purpose::Apply).await.map_err(Failure::while_applying)?,
        };
        let done = job(&self.dialect, &mut session).await?;
        *slot = Some(session);
        Ok(done)
    }

    async fn checksums(&self) -> Result<Checksums, NodeError> {
        // Not on the connection that applies, which has better to do.
        let mut session = self.capturing().await.map_err(Failure::while_applying)?;
        let found = checksum::all(&self.dialect, &mut session).await;
        let ended = session.command("ROLLBACK").await;
        if found.is_ok() && ended.is_ok() {
            self.give_back(session);
        }
        found
    }

    async fn place(&self) -> Result<Option<Place>, NodeError> {
        let mut session = self.capturing().await.map_err(Failure::while_applying)?;
        let found = notes::found(&self.dialect, &mut session).await?;
        self.give_back(session);
        Ok(found)
    }

    async fn capturing(&self) -> Result<D::Session, Failure> {
        if let Some(session) = self.idle().pop() {
            return Ok(session);
        }
        self.dialect.connect(Purpose::Capture).await
    }

    fn give_back(&self, session: D::Session) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MOST {
            idle.push(session);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<D::Session>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl<D: Dialect> Node for SqlNode<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn engine(&self) -> Engine {
        self.shared.dialect.engine()
    }

    async fn install(&self, genesis: &Genesis, hash: ChainHash) -> Result<(), NodeError> {
        let job = async |dialect: &D, session: &mut D::Session| {
            notes::install(dialect, session, genesis, hash).await
        };
        self.shared.applying(job).await
    }

    async fn durable(&self) -> Result<Durable, NodeError> {
        let job = async |dialect: &D, session: &mut D::Session| notes::read(dialect, session).await;
        self.shared.applying(job).await
    }

    async fn place(&self) -> Result<Option<Place>, NodeError> {
        match self.shared.place().await {
            // As for a transaction that begins.
            Err(NodeError::Environmental(_)) => {
                self.shared.idle().clear();
                self.shared.place().await
            }
            found => found,
        }
    }

    async fn apply(&self, steps: &[Step]) -> Result<(), NodeError> {
        let job =
            async |dialect: &D, session: &mut D::Session| apply::all(dialect, session, steps).await;
        self.shared.applying(job).await
    }

    async fn fence(&self, why: &str) -> Result<(), NodeError> {
        let job = async |dialect: &D, session: &mut D::Session| {
            notes::fence(dialect, session, why).await.map_err(Failure::while_applying)
        };
        self.shared.applying(job).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, SqlError> {
        match capture::begin(Arc::clone(&self.shared)).await {
            // A connection that waited too long; a fresh one tells what is.
            Err(SqlError::Node(NodeError::Environmental(_))) => {
                self.shared.idle().clear();
                capture::begin(Arc::clone(&self.shared)).await
            }
            begun => begun,
        }
    }

    async fn checksums(&self) -> Result<Checksums, NodeError> {
        match self.shared.checksums().await {
            // As for a transaction that begins.
            Err(NodeError::Environmental(_)) => {
                self.shared.idle().clear();
                self.shared.checksums().await
            }
            found => found,
        }
    }
}
