//! Ground truth: every server is asked all the time, straight at its own port, by connections of the checker's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};

const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// A server on this machine that takes longer to answer is frozen, or the machine is out of breath.
const SLOW: Duration = Duration::from_millis(400);
/// A standby that does not follow by then has diverged and needs a rewind.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes writes, on this timeline.
    Primary(u32),
    Standby,
    /// Lets nobody in.
    Down,
}

/// A change of state: when it was first seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) state: State,
}

/// Samples all nodes until dropped.
pub(super) struct Truth {
    nodes: BTreeMap<String, Arc<Mutex<History>>>,
    _samplers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct History {
    changes: Vec<Sample>,
    /// From the question to the answer, where that took long.
    slow: Vec<(Instant, Instant)>,
}

impl Truth {
    pub(super) fn start(sandbox: &Sandbox) -> Self {
        let mut samplers = JoinSet::new();
        let mut nodes = BTreeMap::new();
        for name in sandbox.node_names() {
            let mut config = Config::new();
            config
                .host("127.0.0.1")
                .port(sandbox.server_port(&name).unwrap())
                .user("postgres")
                .password(sandbox.credentials().password("postgres").unwrap())
                .dbname("postgres")
                .application_name("soak-truth");
            let history = Arc::new(Mutex::new(History::default()));
            samplers.spawn(sample(config, Arc::clone(&history)));
            nodes.insert(name, history);
        }
        Self { nodes, _samplers: samplers }
    }

    /// What the node was when last asked with success.
    pub(super) fn now(&self, node: &str) -> State {
        self.nodes[node].lock().unwrap().changes.last().map_or(State::Down, |sample| sample.state)
    }

    /// The one node that takes writes, and its timeline.
    pub(super) fn primary(&self) -> Result<(String, u32), String> {
        let primaries: Vec<_> = self
            .nodes
            .keys()
            .filter_map(|name| match self.now(name) {
                State::Primary(timeline) => Some((name.clone(), timeline)),
                State::Standby | State::Down => None,
            })
            .collect();
        match primaries.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(format!("there should be one primary, and there are {primaries:?}")),
        }
    }

    /// Waits for the first direct sample since `since` in which the node takes writes on a timeline newer than `older`.
    pub(super) async fn observable(
        &self,
        node: &str,
        since: Instant,
        older: u32,
    ) -> Result<Instant, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.changes_since(node, since).into_iter().find(
                |sample| matches!(sample.state, State::Primary(timeline) if timeline > older),
            );
            match found {
                Some(sample) => return Ok(sample.at),
                None if Instant::now() > deadline => {
                    return Err(format!(
                        "{node} was promoted and never seen on a timeline newer than {older}"
                    ));
                }
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Waits until the standby replays what the primary writes now, on the primary's timeline; says what it does instead.
    /// One that has diverged streams for a moment too.
    pub(super) async fn follows(
        &self,
        sandbox: &Sandbox,
        standby: &str,
        primary: &str,
    ) -> Result<(), String> {
        let State::Primary(timeline) = self.now(primary) else {
            return Err(format!("{primary} is no primary"));
        };
        let following = async {
            let client = sandbox.sql(primary, "postgres").await.map_err(|e| e.to_string())?;
            let query = "SELECT pg_current_wal_insert_lsn()::text";
            let row = client.query_one(query, &[]).await.map_err(|e| e.to_string())?;
            let (written, timeline): (String, _) = (row.get(0), i64::from(timeline));
            let client = sandbox.sql(standby, "postgres").await.map_err(|e| e.to_string())?;
            let query = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false) AND EXISTS \
                         (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming' AND received_tli::bigint = $2)";
            loop {
                let row = client.query_one(query, &[&written, &timeline]).await;
                if row.map_err(|e| e.to_string())?.get(0) {
                    return Ok(());
                }
                sleep(SAMPLE_EVERY).await;
            }
        };
        let late = |_| Err(format!("not within {FOLLOWS_WITHIN:?}"));
        timeout(FOLLOWS_WITHIN, following).await.unwrap_or_else(late)
    }

    pub(super) fn changes_since(&self, node: &str, since: Instant) -> Vec<Sample> {
        let history = self.nodes[node].lock().unwrap();
        history.changes.iter().filter(|sample| sample.at >= since).copied().collect()
    }

    /// When some node was slow to answer, for whatever reason.
    pub(super) fn slow_since(&self, since: Instant) -> BTreeMap<String, Vec<(Instant, Instant)>> {
        let slow = |history: &Arc<Mutex<History>>| {
            let history = history.lock().unwrap();
            history.slow.iter().filter(|(_, to)| *to >= since).copied().collect()
        };
        self.nodes.iter().map(|(name, history)| (name.clone(), slow(history))).collect()
    }
}

impl History {
    fn note(&mut self, state: State) {
        if self.changes.last().is_none_or(|last| last.state != state) {
            self.changes.push(Sample { at: Instant::now(), state });
        }
    }
}

async fn sample(config: Config, history: Arc<Mutex<History>>) {
    loop {
        if let Ok(Ok((client, connection))) = timeout(PATIENCE, config.connect(NoTls)).await {
            let driver = tokio::spawn(connection);
            loop {
                let asked = Instant::now();
                match timeout(PATIENCE, ask(&client)).await {
                    Ok(Ok(Some(state))) => history.lock().unwrap().note(state),
                    // It left recovery between two functions of one query.
                    Ok(Ok(None)) => {}
                    Ok(Err(_)) => break,
                    Err(_frozen) => {}
                }
                let answered = Instant::now();
                if answered - asked > SLOW {
                    history.lock().unwrap().slow.push((asked, answered));
                }
                sleep(SAMPLE_EVERY).await;
            }
            driver.abort();
        }
        history.lock().unwrap().note(State::Down);
        sleep(SAMPLE_EVERY).await;
    }
}

async fn ask(client: &Client) -> Result<Option<State>, tokio_postgres::Error> {
    let query = "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() \
                 THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END";
    let row = match client.query_one(query, &[]).await {
        Ok(row) => row,
        Err(error) if error.code().is_some_and(|code| code.code() == "55000") => return Ok(None),
        Err(error) => return Err(error),
    };
    if row.get(0) {
        return Ok(Some(State::Standby));
    }
    let timeline: Option<String> = row.get(1);
    Ok(timeline.map(|hex| State::Primary(u32::from_str_radix(&hex, 16).unwrap())))
}
