//! Roles that are discovered: the writer moves with every promotion, and nothing is written to the wrong node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use herdsman::{Error, NodeRole, ReplicaSet};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::herd::{Herd, on_each_version, sent, until};

const WRITERS: usize = 16;
const READERS: usize = 4;

/// Figures for whoever asks for them with `--nocapture`.
#[allow(clippy::print_stdout, reason = "a test's figures have no other way out")]
pub(crate) fn tell(line: &str) {
    println!("{line}");
}

/// An acknowledged write.
#[derive(Clone, Debug)]
struct Ack {
    id: i64,
    /// The node that says it wrote it.
    node: String,
    begun: Instant,
    ended: Instant,
}

/// What became of all writes and reads.
#[derive(Debug, Default)]
struct Story {
    acks: Vec<Ack>,
    /// Writes that had no effect, for sure, by kind of error.
    nothing: BTreeMap<&'static str, usize>,
    /// Writes of which nobody knows whether they had one.
    unknown: BTreeSet<i64>,
    /// Errors that are not ours and so say nothing of the sort.
    untyped: Vec<String>,
    reads: u64,
    failed_reads: Vec<String>,
    /// The longest time between two acknowledged writes of the whole set.
    gap: Duration,
}

/// Sixteen tasks that write and four that read, until they are told to stop.
struct Load {
    tasks: JoinSet<Story>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    fn begin(db: &ReplicaSet) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let ids = Arc::new(AtomicI64::new(1));
        let mut tasks = JoinSet::new();
        for _ in 0..WRITERS {
            let (db, stop, acknowledged, ids) =
                (db.clone(), stop.clone(), acknowledged.clone(), ids.clone());
            tasks.spawn(async move {
                let mut story = Story::default();
                while !stop.load(Ordering::Relaxed) {
                    story.write(&db, ids.fetch_add(1, Ordering::Relaxed), &acknowledged).await;
                    sleep(Duration::from_millis(3)).await;
                }
                story
            });
        }
        for _ in 0..READERS {
            let (db, stop, ids) = (db.clone(), stop.clone(), ids.clone());
            tasks.spawn(async move {
                let mut story = Story::default();
                while !stop.load(Ordering::Relaxed) {
                    story.read(&db, ids.load(Ordering::Relaxed)).await;
                    sleep(Duration::from_millis(3)).await;
                }
                story
            });
        }
        Self { tasks, stop, acknowledged }
    }

    /// Waits until as many more writes are acknowledged.
    async fn progress(&self, writes: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + writes;
        until("writes go on", async || self.acknowledged.load(Ordering::Relaxed) >= goal).await;
    }

    async fn end(self) -> Story {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Story::default();
        for story in self.tasks.join_all().await {
            whole.acks.extend(story.acks);
            for (kind, count) in story.nothing {
                *whole.nothing.entry(kind).or_default() += count;
            }
            whole.unknown.extend(story.unknown);
            whole.untyped.extend(story.untyped);
            whole.reads += story.reads;
            whole.failed_reads.extend(story.failed_reads);
        }
        whole.acks.sort_by_key(|ack| ack.ended);
        let gaps = whole.acks.windows(2).map(|two| two[1].ended - two[0].ended);
        whole.gap = gaps.max().unwrap_or_default();
        whole
    }
}

