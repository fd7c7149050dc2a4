//! A job of `mesh ddl` as a member has it: a row of `herdsman.ddl`, written by who runs the job and by who applies there.

use std::collections::BTreeMap;

use herdsman_node::{Lsn, NodeName};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::error::MeshError;
use crate::names;
use crate::stamp::NodeId;

/// How far a job is on a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Whoever applies there is to lock the tables.
    Wanted,
    /// They are locked, and the member's log ends at the row's position.
    Locked,
    /// What all members wrote before is to be applied.
    Drain,
    /// It is, and the statements have run, in the transaction that is still open.
    Prepared,
    /// It is decided: this is to be committed, now or, after a crash, as soon as may be.
    Commit,
    /// It is committed.
    Done,
    /// Nothing is changed, and nothing will be.
    GivenUp,
}

impl JobState {
    pub(crate) const ALL: [Self; 7] = [
        Self::Wanted,
        Self::Locked,
        Self::Drain,
        Self::Prepared,
        Self::Commit,
        Self::Done,
        Self::GivenUp,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Locked => "locked",
            Self::Drain => "drain",
            Self::Prepared => "prepared",
            Self::Commit => "commit",
            Self::Done => "done",
            Self::GivenUp => "given up",
        }
    }

    /// Whether it is decided that the statements take effect.
    pub(crate) const fn is_decided(self) -> bool {
        matches!(self, Self::Commit | Self::Done)
    }
}

/// A row of `herdsman.ddl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: i64,
    /// The user's.
    pub(crate) statements: Vec<String>,
    /// As whom they run.
    pub(crate) role: Option<String>,
    /// What the mesh runs before them on this member, and after them.
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
    /// The tables to lock, in quotes.
    pub(crate) tables: Vec<String>,
    pub(crate) state: JobState,
    /// Which attempt it is.
    pub(crate) round: i32,
    /// Where the member's log ended when the tables were locked.
    pub(crate) position: Option<Lsn>,
    /// Those of all members.
    pub(crate) positions: BTreeMap<NodeId, Lsn>,
    pub(crate) problem: Option<String>,
    /// Whoever runs it should have come to an end.
    pub(crate) is_late: bool,
}

const COLUMNS: &str = "id, statements, role, before, after, tables, state, round, position::text, positions::text, problem, until < clock_timestamp()";

impl Job {
    /// The job that is not over; none either where the node is not prepared for jobs.
    pub(crate) async fn current(
        node: &NodeName,
        client: &Client,
    ) -> Result<Option<Self>, MeshError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM {} WHERE state NOT IN ('done', 'given up') ORDER BY id LIMIT 1",
            names::own("ddl")
        );
        let rows = client.query(&sql, &[]).await;
        match rows {
            Ok(rows) => rows.first().map(|row| Self::of(node, row)).transpose(),
            // Made by an older program, and not brought up to date since.
            Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => Ok(None),
            Err(error) => Err(failed(node, "look for jobs of `mesh ddl`", error)),
        }
    }

    /// One job.
    pub(crate) async fn find(
        node: &NodeName,
        client: &Client,
        id: i64,
    ) -> Result<Option<Self>, MeshError> {
        let sql = format!("SELECT {COLUMNS} FROM {} WHERE id = $1", names::own("ddl"));
        let rows = client.query(&sql, &[&id]).await;
        let rows = rows.map_err(|error| failed(node, "read a job of `mesh ddl`", error))?;
        rows.first().map(|row| Self::of(node, row)).transpose()
    }

    fn of(node: &NodeName, row: &tokio_postgres::Row) -> Result<Self, MeshError> {
        let wrong = |error| failed(node, "read a job of `mesh ddl`", error);
        let state: String = row.try_get(6).map_err(wrong)?;
        let state = JobState::ALL.into_iter().find(|known| known.name() == state);
        let position: Option<String> = row.try_get(8).map_err(wrong)?;
        let positions: Option<String> = row.try_get(9).map_err(wrong)?;
        let positions: BTreeMap<String, String> =
            positions.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let positions = positions
            .iter()
            .filter_map(|(id, position)| Some((NodeId(id.parse().ok()?), position.parse().ok()?)));
        Ok(Self {
            id: row.try_get(0).map_err(wrong)?,
            statements: row.try_get(1).map_err(wrong)?,
            role: row.try_get(2).map_err(wrong)?,
            before: row.try_get(3).map_err(wrong)?,
            after: row.try_get(4).map_err(wrong)?,
            tables: row.try_get(5).map_err(wrong)?,
            state: state.unwrap_or(JobState::GivenUp),
            round: row.try_get(7).map_err(wrong)?,
            position: position.and_then(|text| text.parse().ok()),
            positions: positions.collect(),
            problem: row.try_get(10).map_err(wrong)?,
            is_late: row.try_get(11).map_err(wrong)?,
        })
    }

    /// Puts the row of a new job there.
    pub(crate) async fn insert(
        &self,
        node: &NodeName,
        client: &Client,
        seconds: f64,
    ) -> Result<(), MeshError> {
        let sql = format!(
            "INSERT INTO {} (id, statements, role, before, after, tables, state, until)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8))",
            names::own("ddl")
        );
        let state = self.state.name();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &self.id,
            &self.statements,
            &self.role,
            &self.before,
            &self.after,
            &self.tables,
            &state,
            &seconds,
        ];
        let noted = client.execute(&sql, &parameters).await;
        noted.map(drop).map_err(|error| failed(node, "note a job of `mesh ddl`", error))
    }
}

/// Brings a job from one of these states to another, in its attempt `round` (`None`: any). Whether it was in one of them.
pub(crate) async fn advance(
    node: &NodeName,
    client: &Client,
    id: i64,
    round: Option<i32>,
    from: &[JobState],
    change: Change<'_>,
) -> Result<bool, MeshError> {
    let from: Vec<&str> = from.iter().map(|state| state.name()).collect();
    let Change { to, position, positions, problem, again } = change;
    let position = position.map(|position| position.to_string());
    let positions = positions.map(|positions| {
        let texts: BTreeMap<String, String> = positions
            .iter()
            .map(|(id, position)| (id.0.to_string(), position.to_string()))
            .collect();
        serde_json::to_string(&texts).unwrap_or_default()
    });
    let sql = format!(
        "UPDATE {} SET state = $3, position = coalesce($4::text::pg_lsn, position), positions = coalesce($5::text::jsonb, positions),
problem = coalesce($6, problem), round = round + CASE WHEN $7 THEN 1 ELSE 0 END
WHERE id = $1 AND state = ANY ($2) AND ($8::int IS NULL OR round = $8)",
        names::own("ddl")
    );
    let state = to.name();
    let done = client
        .execute(&sql, &[&id, &from, &state, &position, &positions, &problem, &again, &round])
        .await;
    let done = done.map_err(|error| failed(node, "note how far `mesh ddl` is", error))?;
    Ok(done > 0)
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) to: JobState,
    pub(crate) position: Option<Lsn>,
    pub(crate) positions: Option<&'a BTreeMap<NodeId, Lsn>>,
    pub(crate) problem: Option<&'a str>,
    /// It is another attempt.
    pub(crate) again: bool,
}

impl Change<'_> {
    pub(crate) const fn to(to: JobState) -> Self {
        Self { to, position: None, positions: None, problem: None, again: false }
    }
}

pub(crate) fn failed(node: &NodeName, what: &str, source: tokio_postgres::Error) -> MeshError {
    MeshError::Sql { node: node.clone(), what: what.to_owned(), source }
}
