//! The herd's own connection to one node: looks at it when somebody wants to know, over the watcher's login.

use std::sync::Arc;
use std::time::Duration;

use herdsman::session::Replayed;
use herdsman_node::{Connection, Conninfo, Lsn, SystemId, Timeline, Tls, connect, describe};
use herdsman_watch::Moment;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;

use super::Herd;

/// Everything that is asked of a node. On a primary: the flushed and the inserted position, the clock, the senders.
const LOOK: &str = "SELECT pg_is_in_recovery()::text, \
     (SELECT system_identifier::text FROM pg_control_system()), \
     CASE WHEN pg_is_in_recovery() \
          THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT received_tli FROM pg_stat_wal_receiver))::text \
          ELSE 'x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END, \
     CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text, \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END::text, \
     (extract(epoch FROM clock_timestamp() - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::int8::text, \
     (SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_get_wal_senders())";

/// How long an answer may take. It is a few catalogue functions: a node that takes longer is of no use as a reader.
const LIMIT: Duration = Duration::from_millis(500);
/// How long a connection may take: as the watcher's own.
const CONNECT: Duration = Duration::from_secs(1);
/// A node that cannot be reached is tried again after so long.
const REST: Duration = Duration::from_millis(250);
/// Shortest time between two looks that sessions ask for: so late may a reader be used again after a write.
pub(super) const INTERVAL: Duration = Duration::from_millis(25);
/// The same while sessions write and none has asked yet: so much of what they wrote cannot be read when the primary dies.
const SELDOM: Duration = Duration::from_millis(100);
/// A connection that nobody wanted anything of for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) in_recovery: bool,
    pub(super) system_id: Option<SystemId>,
    pub(super) timeline: Option<Timeline>,
    /// Replayed, or flushed.
    pub(super) lsn: Lsn,
    pub(super) inserted: Option<Lsn>,
    /// Microseconds since 2000-01-01 UTC.
    pub(super) clock: i64,
    /// Process ids of the WAL senders, sorted.
    pub(super) senders: Vec<i32>,
}

/// What is wanted of a line.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Look soon.
    pub(super) look: Notify,
    /// Look some time: somebody wrote, and may want to read it.
    pub(super) later: Notify,
    /// Look now: the writer's position has just been learnt.
    pub(super) now: Notify,
    /// Look over a new connection: whether the node lets anybody in is the question.
    pub(super) knock: Notify,
}

/// One node's line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) herd: Arc<Herd>,
    pub(super) node: usize,
    pub(super) info: Arc<Conninfo>,
    pub(super) bell: Arc<Bell>,
    pub(super) stop: CancellationToken,
}

/// Why a look is wanted.
#[derive(Clone, Copy)]
enum Why {
    /// Somebody wants to know how far the node is.
    Look,
    /// Somebody could not connect: whether the node lets anybody in, asked since then.
    Knock(Moment),
}

/// Why a connection is given up.
enum End {
    /// It broke, or an answer took too long.
    Lost,
    /// Nobody wants anything.
    Idle,
    /// A new one is wanted.
    Knocked(Moment),
}

impl Line {
    pub(super) async fn run(self) {
        let tls = match Tls::new(&self.info) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::error!(endpoint = self.info.endpoint(), "failed to prepare TLS: {error}");
                return;
            }
        };
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.serve(&tls)).await;
        self.herd.forget(self.node);
    }

    async fn serve(&self, tls: &Tls) {
        let mut why = Why::Look;
        let mut waits = true;
        loop {
            if waits {
                why = self.wanted(None, Instant::now()).await;
            }
            waits = true;
            match connect(&self.info, tls, CONNECT).await {
                Ok(connection) => {
                    let end = Box::pin(self.hold(connection, why)).await;
                    // What was rewound was stopped first: what this connection said holds only as long as it does.
                    self.herd.forget(self.node);
                    match end {
                        End::Lost => sleep(REST).await,
                        End::Idle => {}
                        End::Knocked(since) => (why, waits) = (Why::Knock(since), false),
                    }
                }
                Err(error) => {
                    tracing::debug!(node = self.node, "failed to look: {error}");
                    sleep(REST).await;
                }
            }
        }
    }

    /// Looks over this connection whenever somebody wants to know, until it ends.
    async fn hold(&self, connection: Connection, mut why: Why) -> End {
        let (client, driver) = connection.split(|_| ());
        let mut driver = Box::pin(driver);
        loop {
            let begun = Instant::now();
            let sample = self.herd.begin_sample(self.node);
            let sight = tokio::select! {
                biased;
                _ended = &mut driver => return End::Lost,
                sight = timeout(LIMIT, look(&client)) => sight,
            };
            let sight = match sight {
                Ok(Ok(sight)) => sight,
                Ok(Err(problem)) => {
                    tracing::debug!(node = self.node, "failed to look: {problem}");
                    return End::Lost;
                }
                Err(_) => return End::Lost,
            };
            self.herd.seen(self.node, sample, &sight);
            if let Why::Knock(since) = why {
                self.herd.opened(self.node, since, sight.in_recovery);
            }
            tokio::select! {
                biased;
                _ended = &mut driver => return End::Lost,
                wanted = timeout(IDLE, self.wanted(self.herd.rhythm(self.node), begun)) => match wanted {
                    Ok(Why::Knock(since)) => return End::Knocked(since),
                    Ok(Why::Look) => why = Why::Look,
                    Err(_) => return End::Idle,
                },
            }
        }
    }

    /// Waits until a look is wanted. `last` is when the last one began.
    async fn wanted(&self, rhythm: Option<Duration>, last: Instant) -> Why {
        let soon = async {
            self.bell.look.notified().await;
            sleep_until(last + INTERVAL).await;
        };
        let later = async {
            self.bell.later.notified().await;
            sleep_until(last + SELDOM).await;
        };
        let due = async {
            match rhythm {
                Some(pause) => sleep_until(last + pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.bell.knock.notified() => Why::Knock(self.herd.moment()),
            () = self.bell.now.notified() => Why::Look,
            () = soon => Why::Look,
            () = later => Why::Look,
            () = due => Why::Look,
        }
    }
}

/// Looks at a node once.
async fn look(client: &Client) -> Result<Sight, String> {
    let messages = client.simple_query(LOOK).await.map_err(|error| describe(&error))?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.and_then(read).ok_or_else(|| "its answer cannot be read".to_owned())
}

fn read(row: &SimpleQueryRow) -> Option<Sight> {
    let text = |index: usize| row.try_get(index).ok().flatten();
    let timeline = text(2).and_then(|text: &str| match text.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    });
    Some(Sight {
        in_recovery: text(0)? == "true",
        system_id: text(1).and_then(|id| id.parse().ok()),
        timeline: timeline.map(Timeline),
        lsn: text(3)?.parse().ok()?,
        inserted: text(4).and_then(|lsn| lsn.parse().ok()),
        clock: text(5)?.parse().ok()?,
        senders: text(6)
            .unwrap_or_default()
            .split(',')
            .filter_map(|pid| pid.parse().ok())
            .collect(),
    })
}

impl Sight {
    /// As a reader's position.
    pub(super) const fn replayed(&self) -> Replayed {
        Replayed {
            system_id: self.system_id,
            timeline: self.timeline,
            // The topology's word is of another moment than this position.
            follows: None,
            lsn: self.lsn,
        }
    }
}
