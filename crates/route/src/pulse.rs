//! One node's pulse: a task that holds a connection of its own, looks at the node regularly and when asked to, and
//! publishes what it saw. It is how the set knows that a node is gone before a statement has to find out.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{ConnectErrorKind, Conninfo, NodeName, Tls, connect};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;

use crate::health::{Beat, Health, Monitor};
use crate::session::Replayed;

/// What the pulse last saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whether the node is there.
    pub(crate) health: Health,
    /// What was wrong at the last look, if something was.
    pub(crate) error: Option<String>,
    /// Whether it replays another server's WAL.
    pub(crate) in_recovery: Option<bool>,
    /// How far it has replayed, or written.
    pub(crate) position: Option<Replayed>,
    /// When the last answer came.
    pub(crate) answered: Option<Instant>,
    /// How often the connection was lost: each time the node's other connections may be gone as well.
    pub(crate) losses: u64,
}

/// How often and how patiently to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// A node's pulse: the end others hold.
#[derive(Debug)]
pub(crate) struct Pulse {
    pub(crate) name: NodeName,
    conninfo: Conninfo,
    tls: Tls,
    rhythm: Rhythm,
    seen: watch::Sender<Seen>,
    look: Notify,
}

/// The whole look, and what is left of it for a role that may not see the rest.
const LOOK: &str = "SELECT pg_is_in_recovery()::text, \
     (SELECT system_identifier::text FROM pg_control_system()), \
     CASE WHEN pg_is_in_recovery() \
          THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT received_tli FROM pg_stat_wal_receiver))::text \
          ELSE 'x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END, \
     CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text";
const GLANCE: &str = "SELECT pg_is_in_recovery()::text, NULL, NULL, \
     CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text";

/// Shortest pause between two looks that were asked for: a waiting read need not ask oftener than a round trip takes.
const BREATH: Duration = Duration::from_millis(1);

impl Pulse {
    pub(crate) fn new(name: NodeName, conninfo: Conninfo, tls: Tls, rhythm: Rhythm) -> Self {
        let (seen, _) = watch::channel(Seen::default());
        Self { name, conninfo, tls, rhythm, seen, look: Notify::new() }
    }

    /// What was last seen.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Reads one thing of what was last seen, without copying the rest.
    pub(crate) fn read<T>(&self, what: impl FnOnce(&Seen) -> T) -> T {
        what(&self.seen.borrow())
    }

    /// Asks for a look now.
    pub(crate) fn look_now(&self) {
        self.look.notify_one();
    }

