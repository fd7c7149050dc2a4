//! One who writes, or reads, through each member in turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::time::{Instant, sleep};

use super::{IDS, Shared};
use crate::error::MeshError;
use crate::setup::Setup;
use crate::table::TableName;
use crate::verify::session::Session;

/// What is done again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Insert,
    Update,
    /// Rows with small keys.
    Low,
    /// Rows with large keys.
    High,
    /// Every row.
    Whole,
}

/// What one worker does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) statement: Statement,
    /// How often; as long as there is something left where `None`.
    pub(super) times: Option<u64>,
    /// Between two.
    pub(super) pause: Duration,
}

/// What one worker has to say at its end.
pub(super) struct Report {
    /// Of each statement that succeeded, in microseconds.
    pub(super) latencies: Vec<u32>,
    /// Why the first one failed.
    pub(super) problem: Option<String>,
}

pub(super) struct Worker {
    setup: Arc<Setup>,
    members: Vec<NodeName>,
    sessions: BTreeMap<NodeName, Session>,
    /// Whose turn it is.
    turn: usize,
    number: usize,
    work: Work,
    sql: String,
    shared: Arc<Shared>,
}

/// Failures in a row after which it is no outage of one member.
const HOPELESS: u32 = 100;
/// Before the next member is tried.
const PAUSE: Duration = Duration::from_millis(100);

impl Worker {
    /// Connects to every member.
    pub(super) async fn open(
        setup: &Arc<Setup>,
        members: &[NodeName],
        number: usize,
        work: Work,
        table: &TableName,
        shared: &Arc<Shared>,
    ) -> Result<Self, MeshError> {
        let table = table.quoted();
        let sql = match work.statement {
            Statement::Insert => format!("INSERT INTO {table} (col1, col2) VALUES ($1, $2)"),
            Statement::Update => format!("UPDATE {table} SET col1 = $1 WHERE id = {}", IDS[0]),
            Statement::Low => format!("SELECT * FROM {table} WHERE id BETWEEN 1 AND 100000"),
            Statement::High => format!("SELECT * FROM {table} WHERE id > 100000"),
            Statement::Whole => format!("SELECT * FROM {table}"),
        };
        let mut worker = Self {
            setup: Arc::clone(setup),
            members: members.to_vec(),
            sessions: BTreeMap::new(),
            turn: number,
            number,
            work,
            sql,
            shared: Arc::clone(shared),
        };
        for node in members {
            worker.session(node).await?;
        }
        Ok(worker)
    }

    /// Works until there is nothing left to do.
    ///
    /// # Errors
    /// What is no outage of one member.
    pub(super) async fn run(mut self) -> Result<Report, MeshError> {
        let mut report = Report { latencies: Vec::new(), problem: None };
        let mut round = 0;
        while self.work.times.is_none_or(|times| round < times) && self.shared.takes_one() {
            round += 1;
            self.one(round, &mut report).await?;
            if !self.work.pause.is_zero() {
                sleep(self.work.pause).await;
            }
        }
        Ok(report)
    }

    /// One statement, on another member where the first cannot be asked.
    async fn one(&mut self, round: u64, report: &mut Report) -> Result<(), MeshError> {
        let mut failures = 0;
        loop {
            let Some(node) = self.next() else { return Ok(()) };
            let begun = Instant::now();
            match self.attempt(&node, round).await {
                Ok(rows) => {
                    report
                        .latencies
                        .push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                    self.shared.done.fetch_add(1, Ordering::Relaxed);
                    self.shared.read.fetch_add(rows, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => {
                    self.sessions.remove(&node);
                    self.shared.failed.fetch_add(1, Ordering::Relaxed);
                    report.problem.get_or_insert_with(|| error.to_string());
                    failures += 1;
                    if !error.is_transient() || failures >= HOPELESS {
                        return Err(error);
                    }
                    if self.shared.stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn attempt(&mut self, node: &NodeName, round: u64) -> Result<u64, MeshError> {
        let (statement, number) = (self.work.statement, self.number + 1);
        let sql = self.sql.clone();
        let session = self.session(node).await?;
        let written = format!("update1-new-t{number}-{round}");
        match statement {
            Statement::Insert => {
                let other = format!("writer{number}-{round}");
                session.execute("insert a row", &sql, &[&written, &other]).await.map(|_| 0)
            }
            Statement::Update => {
                session.execute("update the row", &sql, &[&written]).await.map(|_| 0)
            }
            Statement::Low | Statement::High | Statement::Whole => {
                let rows = session.rows("read rows", &sql, &[]).await;
                rows.map(|rows| u64::try_from(rows.len()).unwrap_or(u64::MAX))
            }
        }
    }

    async fn session(&mut self, node: &NodeName) -> Result<&Session, MeshError> {
        if !self.sessions.contains_key(node) {
            let info = self.setup.nodes.get(node).ok_or_else(|| gone(node))?;
            let session = Session::open(node, info).await?;
            self.sessions.insert(node.clone(), session);
        }
        self.sessions.get(node).ok_or_else(|| gone(node))
    }

    fn next(&mut self) -> Option<NodeName> {
        let at = self.turn % self.members.len().max(1);
        self.turn += 1;
        self.members.get(at).cloned()
    }
}

fn gone(node: &NodeName) -> MeshError {
    MeshError::refused(
        format!("node `{node}` is a member and not in `hosts`"),
        "add it there, or run `herdsman mesh remove`",
    )
}
