//! Servers of which some are members, and writers that must not notice when others come and go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman_mesh::config::Mode;
use herdsman_mesh::engine::Engine;
use herdsman_mesh::verify::{self, Options, Report, Verdict};
use herdsman_mesh::{Setup, join, leave};
use herdsman_sandbox::Sandbox;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::proof::{DEADLINE, name, setup, up};

/// Rows that are there before anybody joins, enough for several pieces of a copy; and rows that are written meanwhile.
const TABLES: &str = "
    CREATE TABLE log (id text PRIMARY KEY, n int NOT NULL);
    CREATE TABLE acc (id int PRIMARY KEY, v text NOT NULL, n bigint NOT NULL DEFAULT 0);
    CREATE TABLE old (id int PRIMARY KEY, a text, b bigint GENERATED ALWAYS AS IDENTITY, c text)";

pub(crate) struct World {
    pub(crate) sandbox: Arc<Sandbox>,
    /// Of all servers.
    all: Setup,
    /// Names of the members.
    pub(crate) members: Vec<String>,
    engine: Option<Engine>,
}

impl World {
    /// Servers, of which the first are a mesh at work with `rows` rows in `old`.
    pub(crate) async fn start(majors: Vec<u32>, members: usize, rows: u32) -> Self {
        Self::start_as(majors, members, rows, Mode::Columns).await
    }

