//! One client of the chaos: it writes, reads what it wrote, and looks whether everything it sees is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Error, Row, Statement};

use crate::harness::{Running, connect};
use crate::load::words;

/// No statement takes longer, whatever happens to servers.
const PATIENCE: Duration = Duration::from_secs(45);

/// An acknowledged write.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    /// Who says that it wrote.
    pub(super) node: String,
    pub(super) begun: Instant,
    pub(super) at: Instant,
}

/// What became of everything a client did.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) number: i64,
    pub(super) acks: BTreeMap<i64, Ack>,
    /// Writes of which nobody knows whether they happened.
    pub(super) unknown: BTreeSet<i64>,
    /// Writes that did not happen, by the gateway's word.
    pub(super) refused: BTreeSet<i64>,
    /// Own writes that a read of the same session did not find.
    pub(super) missed: BTreeSet<i64>,
    /// What was another's.
    pub(super) leaks: Vec<String>,
    /// Errors while nothing but a planned switchover was going on.
    pub(super) in_calm: Vec<String>,
    pub(super) errors: BTreeMap<String, usize>,
}

/// The table, without a key: what is written twice is there twice.
pub(super) async fn prepare(running: &Running) {
    let client = running.connect("postgres", "app").await;
    client.batch_execute("CREATE TABLE chaos (client bigint, number bigint)").await.unwrap();
}

/// One connection with what this client has made of it.
struct Session {
    client: Client,
    /// Has the same name on every connection of this driver, and another text for each client.
    own: Statement,
    insert: Statement,
}

pub(super) async fn run(
    running: Arc<Running>,
    number: i64,
    stop: Arc<AtomicBool>,
    calm: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
) -> Story {
    let mut story = Story { number, ..Story::default() };
    let mut session: Option<Session> = None;
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        let calm_before = calm.load(Ordering::SeqCst);
        let open = match session.take().filter(|session| !session.client.is_closed()) {
            Some(session) => Ok(session),
            None => begin(&running, number).await,
        };
        let outcome = match open {
            Ok(open) => {
                let outcome = story.turn(&open, next, &progress).await;
                session = Some(open);
                outcome
            }
            Err(error) => Err(error),
        };
        next += 2;
        if let Err(error) = outcome {
            let code = error.code().map_or("closed", |code| code.code()).to_owned();
            *story.errors.entry(code).or_default() += 1;
            if calm_before && calm.load(Ordering::SeqCst) {
                story.in_calm.push(words(&error));
            }
            if let Some(session) = &session {
                // Where it is closed there is nothing to roll back.
                let _closed = session.client.batch_execute("ROLLBACK").await.is_err();
            }
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(3)).await;
    }
    story
}

async fn begin(running: &Running, number: i64) -> Result<Session, Error> {
    let conninfo =
        format!("{} application_name=client-{number}", running.conninfo("postgres", "app"));
    let client = connect(&conninfo).await?;
    client.batch_execute(&format!("SET chaos.me = 'client {number}'")).await?;
    let own = client.prepare(&format!("SELECT 'statement of {number}'::text, $1::bigint")).await?;
    let insert = client
        .prepare("INSERT INTO chaos VALUES ($1, $2) RETURNING current_setting('cluster_name')")
        .await?;
    Ok(Session { client, own, insert })
}

impl Story {
    /// One write, plain or in a transaction, and the reads that belong to it.
    async fn turn(
        &mut self,
        session: &Session,
        write: i64,
        progress: &AtomicU64,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let in_transaction = (write / 2 + self.number) % 3 == 0;
        let outcome = timeout(PATIENCE, async {
            if in_transaction {
                self.transaction(session, write).await
            } else {
                let row =
                    session.client.query_one(&session.insert, &[&self.number, &write]).await?;
                Ok((row, vec![write]))
            }
        })
        .await
        .unwrap_or_else(|_| panic!("client {} has waited for {PATIENCE:?}", self.number));
        let (row, written) = match outcome {
            Ok(done) => done,
            Err(error) => {
                let of: &[i64] = if in_transaction { &[write, write + 1] } else { &[write] };
                self.failed(of, &error);
                return Err(error);
            }
        };
        let node: String = row.get(0);
        progress.fetch_add(1, Ordering::Relaxed);
        for number in &written {
            let ack = Ack { node: node.clone(), begun, at: Instant::now() };
            self.acks.insert(*number, ack);
        }
        self.look(session, write).await
    }

    async fn transaction(&self, session: &Session, write: i64) -> Result<(Row, Vec<i64>), Error> {
        session.client.batch_execute("BEGIN").await?;
        session.client.query_one(&session.insert, &[&self.number, &write]).await?;
        let row = session.client.query_one(&session.insert, &[&self.number, &(write + 1)]).await?;
        session.client.batch_execute("COMMIT").await?;
        Ok((row, vec![write, write + 1]))
    }

    fn failed(&mut self, writes: &[i64], error: &Error) {
        let code = error.code().map_or("closed", |code| code.code());
        // Only these say that nothing was done.
        let refused = ["57P03", "08006", "53300", "40001", "25P02"].contains(&code);
        let into = if refused { &mut self.refused } else { &mut self.unknown };
        into.extend(writes);
    }

    /// Whether the session sees what it wrote, and nothing of anybody else's.
    async fn look(&mut self, session: &Session, write: i64) -> Result<(), Error> {
        let client = &session.client;
        let rows = client
            .query(
                "SELECT client FROM chaos WHERE client = $1 AND number = $2",
                &[&self.number, &write],
            )
            .await?;
        if rows.is_empty() {
            self.missed.insert(write);
        }
        if rows.iter().any(|row| row.get::<_, i64>(0) != self.number) {
            self.leaks.push("another client's rows".to_owned());
        }
        let row = client.query_one(&session.own, &[&write]).await?;
        let (own, back): (String, i64) = (row.get(0), row.get(1));
        if own != format!("statement of {}", self.number) || back != write {
            self.leaks.push(format!("the answer `{own}`, {back}"));
        }
        if write % 5 == 0 {
            let sql = "SELECT current_setting('chaos.me'), current_setting('application_name')";
            let row = client.query_one(sql, &[]).await?;
            let (me, name): (String, String) = (row.get(0), row.get(1));
            if me != format!("client {}", self.number) || name != format!("client-{}", self.number)
            {
                self.leaks.push(format!("settings `{me}`, `{name}`"));
            }
        }
        Ok(())
    }
}
