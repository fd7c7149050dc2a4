//! One program drives a node at a time.
//!
//! Two things see to it. A lock that the engine, or for SQLite the operating system, lets go of when its holder is gone,
//! however it went: it says at once who may begin. And a token in the node's data, written by whoever got the lock and read
//! in every transaction that applies or runs: who lost the lock without a word finds another's there, and stops.

use super::{
    Shared,
    notes::{TEXT, number},
};
use crate::{
    Value,
    node::{
        NodeError,
        dialect::{Dialect, Failure, Purpose, Session as _},
    },
    value::Kind,
};
use std::time::Duration;

use herdsman_node::Backoff;
use tokio::time::Instant;

/// How long a lock is waited for: a server takes a moment to see that a program was killed.
const WAIT: Duration = Duration::from_secs(5);
/// How often it is tried meanwhile.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(200) };

/// What a program has of the node that it drives.
pub(super) struct Guard<D: Dialect> {
    hold: Option<D::Hold>,
    /// Something may have failed since, and the lock may be lost.
    doubtful: bool,
}

impl<D: Dialect> Default for Guard<D> {
    fn default() -> Self {
        Self { hold: None, doubtful: false }
    }
}

impl<D: Dialect> Guard<D> {
    /// Something may fail: whether the lock is still there is to be asked before it is relied on.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// What was begun after a doubt was done.
    pub(super) fn trust(&mut self) {
        self.doubtful = false;
    }

    /// Gets the node, unless it has it.
    pub(super) async fn get(&mut self, shared: &Shared<D>) -> Result<(), NodeError> {
        if let Some(hold) = &mut self.hold {
            if !self.doubtful || shared.dialect.holds(hold).await {
                self.doubtful = false;
                return Ok(());
            }
            self.hold = None;
        }
        let until = Instant::now() + WAIT;
        let mut failures = 0;
        loop {
            if let Some(hold) = shared.dialect.hold().await.map_err(Failure::while_applying)? {
                sign(shared).await.map_err(Failure::while_applying)?;
                self.hold = Some(hold);
                self.doubtful = false;
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(NodeError::Driven { by: holder(shared).await });
            }
            failures += 1;
            tokio::time::sleep(AGAIN.pause(failures, fastrand::f64())).await;
        }
    }
}

/// Writes down who has the node from now on.
async fn sign<D: Dialect>(shared: &Shared<D>) -> Result<(), Failure> {
    let dialect = &shared.dialect;
    let mut session = dialect.connect(Purpose::Apply).await?;
    let (number_type, text) = (dialect.captured(Kind::Int64), dialect.own_text());
    let create = format!(
        "CREATE TABLE IF NOT EXISTS _ledger_guard (one {number_type} PRIMARY KEY, token {text} NOT NULL, holder {text} NOT NULL){}",
        dialect.table_options()
    );
    session.command(&create).await?;
    session.command(dialect.begin_apply()).await?;
    session.execute("DELETE FROM _ledger_guard", &[]).await?;
    let insert = format!(
        "INSERT INTO _ledger_guard (one, token, holder) VALUES ({}, {}, {})",
        dialect.value(Kind::Int64, 1),
        dialect.value(TEXT, 2),
        dialect.value(TEXT, 3)
    );
    let values = [number(1), Value::Text(shared.token.clone()), Value::Text(ourselves())];
    session.execute(&insert, &values).await?;
    session.command("COMMIT").await
}

/// Who has the node, as far as it says.
async fn holder<D: Dialect>(shared: &Shared<D>) -> String {
    let found = async {
        let mut session = shared.dialect.connect(Purpose::Apply).await?;
        session.select("SELECT holder FROM _ledger_guard WHERE one = 1", &[]).await
    };
    let rows = found.await.unwrap_or_default();
    rows.into_iter().flatten().flatten().next().unwrap_or_else(|| "it does not say who".to_owned())
}

/// Whether the node is still ours, as of the token and the name that were read.
pub(super) fn check(found: Option<&(String, String)>, token: &str) -> Result<(), NodeError> {
    match found {
        Some((found, holder)) if found != token => Err(NodeError::Driven { by: holder.clone() }),
        _ => Ok(()),
    }
}

/// What others are told of this program.
fn ourselves() -> String {
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let host = host.as_deref().map_or("a machine without a name", str::trim).to_owned();
    format!("process {} on {host}", std::process::id())
}