    /// The same, with stamps kept so.
    pub(crate) async fn start_as(majors: Vec<u32>, members: usize, rows: u32, mode: Mode) -> Self {
        let _logs_once = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let mut builder = Sandbox::builder().versions(majors);
        if mode == Mode::Untouched {
            builder = builder.setting("track_commit_timestamp", "on");
        }
        let sandbox = builder.start().await.unwrap();
        let all = setup(&sandbox, |config| config.mode = mode);
        let members: Vec<String> = sandbox.node_names().into_iter().take(members).collect();
        for node in &members {
            sandbox.sql(node, "app").await.unwrap().batch_execute(TABLES).await.unwrap();
        }
        let mut world = Self { sandbox: Arc::new(sandbox), all, members, engine: None };
        up(&world.setup()).await;
        world.start_engine();
        let fill = format!(
            "INSERT INTO old (id, a, c) SELECT n, md5(n::text), repeat('x', 200) FROM generate_series(1, {rows}) AS n;
             UPDATE old SET a = 'changed' WHERE id % 10 = 1; DELETE FROM old WHERE id % 10 = 2"
        );
        world.app("n1").await.batch_execute(&fill).await.unwrap();
        // It is one transaction: who writes the same keys elsewhere waits for it as for any other's.
        let count = "SELECT count(*)::text FROM old";
        let filled = world.text("n1", count).await;
        let everywhere = async {
            for node in &world.members {
                while world.text(node, count).await != filled {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        };
        timeout(DEADLINE * 2, everywhere).await.expect("what was there at first is everywhere");
        world
    }

    /// The members only, as `herdsman mesh` would have it before a node is added.
    pub(crate) fn setup(&self) -> Setup {
        let mut setup = self.all.clone();
        setup.config.nodes = self.members.iter().map(|node| name(node)).collect();
        setup
    }

    /// With all servers in its configuration, so that it finds new members by itself.
    pub(crate) fn start_engine(&mut self) {
        self.engine = Some(Engine::start(self.all.clone()).unwrap());
    }

    /// As if its process were killed.
    pub(crate) fn drop_engine(&mut self) {
        drop(self.engine.take());
    }

    pub(crate) async fn stop_engine(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
    }

    pub(crate) async fn app(&self, node: &str) -> Client {
        self.sandbox.sql(node, "app").await.unwrap()
    }

    pub(crate) async fn text(&self, node: &str, question: &str) -> Option<String> {
        let root = self.sandbox.sql(node, "postgres").await.unwrap();
        let row = root.query_one(question, &[]).await;
        row.unwrap_or_else(|error| panic!("{node}: {question}: {error:?}")).get(0)
    }

    /// Waits until a member has come past all that is in its own log now.
    pub(crate) async fn seen_by_itself(&self, node: &str) {
        let end = self.text(node, "SELECT pg_current_wal_insert_lsn()::text").await.unwrap();
        let past = format!(
            "SELECT (lsn >= '{end}')::text FROM herdsman.progress JOIN herdsman.mesh ON source = node"
        );
        let passing = async {
            while self.text(node, &past).await.as_deref() != Some("true") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, passing).await.expect("a member looks at its own changes");
    }

    pub(crate) async fn add(&mut self, node: &str) -> join::Joined {
        let setup = Arc::new(self.setup());
        let options = join::Options { patience: DEADLINE, ..join::Options::default() };
        let node_name = name(node);
        let adding = join::add(&setup, &node_name, &options, |_| {});
        let joined = timeout(DEADLINE * 2, adding).await.expect("the join ends").unwrap();
        self.members.push(node.to_owned());
        joined
    }

    pub(crate) async fn remove(&mut self, node: &str, options: leave::Options) -> leave::Left {
        let setup = Arc::new(self.setup());
        let node_name = name(node);
        let removing = leave::remove(&setup, &node_name, &options, |_| {});
        let left = timeout(DEADLINE * 2, removing).await.expect("the leave ends").unwrap();
        self.members.retain(|member| member != node);
        left
    }

    pub(crate) async fn verify(&self) -> Report {
        let setup = Arc::new(self.setup());
        let options = Options::default();
        let looking = verify::run(&setup, &options, |_| {});
        timeout(DEADLINE, looking).await.expect("verify ends").unwrap()
    }

    pub(crate) async fn assert_equal(&self) {
        let report = self.verify().await;
        assert_eq!(report.verdict, Verdict::Equal, "{report:#?}");
        assert_eq!(report.members, self.members);
    }

    /// That every row a writer was told is committed is on every member.
    pub(crate) async fn assert_all_there(&self, written: &[String]) {
        for member in &self.members {
            let client = self.app(member).await;
            let sql = "SELECT count(*) FROM unnest($1::text[]) AS w(id) WHERE NOT EXISTS (SELECT FROM log WHERE log.id = w.id)";
            let lacking: i64 = client.query_one(sql, &[&written]).await.unwrap().get(0);
            assert_eq!(lacking, 0, "of {} rows on {member}", written.len());
        }
    }
}

/// Writers, one on each of some servers.
pub(crate) struct Writers {
    stops: BTreeMap<String, Arc<AtomicBool>>,
    tasks: Vec<JoinHandle<Vec<String>>>,
    refused: Refused,
}

/// What writers were told that ended because their node takes no more writes, by node.
type Refused = Arc<Mutex<BTreeMap<String, String>>>;

impl Writers {
    pub(crate) async fn start(world: &World, nodes: &[&str]) -> Self {
        let mut writers =
            Self { stops: BTreeMap::new(), tasks: Vec::new(), refused: Refused::default() };
        for node in nodes {
            writers.more(world, node).await;
        }
        writers
    }

    pub(crate) async fn more(&mut self, world: &World, node: &str) {
        let stop = Arc::new(AtomicBool::new(false));
        let client = world.app(node).await;
        // Nothing that joins or leaves may make anybody wait for long, let alone fail.
        client.batch_execute("SET statement_timeout = '20s'").await.unwrap();
        let refused = Arc::clone(&self.refused);
        self.tasks.push(tokio::spawn(write(client, node.to_owned(), Arc::clone(&stop), refused)));
        self.stops.insert(node.to_owned(), stop);
    }

    /// Ends one of them.
    pub(crate) fn end(&self, node: &str) {
        self.stops[node].store(true, Ordering::Relaxed);
    }

    /// Takes what a writer was told that ended because its node takes no more writes.
    pub(crate) fn refusal(&self, node: &str) -> Option<String> {
        self.refused.lock().unwrap().remove(node)
    }

    /// Ends all, and tells the rows of `log` that were committed.
    pub(crate) async fn stop(self) -> Vec<String> {
        for stop in self.stops.values() {
            stop.store(true, Ordering::Relaxed);
        }
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        let refused = self.refused.lock().unwrap().clone();
        assert!(refused.is_empty(), "writers were turned away: {refused:?}");
        all
    }
}

async fn write(
    client: Client,
    node: String,
    stop: Arc<AtomicBool>,
    refused: Refused,
) -> Vec<String> {
    let mut random = fastrand::Rng::new();
    let mut done = Vec::new();
    let begun = random.u32(..);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{node}-{begun}-{number}");
        let (key, old) = (random.u32(0..60), random.u32(1..2000));
        let other = match random.u32(0..9) {
            0 => format!("DELETE FROM acc WHERE id = {key}"),
            1 => format!(
                "DELETE FROM acc WHERE id = {key}; INSERT INTO acc VALUES ({key}, '{id}') ON CONFLICT DO NOTHING"
            ),
            2 => format!("DELETE FROM old WHERE id = {old}"),
            3 => format!("UPDATE old SET a = '{id}' WHERE id BETWEEN {old} AND {old} + 3"),
            4 => format!(
                "INSERT INTO old (id, a) VALUES ({old}, '{id}') ON CONFLICT (id) DO UPDATE SET a = excluded.a"
            ),
            _ => format!(
                "INSERT INTO acc AS a VALUES ({key}, '{id}') ON CONFLICT (id) DO UPDATE SET v = excluded.v, n = a.n + 1"
            ),
        };
        let both = format!("BEGIN; INSERT INTO log VALUES ('{id}', {number}); {other}; COMMIT");
        let begun_at = Instant::now();
        match client.batch_execute(&both).await {
            Ok(()) => done.push(id),
            // Two may make the same key at the same moment.
            Err(error)
                if error.code().is_some_and(|code| ["23505", "40P01"].contains(&code.code())) =>
            {
                client.batch_execute("ROLLBACK").await.unwrap();
            }
            Err(error) if error.code().is_some_and(|code| code.code() == "25006") => {
                let told = error.as_db_error().unwrap();
                let told = format!("{} {}", told.message(), told.hint().unwrap_or_default());
                refused.lock().unwrap().insert(node, told);
                break;
            }
            Err(error) => panic!("a writer on {node} was disturbed: {both}: {error:?}"),
        }
        // What is written is applied by every other member, and looked at by its own: on a machine that is too busy for that,
        // who writes as fast as it can is never caught up with.
        sleep(begun_at.elapsed().mul_f64(3.0).max(Duration::from_millis(2))).await;
    }
    done
}
