//! A node of any engine: the same statements, in its dialect.

mod apply;
mod capture;
mod checksum;
mod clients;
mod guard;
mod native;
mod notes;
mod plan;
mod tables;
mod transfer;

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;
use clients::Clients;
use guard::Guard;
use tables::Tables;
use tokio::sync::{Mutex, mpsc};

use super::{
    Answer, Captured, Checksums, Engine, Native, Node, NodeError, Place, Room, Sql, SqlError,
    Transaction,
    dialect::{Dialect, Failure, Purpose, Session as _},
};
use crate::{
    ChainHash, Offset,
    entry::Genesis,
    replica::{Durable, Step},
    snapshot::Part,
};

/// How many connections wait for the next client: as many as the ledger uses at the same time by itself.
const IDLE_MOST: usize = 32;

/// A node of an engine.
pub(super) struct SqlNode<D: Dialect> {
    name: String,
    shared: Arc<Shared<D>>,
}

struct Shared<D: Dialect> {
    dialect: D,
    /// That no other program drives the node.
    guard: Mutex<Guard<D>>,
    /// What this program signs with.
    token: String,
    /// The one connection that applies; gone after trouble.
    applier: Mutex<Option<D::Session>>,
    /// What that connection is told by.
    applier_is: std::sync::Mutex<Option<D::Handle>>,
    idle: std::sync::Mutex<Vec<D::Session>>,
    /// As of [`Dialect::connect_pipeline`].
    idle_pipelines: std::sync::Mutex<Vec<D::Session>>,
    /// Clients' transactions that are open.
    clients: Clients<D::Handle>,
    /// The connection that asks who holds the one that applies up.
    helper: Mutex<Option<D::Session>>,
    /// What the tables are.
    tables: Tables,
}

impl<D: Dialect> SqlNode<D> {
    pub(super) fn new(name: &str, dialect: D) -> Self {
        let shared = Shared {
            dialect,
            guard: Mutex::default(),
            token: format!("{:032x}", fastrand::u128(..)),
            applier: Mutex::default(),
            applier_is: std::sync::Mutex::default(),
            idle: std::sync::Mutex::default(),
            idle_pipelines: std::sync::Mutex::default(),
            clients: Clients::default(),
            helper: Mutex::default(),
            tables: Tables::default(),
        };
        Self { name: name.to_owned(), shared: Arc::new(shared) }
    }
}

impl<D: Dialect> Shared<D> {
    /// Does something on the connection that applies. After any failure the connection is let go, and with it whatever
    /// it had begun. Clients' transactions that it has to wait for are ended.
    async fn applying<T>(
        &self,
        job: impl AsyncFnOnce(&D, &mut D::Session) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let mut slot = self.applier.lock().await;
        let mut guard = self.guard.lock().await;
        guard.get(self).await?;
        guard.doubt();
        let mut session = match slot.take() {
            Some(session) => session,
            None => self.dialect.connect(Purpose::Apply).await.map_err(Failure::while_applying)?,
        };
        *self.applier_is.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(self.dialect.handle(&session));
        let done = tokio::select! {
            done = job(&self.dialect, &mut session) => done?,
            never = self.keep_the_way_free() => match never {},
        };
        *slot = Some(session);
        guard.trust();
        Ok(done)
    }

    /// Ends clients' transactions that the connection which applies waits for, again and again.
    async fn keep_the_way_free(&self) -> Infallible {
        loop {
            tokio::time::sleep(self.dialect.patience()).await;
            if let Err(failure) = self.make_way().await {
                tracing::debug!(?failure, "cannot see who holds an entry up");
            }
        }
    }

    async fn make_way(&self) -> Result<(), Failure> {
        let applier = self.applier_is.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(applier) = applier else { return Ok(()) };
        self.end_clients(Some(applier)).await
    }

    /// Ends the clients' transactions that this connection waits for; without one, every one that is open.
    async fn end_clients(&self, held_up: Option<D::Handle>) -> Result<(), Failure> {
        let open = self.clients.open();
        if open.is_empty() {
            return Ok(());
        }
        let mut slot = self.helper.lock().await;
        let mut helper = match slot.take() {
            Some(helper) => helper,
            None => self.dialect.connect(Purpose::Apply).await?,
        };
        let whom = match held_up {
            Some(applier) => self.dialect.blockers(&mut helper, &applier, &open).await?,
            None => open,
        };
        for client in self.clients.beat(&whom) {
            tracing::info!("a client's transaction is ended: the log does not wait for it");
            self.dialect.end(&mut helper, &client).await?;
        }
        *slot = Some(helper);
        Ok(())
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

    async fn give(&self, to: &mpsc::Sender<Part>) -> Result<(), NodeError> {
        let mut session = self.capturing().await.map_err(Failure::while_applying)?;
        let given = transfer::give(&self.dialect, &mut session, to).await;
        let ended = session.command("ROLLBACK").await;
        if given.is_ok() && ended.is_ok() {
            self.give_back(session);
        }
        given
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
        keep(&mut self.idle(), session);
    }

    fn idle_pipelines(&self) -> std::sync::MutexGuard<'_, Vec<D::Session>> {
        self.idle_pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<D::Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep<S>(idle: &mut Vec<S>, session: S) {
    if idle.len() < IDLE_MOST {
        idle.push(session);
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
        let job = async |dialect: &D, session: &mut D::Session| {
            let Shared { token, tables, .. } = &*self.shared;
            apply::all(dialect, session, steps, token, tables).await
        };
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

    async fn run(
        &self,
        statements: &[Sql<'_>],
        mut room: Room,
    ) -> Result<(Vec<Answer>, Captured), SqlError> {
        if let Some(done) = capture::at_once(&self.shared, statements).await? {
            return Ok(done);
        }
        let mut transaction = self.begin().await?;
        let mut answers = Vec::with_capacity(statements.len());
        for sql in statements {
            answers.push(transaction.run_with(*sql, &mut room).await?);
        }
        Ok((answers, transaction.capture().await?))
    }

    async fn native(&self) -> Result<Option<Box<dyn Native>>, SqlError> {
        native::connect(Arc::clone(&self.shared)).await
    }

    async fn give(&self, to: mpsc::Sender<Part>) -> Result<(), NodeError> {
        // A connection that waited too long would have to begin again what is given already.
        self.shared.idle().clear();
        self.shared.give(&to).await
    }

    async fn take(
        &self,
        genesis: &Genesis,
        hash: ChainHash,
        mut parts: mpsc::Receiver<Part>,
    ) -> Result<Offset, NodeError> {
        let job = async |dialect: &D, session: &mut D::Session| {
            let durable = transfer::begin(dialect, session, genesis, hash, &mut parts).await?;
            // Whoever begins from now on sees that the node is fenced.
            self.shared.end_clients(None).await.map_err(Failure::while_applying)?;
            transfer::fill(dialect, session, &durable, &mut parts).await
        };
        self.shared.applying(job).await
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