    /// Beats until `stop`. `stir` is called after each change that others may wait for.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken, stir: watch::Sender<()>) {
        stop.run_until_cancelled(self.beat(&stir)).await;
    }

    async fn beat(&self, stir: &watch::Sender<()>) {
        let mut monitor = Monitor::default();
        // Connections in a row that were lost before they gave an answer.
        let mut mute = 0u32;
        loop {
            let limit = self
                .conninfo
                .connect_timeout
                .unwrap_or(self.rhythm.timeout)
                .min(self.rhythm.timeout);
            let (beat, problem) = match connect(&self.conninfo, &self.tls, limit).await {
                Ok(connection) => {
                    let (client, driver) = connection.split(|_| ());
                    let mut answered = false;
                    let end = tokio::select! {
                        // First: it knows why the connection ended, a look that fails by it does not.
                        biased;
                        story = driver => End::Lost(story),
                        end = self.watch(&client, &mut monitor, &mut answered, stir) => end,
                    };
                    mute = if answered { 0 } else { mute.saturating_add(1) };
                    match end {
                        // Whether the server has gone with it, connecting anew will tell at once.
                        End::Lost(story) if mute < 2 => {
                            self.lost(&story, stir);
                            continue;
                        }
                        End::Lost(story) => (Beat::Refused, story),
                        End::Silent => {
                            (Beat::Silent, format!("no answer within {:?}", self.rhythm.timeout))
                        }
                    }
                }
                Err(error) => {
                    let beat = match error.kind {
                        ConnectErrorKind::TimedOut => Beat::Silent,
                        // It is alive, and those connections that exist go on working.
                        ConnectErrorKind::TooManyConnections => Beat::Answered,
                        _ => Beat::Refused,
                    };
                    (beat, error.to_string())
                }
            };
            self.publish(&mut monitor, beat, Some(problem), None, stir);
            self.rest(&monitor).await;
        }
    }

    /// Looks at regular intervals over this connection until it ends or no answer comes in time.
    async fn watch(
        &self,
        client: &Client,
        monitor: &mut Monitor,
        answered: &mut bool,
        stir: &watch::Sender<()>,
    ) -> End {
        let mut question = LOOK;
        loop {
            match timeout(self.rhythm.timeout, client.simple_query(question)).await {
                Ok(Ok(answer)) => {
                    let sight = answer.iter().find_map(|message| match message {
                        SimpleQueryMessage::Row(row) => Some(Sight::of(row)),
                        _ => None,
                    });
                    *answered = true;
                    self.publish(monitor, Beat::Answered, None, sight, stir);
                }
                Ok(Err(error)) if is_fatal(&error) => {
                    return End::Lost(herdsman_node::describe(&error));
                }
                Ok(Err(error)) if question == LOOK => {
                    tracing::debug!(node = %self.name, error = herdsman_node::describe(&error), "looking at less");
                    question = GLANCE;
                    continue;
                }
                // It says no, but it says something.
                Ok(Err(error)) => {
                    *answered = true;
                    self.publish(
                        monitor,
                        Beat::Answered,
                        Some(herdsman_node::describe(&error)),
                        None,
                        stir,
                    );
                }
                Err(_) => return End::Silent,
            }
            self.rest(monitor).await;
        }
    }

    async fn rest(&self, monitor: &Monitor) {
        sleep(BREATH).await;
        let pause = monitor.pause(self.rhythm.interval, fastrand::f64());
        tokio::select! {
            () = sleep(pause) => {}
            () = self.look.notified() => {}
        }
    }

    fn lost(&self, story: &str, stir: &watch::Sender<()>) {
        tracing::debug!(node = %self.name, error = story, "lost the pulse's connection");
        self.seen.send_modify(|seen| {
            seen.losses += 1;
            seen.error = Some(story.to_owned());
        });
        stir.send_replace(());
    }

    fn publish(
        &self,
        monitor: &mut Monitor,
        beat: Beat,
        error: Option<String>,
        sight: Option<Sight>,
        stir: &watch::Sender<()>,
    ) {
        let now = Instant::now();
        if monitor.take(beat, now) {
            tracing::info!(node = %self.name, health = ?monitor.health(), error = error.as_deref(), "health changed");
        }
        self.seen.send_modify(|seen| {
            seen.health = monitor.health();
            seen.error = error;
            if beat == Beat::Answered {
                seen.answered = Some(now);
            }
            if let Some(sight) = sight {
                seen.in_recovery = Some(sight.in_recovery);
                seen.position = sight.position;
            }
        });
        stir.send_replace(());
    }
}

/// How a connection of the pulse ended.
enum End {
    /// The server or the way to it broke it off, with these words.
    Lost(String),
    /// No answer came in time.
    Silent,
}

/// Whether the connection has ended with this error, rather than only the question failed.
fn is_fatal(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::Severity;
    error.as_db_error().is_none_or(|error| {
        matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
    })
}

/// One answer.
struct Sight {
    in_recovery: bool,
    position: Option<Replayed>,
}

impl Sight {
    fn of(row: &SimpleQueryRow) -> Self {
        let text = |index| row.try_get(index).ok().flatten();
        let timeline = text(2).and_then(|text: &str| match text.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        });
        let position = text(3).and_then(|lsn| lsn.parse().ok()).map(|lsn| Replayed {
            system_id: text(1).and_then(|id| id.parse().ok()),
            timeline: timeline.map(herdsman_node::Timeline),
            lsn,
            follows: None,
        });
        Self { in_recovery: text(0) == Some("true"), position }
    }
}