impl Story {
    async fn write(&mut self, db: &ReplicaSet, id: i64, acknowledged: &AtomicU64) {
        let sql = "INSERT INTO notes (id, text) VALUES ($1, 'load') RETURNING id, current_setting('cluster_name')";
        let begun = Instant::now();
        match sqlx::query_as::<_, (i64, String)>(sql).bind(id).fetch_one(db).await {
            Ok((returned, node)) => {
                assert_eq!(returned, id);
                self.acks.push(Ack { id, node, begun, ended: Instant::now() });
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => match Error::of(&error) {
                Some(Error::OutcomeUnknown { .. }) => {
                    self.unknown.insert(id);
                }
                Some(ours) => {
                    assert!(ours.nothing_happened());
                    *self.nothing.entry(kind(ours)).or_default() += 1;
                }
                None => self.untyped.push(format!("{id}: {error}")),
            },
        }
    }

    async fn read(&mut self, db: &ReplicaSet, id: i64) {
        self.reads += 1;
        let sql = "SELECT id FROM notes WHERE id = $1";
        if let Err(error) = sqlx::query(sql).bind(id).fetch_optional(db).await {
            self.failed_reads.push(error.to_string());
        }
    }

    fn tell(&self, title: &str) {
        tell(&format!(
            "{title}: {} writes acknowledged, {} of unknown outcome, without effect {:?}; {} reads, {} failed; \
             longest pause between two writes {:?}",
            self.acks.len(),
            self.unknown.len(),
            self.nothing,
            self.reads,
            self.failed_reads.len(),
            self.gap,
        ));
    }

    /// What holds in every case: reads never fail, every error is ours, what had no effect is nowhere.
    fn holds(&self, rows: &BTreeSet<i64>) {
        assert!(self.failed_reads.is_empty(), "{:?}", self.failed_reads);
        assert!(self.untyped.is_empty(), "{:?}", self.untyped);
        let known: BTreeSet<i64> =
            self.acks.iter().map(|ack| ack.id).chain(self.unknown.iter().copied()).collect();
        let ghosts: Vec<_> = rows.difference(&known).collect();
        assert!(ghosts.is_empty(), "written, and called without effect: {ghosts:?}");
    }

    /// Acknowledged writes that are not among these rows.
    fn missing<'a>(&'a self, rows: &'a BTreeSet<i64>) -> impl Iterator<Item = &'a Ack> {
        self.acks.iter().filter(|ack| !rows.contains(&ack.id))
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::NoWriter { .. } => "no writer",
        Error::Lost { .. } => "lost",
        Error::Busy { .. } => "busy",
        Error::ReadOnly { .. } => "read-only",
        _ => "other",
    }
}

/// Every row a server has, straight from it.
async fn rows(herd: &Herd, node: &str) -> BTreeSet<i64> {
    let admin = herd.sandbox.sql(node, "postgres").await.unwrap();
    admin.query("SELECT id FROM notes", &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

pub(crate) async fn admin(herd: &Herd, node: &str, statements: &[&str]) {
    let client = herd.sandbox.sql(node, "postgres").await.unwrap();
    for sql in statements {
        client.batch_execute(sql).await.unwrap();
    }
}

fn role(db: &ReplicaSet, node: &str) -> NodeRole {
    db.statistics().nodes[node].role
}

pub(crate) async fn until_role(db: &ReplicaSet, node: &str, wanted: NodeRole) {
    until(&format!("{node} is {wanted:?}"), async || role(db, node) == wanted).await;
}

/// The moment from which the set names this node as its writer, looked for all the time.
fn moment_of(db: &ReplicaSet, node: &'static str) -> tokio::task::JoinHandle<Instant> {
    let db = db.clone();
    tokio::spawn(async move {
        while role(&db, node) != NodeRole::Writer {
            sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    })
}

/// A cluster of three, a set that has found out who is who, and load on it.
async fn under_load(version: u32) -> (Herd, ReplicaSet, Load) {
    let herd = Herd::start(version, 2).await;
    herd.notes().await;
    let db = herd.discovered().build().unwrap();
    db.connect_writer().await.unwrap();
    until_role(&db, "n1", NodeRole::Writer).await;
    until_role(&db, "n2", NodeRole::Reader).await;
    until_role(&db, "n3", NodeRole::Reader).await;
    let load = Load::begin(&db);
    load.progress(300).await;
    (herd, db, load)
}

on_each_version! {
    async fn writes_resume_on_the_promoted_standby_of_a_killed_primary(version: u32) {
        let (herd, db, load) = under_load(version).await;
        // From now on what is acknowledged is on n2, so that nothing acknowledged is lost with n1.
        admin(&herd, "n1", &["ALTER SYSTEM SET synchronous_standby_names = 'n2'", "SELECT pg_reload_conf()"]).await;
        herd.sandbox.wait_replayed().await.unwrap();
        load.progress(300).await;
        let moment = moment_of(&db, "n2");
        herd.sandbox.kill("n1").await.unwrap();
        herd.sandbox.promote("n2").await.unwrap();
        herd.sandbox.follow("n3", "n2").await.unwrap();
        let moment = moment.await.unwrap();
        load.progress(500).await;

        // The dead comes back and takes itself for the primary it was. It gets nothing.
        herd.sandbox.start("n1").await.unwrap();
        admin(&herd, "n1", &["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"]).await;
        let (stale, asked) = (rows(&herd, "n1").await, sent(&db, "n1"));
        until("the watcher has seen it", async || db.statistics().nodes["n1"].online).await;
        load.progress(1000).await;
        assert_eq!(role(&db, "n1"), NodeRole::None);
        assert_eq!(sent(&db, "n1"), asked);
        let story = load.end().await;
        assert_eq!(rows(&herd, "n1").await, stale);

        let there = rows(&herd, "n2").await;
        story.tell(&format!("killed and promoted, PostgreSQL {version}"));
        story.holds(&there);
        let lost: Vec<_> = story.missing(&there).collect();
        assert!(lost.is_empty(), "{} acknowledged writes are lost: {lost:?}", lost.len());
        let late: Vec<_> = story.acks.iter().filter(|ack| ack.ended > moment && ack.node != "n2").collect();
        assert!(late.is_empty(), "{late:?}");
        // Once more as a standby, it is read again.
        herd.sandbox.rejoin("n1").await.unwrap();
        until_role(&db, "n1", NodeRole::Reader).await;
    }

    async fn a_switchover_loses_nothing_and_the_old_primary_is_read_afterwards(version: u32) {
        let (herd, db, load) = under_load(version).await;
        let moment = moment_of(&db, "n2");
        herd.sandbox.stop("n1").await.unwrap();
        herd.sandbox.promote("n2").await.unwrap();
        herd.sandbox.follow("n3", "n2").await.unwrap();
        let moment = moment.await.unwrap();
        herd.sandbox.rejoin("n1").await.unwrap();
        until_role(&db, "n1", NodeRole::Reader).await;
        load.progress(500).await;
        let asked = sent(&db, "n1");
        until("the old primary is read", async || sent(&db, "n1") > asked).await;
        // And back again.
        let back = moment_of(&db, "n1");
        herd.sandbox.stop("n2").await.unwrap();
        herd.sandbox.promote("n1").await.unwrap();
        herd.sandbox.follow("n3", "n1").await.unwrap();
        let back = back.await.unwrap();
        load.progress(500).await;
        let story = load.end().await;

        let there = rows(&herd, "n1").await;
        story.tell(&format!("switched over and back, PostgreSQL {version}"));
        story.holds(&there);
        let lost: Vec<_> = story.missing(&there).collect();
        assert!(lost.is_empty(), "{} acknowledged writes are lost: {lost:?}", lost.len());
        let astray = |ack: &&Ack| {
            (ack.begun > moment && ack.ended < back && ack.node != "n2") || (ack.begun > back && ack.node != "n1")
        };
        let astray: Vec<_> = story.acks.iter().filter(astray).collect();
        assert!(astray.is_empty(), "{astray:?}");
    }

    async fn beside_a_living_old_primary_writes_move_once_the_new_one_is_proven(version: u32) {
        let (herd, db, load) = under_load(version).await;
        let moment = moment_of(&db, "n2");
        herd.sandbox.promote("n2").await.unwrap();
        // Both take themselves for the primary; who is followed by the third is it.
        herd.sandbox.follow("n3", "n2").await.unwrap();
        let moment = moment.await.unwrap();
        load.progress(1000).await;
        assert_eq!(role(&db, "n1"), NodeRole::None);
        let story = load.end().await;

        let (old, new) = (rows(&herd, "n1").await, rows(&herd, "n2").await);
        story.tell(&format!("promoted beside a living primary, PostgreSQL {version}"));
        story.holds(&old.union(&new).copied().collect());
        // Nothing that begins from that moment on reaches the old one. What was under way there may be answered still:
        // an answer that is on its way home and the news that its node was let go meet nowhere.
        let late: Vec<_> = story.acks.iter().filter(|ack| ack.begun > moment && ack.node != "n2").collect();
        assert!(late.is_empty(), "sent to the old primary after {moment:?}: {late:?}");
        // What the old one acknowledged is its own and lost: nobody could know yet. It is counted, and it is all that is
        // lost.
        let lost: Vec<_> = story.missing(&new).collect();
        tell(&format!("  {} acknowledged by the old primary after the promotion and before its proof", lost.len()));
        let wrong: Vec<_> = lost.iter().filter(|ack| ack.begun > moment || ack.node != "n1").collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(story.acks.iter().any(|ack| ack.node == "n2"));
    }
}
