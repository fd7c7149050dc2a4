//! Sessions on the members, and what each of them has.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, NodeName, Tls, connect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::error::MeshError;
use crate::install;
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::table::Table;

/// How long a node may take to let us in.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// A row must look the same on every member, whatever they, the database or the role have been set to; and nothing of the
/// mesh's own work may be cut short by limits that were meant for applications.
const SETTINGS: &str = "
SET search_path = pg_catalog, pg_temp; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmlbinary = 'base64';
SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET default_transaction_isolation = 'read committed'; SET row_security = off; SET jit = off";

/// A session on a node.
pub(crate) struct Session {
    /// The node.
    pub(crate) node: NodeName,
    /// How it is reached.
    pub(crate) info: Conninfo,
    /// The session.
    pub(crate) client: Client,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(node: &NodeName, info: &Conninfo) -> Result<Self, MeshError> {
        let tls = Tls::new(info).map_err(|source| MeshError::Tls { node: node.clone(), source })?;
        let connecting = connect(info, &tls, CONNECT).await;
        let (client, driving) = connecting
            .map_err(|source| MeshError::Connect { node: node.clone(), source })?
            .split(|_| {});
        // Ends by itself when the client is dropped.
        tokio::spawn(driving);
        let session = Self { node: node.clone(), info: info.clone(), client };
        session.run("prepare the session", SETTINGS).await?;
        Ok(session)
    }

    /// Another one to the same node.
    pub(crate) async fn another(&self) -> Result<Self, MeshError> {
        Self::open(&self.node, &self.info).await
    }

    /// Runs statements. `what` completes "failed to …".
    pub(crate) async fn run(&self, what: &str, sql: &str) -> Result<(), MeshError> {
        self.client.batch_execute(sql).await.map_err(|error| self.failed(what, error))
    }

    /// Asks.
    pub(crate) async fn rows(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, MeshError> {
        self.client.query(sql, parameters).await.map_err(|error| self.failed(what, error))
    }

    /// Asks for one row.
    pub(crate) async fn row(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, MeshError> {
        self.client.query_one(sql, parameters).await.map_err(|error| self.failed(what, error))
    }

    /// Runs one statement, and tells how many rows it changed.
    pub(crate) async fn execute(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, MeshError> {
        self.client.execute(sql, parameters).await.map_err(|error| self.failed(what, error))
    }

    /// The end of its log: everything that is visible here now is before it.
    pub(crate) async fn position(&self) -> Result<Lsn, MeshError> {
        let what = "say where its log ends";
        let row = self.row(what, "SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        self.lsn(what, &row, 0)
    }

    /// A position in an answer.
    pub(crate) fn lsn(&self, what: &str, row: &Row, column: usize) -> Result<Lsn, MeshError> {
        let text: String = self.get(what, row, column)?;
        text.parse().map_err(|error| {
            MeshError::refused(
                format!("node `{}`: its answer to `{what}` cannot be read: {error}", self.node),
                "this is a defect of Herdsman; please report it",
            )
        })
    }

    /// A value of an answer.
    pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
        &self,
        what: &str,
        row: &'a Row,
        column: usize,
    ) -> Result<T, MeshError> {
        row.try_get(column).map_err(|error| self.failed(what, error))
    }

    /// The error for a failed statement.
    pub(crate) fn failed(&self, what: &str, source: tokio_postgres::Error) -> MeshError {
        MeshError::Sql { node: self.node.clone(), what: what.to_owned(), source }
    }
}

/// A member, with a session and its tables.
pub(crate) struct Seat {
    /// Who.
    pub(crate) member: Member,
    /// The session.
    pub(crate) session: Session,
    /// Its tables that belong to the mesh.
    pub(crate) tables: Vec<Table>,
}

impl Seat {
    /// Opens one.
    pub(crate) async fn open(setup: &Arc<Setup>, member: Member) -> Result<Self, MeshError> {
        let info = setup.nodes.get(&member.name).ok_or_else(|| unknown(&member.name))?;
        let session = Session::open(&member.name, info).await?;
        let tables = install::tables(setup, &member.name, &session.client).await?;
        // Whatever was set to read them.
        session.run("prepare the session", SETTINGS).await?;
        Ok(Self { member, session, tables })
    }

    /// The table of this name.
    pub(crate) fn table(&self, name: &crate::table::TableName) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == *name)
    }

    /// Its number.
    pub(crate) const fn id(&self) -> NodeId {
        self.member.id
    }
}

/// The members as the first node knows them that can be asked and is one.
pub(crate) async fn members(setup: &Arc<Setup>) -> Result<Vec<Member>, MeshError> {
    let mut problem = None;
    for node in &setup.config.nodes {
        let Some(info) = setup.nodes.get(node) else { return Err(unknown(node)) };
        let asked = async {
            let session = Session::open(node, info).await?;
            install::members(node, &session.client).await
        };
        match asked.await {
            Ok(members) if members.is_empty() => {}
            Ok(members) => return Ok(members),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    Err(problem.unwrap_or_else(|| {
        MeshError::refused("no node is a member of a mesh yet", "run `herdsman mesh up` first")
    }))
}

/// Seats of the members that take writes, by their numbers.
pub(crate) async fn active(setup: &Arc<Setup>) -> Result<Vec<Seat>, MeshError> {
    let members = members(setup).await?;
    let writing = |member: &Member| member.state == MemberState::Active;
    let opening = members.into_iter().filter(writing).map(|member| Seat::open(setup, member));
    let mut seats = futures_util::future::try_join_all(opening).await?;
    seats.sort_by_key(Seat::id);
    Ok(seats)
}

/// The error for a member that the configuration does not have.
pub(crate) fn unknown(node: &NodeName) -> MeshError {
    MeshError::refused(
        format!(
            "node `{node}` is a member of the mesh and the configuration does not say where it is"
        ),
        "add it to `hosts`, or run `herdsman mesh remove`",
    )
}
