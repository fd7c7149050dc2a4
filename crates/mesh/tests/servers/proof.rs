//! A mesh on servers of a sandbox, with links that are held and let go, for the tests that prove that it converges.
#![allow(dead_code, reason = "each test needs a part of it")]

mod looking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman_mesh::engine::Engine;
use herdsman_mesh::status::{LinkName, Status};
use herdsman_mesh::{MeshConfig, Setup, install};
use herdsman_node::{Conninfo, NodeName};
use herdsman_sandbox::{Builder, Sandbox, postgres, tested_versions};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, SimpleQueryMessage};

pub(crate) use looking::{Conflict, Version};

/// How long tests wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// Each node writes its own row; where it has arrived, everything its node wrote before has.
pub(crate) const MARKS: &str = "CREATE TABLE mark (node text PRIMARY KEY, n bigint NOT NULL)";

/// Three of one version, where tests run on it.
pub(crate) fn three_of(major: u32) -> Option<Vec<u32>> {
    tested_versions().contains(&major).then(|| vec![major; 3])
}

/// One of every version there is on this machine, at least two of them; three nodes at least.
pub(crate) fn mixed() -> Option<Vec<u32>> {
    let tested = tested_versions();
    let (oldest, newest) = (*tested.iter().min()?, *tested.iter().max()?);
    let there = postgres::available_majors();
    let mut all: Vec<u32> = there.range(oldest..=newest).copied().collect();
    if all.len() < 2 {
        return None;
    }
    if all.len() == 2 {
        all.push(newest);
    }
    Some(all)
}

/// Three, of the oldest version that is tested and of the newest: one mesh for what would take one on each.
pub(crate) fn oldest_and_newest() -> Option<Vec<u32>> {
    let tested = tested_versions();
    let (oldest, newest) = (*tested.iter().min()?, *tested.iter().max()?);
    Some(vec![oldest, newest, newest])
}

/// A mesh at work.
pub(crate) struct Mesh {
    pub(crate) sandbox: Sandbox,
    pub(crate) setup: Setup,
    engine: Mutex<Option<Engine>>,
    held: Mutex<BTreeSet<LinkName>>,
    /// Links that stay held whatever is let go, for tests that show what they are for.
    cut: Mutex<BTreeSet<LinkName>>,
    /// Sessions of this harness, by node and role.
    sessions: Mutex<BTreeMap<(String, &'static str), Arc<Client>>>,
    marks: AtomicI64,
}

impl Mesh {
    /// Servers of these versions with these tables in schema `public`, a mesh of them, and its engine.
    pub(crate) async fn start(majors: Vec<u32>, tables: &str) -> Self {
        Self::start_with(majors, tables, |_| {}).await
    }

    /// As [`Mesh::start`], with a last word on the configuration.
    pub(crate) async fn start_with(
        majors: Vec<u32>,
        tables: &str,
        change: impl FnOnce(&mut MeshConfig),
    ) -> Self {
        let _logs_once = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let mesh = Self::prepared(majors, tables, change).await;
        mesh.start_engine();
        mesh
    }

    /// Without an engine.
    pub(crate) async fn prepared(
        majors: Vec<u32>,
        tables: &str,
        change: impl FnOnce(&mut MeshConfig),
    ) -> Self {
        Self::prepared_with(majors, tables, &[], change).await
    }

    /// With settings of the servers besides.
    pub(crate) async fn prepared_with(
        majors: Vec<u32>,
        tables: &str,
        settings: &[(&str, &str)],
        change: impl FnOnce(&mut MeshConfig),
    ) -> Self {
        let mut builder = Sandbox::builder().versions(majors);
        for (name, value) in settings {
            builder = builder.setting(*name, *value);
        }
        Self::prepared_on(builder, tables, change).await
    }

    /// On these servers.
    pub(crate) async fn prepared_on(
        servers: Builder,
        tables: &str,
        change: impl FnOnce(&mut MeshConfig),
    ) -> Self {
        // Writers of few keys and the mesh run into each other all the time.
        let sandbox = servers.setting("deadlock_timeout", "25ms").start().await.unwrap();
        let setup = setup(&sandbox, change);
        for node in sandbox.node_names() {
            let app = login(&sandbox, &node, "app").await;
            app.batch_execute(&format!("{MARKS}; {tables}")).await.unwrap();
        }
        up(&setup).await;
        Self::of(sandbox, setup).await
    }

    /// Of servers that are a mesh already, without an engine.
    pub(crate) async fn of(sandbox: Sandbox, setup: Setup) -> Self {
        for node in sandbox.node_names() {
            let root = login(&sandbox, &node, "postgres").await;
            // What the mesh keeps for itself, for tests that look at it as the application.
            root.batch_execute(
                "GRANT USAGE ON SCHEMA herdsman, herdsman_gone TO app;
                 GRANT SELECT ON ALL TABLES IN SCHEMA herdsman, herdsman_gone TO app",
            )
            .await
            .unwrap();
        }
        Self {
            sandbox,
            setup,
            engine: Mutex::default(),
            held: Mutex::default(),
            cut: Mutex::default(),
            sessions: Mutex::default(),
            marks: AtomicI64::new(0),
        }
    }

    pub(crate) fn nodes(&self) -> Vec<String> {
        self.sandbox.node_names()
    }

    pub(crate) fn start_engine(&self) {
        let engine = Engine::start(self.setup.clone()).unwrap();
        for link in self.held.lock().unwrap().iter() {
            engine.pause(Some(link), true);
        }
        *self.engine.lock().unwrap() = Some(engine);
    }

    /// As if its process were killed.
    pub(crate) fn drop_engine(&self) {
        drop(self.engine.lock().unwrap().take());
    }

    pub(crate) async fn stop_engine(&self) {
        let engine = self.engine.lock().unwrap().take();
        if let Some(engine) = engine {
            engine.stop().await;
        }
    }

    /// The engine's own view.
    pub(crate) fn status(&self) -> tokio::sync::watch::Receiver<Arc<Status>> {
        self.engine.lock().unwrap().as_ref().expect("an engine is at work").status()
    }

    /// Keeps what `source` writes from `target`.
    pub(crate) fn hold(&self, source: &str, target: &str) {
        self.set(source, target, true);
    }

    pub(crate) fn release(&self, source: &str, target: &str) {
        self.set(source, target, false);
    }

    /// Holds a link for ever.
    pub(crate) fn cut(&self, source: &str, target: &str) {
        self.hold(source, target);
        self.cut.lock().unwrap().insert(LinkName { source: name(source), target: name(target) });
    }

    fn is_cut(&self, link: &LinkName) -> bool {
        self.cut.lock().unwrap().contains(link)
    }

    /// Keeps two nodes' changes from each other.
    pub(crate) fn apart(&self, one: &str, other: &str) {
        self.hold(one, other);
        self.hold(other, one);
    }

    pub(crate) fn release_all(&self) {
        let held = self.held.lock().unwrap().clone();
        for link in held {
            self.release(link.source.as_str(), link.target.as_str());
        }
    }

    fn set(&self, source: &str, target: &str, hold: bool) {
        let link = LinkName { source: name(source), target: name(target) };
        if self.is_cut(&link) {
            return;
        }
        if let Some(engine) = self.engine.lock().unwrap().as_ref() {
            engine.pause(Some(&link), hold);
        }
        let mut held = self.held.lock().unwrap();
        if hold {
            held.insert(link)
        } else {
            held.remove(&link)
        };
    }

    pub(crate) async fn app(&self, node: &str) -> Client {
        login(&self.sandbox, node, "app").await
    }

    pub(crate) async fn root(&self, node: &str) -> Client {
        login(&self.sandbox, node, "postgres").await
    }

    /// A session that is kept for the next question.
    async fn kept(&self, node: &str, role: &'static str) -> Arc<Client> {
        let place = (node.to_owned(), role);
        let known = self.sessions.lock().unwrap().get(&place).cloned();
        if let Some(known) = known.filter(|known| !known.is_closed()) {
            return known;
        }
        let new = Arc::new(login(&self.sandbox, node, role).await);
        self.sessions.lock().unwrap().insert(place, Arc::clone(&new));
        new
    }

    /// Statements of the application, in one transaction.
    pub(crate) async fn on(&self, node: &str, statements: &str) {
        let done = self.kept(node, "app").await.batch_execute(statements).await;
        done.unwrap_or_else(|error| panic!("{node}: {statements}: {error:?}"));
    }

    /// What a question's only row says; `None` without a row.
    pub(crate) async fn ask(&self, node: &str, question: &str) -> Option<String> {
        first(&*self.kept(node, "postgres").await, question).await
    }

    /// Waits until `target` has all that `source` has written so far.
    pub(crate) async fn carried(&self, source: &str, target: &str) {
        let mark = self.mark(source).await;
        self.until_marked(source, target, mark).await;
    }

    /// Lets every link go on and waits until every node has all that any has written so far, its own changes too.
    pub(crate) async fn settle(&self) {
        self.release_all();
        let mut marks = Vec::new();
        for node in self.nodes() {
            let mark = self.mark(&node).await;
            let end = self.ask(&node, "SELECT pg_current_wal_lsn()").await.unwrap();
            marks.push((node, mark, end));
        }
        for (source, mark, end) in &marks {
            for target in self.nodes() {
                let link = LinkName { source: name(source), target: name(&target) };
                if self.is_cut(&link) {
                    continue;
                }
                if target == *source {
                    self.until_seen_by_itself(source, end).await;
                } else {
                    self.until_marked(source, &target, *mark).await;
                }
            }
        }
    }

    async fn mark(&self, node: &str) -> i64 {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
        self.on(
            node,
            &format!(
                "INSERT INTO mark VALUES ('{node}', {mark}) ON CONFLICT (node) DO UPDATE SET n = {mark}"
            ),
        )
        .await;
        mark
    }

    async fn until_marked(&self, source: &str, target: &str, mark: i64) {
        let question = format!("SELECT n >= {mark} FROM mark WHERE node = '{source}'");
        let what = format!("{target} gets what {source} wrote");
        self.until_true(target, &question, &what).await;
    }

    /// Waits until a node has looked at all that it has written itself so far.
    pub(crate) async fn seen_by_itself(&self, node: &str) {
        let end = self.ask(node, "SELECT pg_current_wal_lsn()").await.unwrap();
        self.until_seen_by_itself(node, &end).await;
    }

    async fn until_seen_by_itself(&self, node: &str, end: &str) {
        let question = format!(
            "SELECT lsn >= '{end}' FROM herdsman.progress JOIN herdsman.mesh ON source = node"
        );
        self.until_true(node, &question, &format!("{node} looks at its own changes")).await;
    }

    async fn until_true(&self, node: &str, question: &str, what: &str) {
        let client = self.kept(node, "postgres").await;
        let deadline = Instant::now() + DEADLINE;
        while first(&client, question).await.as_deref() != Some("t") {
            if Instant::now() > deadline {
                let status = self.engine.lock().unwrap().as_ref().map(|engine| {
                    let status = engine.status().borrow().clone();
                    serde_json::to_string_pretty(&*status).unwrap()
                });
                panic!("not within {DEADLINE:?}: {what}; {}", status.unwrap_or_default());
            }
            sleep(Duration::from_millis(15)).await;
        }
    }
}

/// How the mesh logs in to the sandbox's servers.
pub(crate) fn setup(sandbox: &Sandbox, change: impl FnOnce(&mut MeshConfig)) -> Setup {
    let names: Vec<NodeName> = sandbox.node_names().iter().map(|node| name(node)).collect();
    let nodes = names
        .iter()
        .map(|node| {
            let pairs = sandbox.conninfo(node.as_str(), "mesh").unwrap();
            (node.clone(), Conninfo::from_pairs(pairs).unwrap())
        })
        .collect();
    let mut config = MeshConfig { nodes: names, ..MeshConfig::default() };
    change(&mut config);
    Setup { config, nodes }
}

/// `herdsman mesh up`.
pub(crate) async fn up(setup: &Setup) {
    let setup = Arc::new(setup.clone());
    let found = install::survey(&setup).await.unwrap();
    let plan = install::plan(&setup, &found);
    assert_eq!(plan.problems, Vec::<String>::new());
    let carried_out = timeout(DEADLINE, install::carry_out(&setup, &plan, |_| {})).await;
    carried_out.expect("`mesh up` ends").unwrap();
}

/// A session past every proxy, on a machine that may be busy with other tests.
async fn login(sandbox: &Sandbox, node: &str, role: &str) -> Client {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match sandbox.sql(node, role).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{}", error.one_line()),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) fn name(node: &str) -> NodeName {
    node.parse().unwrap()
}

async fn first(client: &Client, question: &str) -> Option<String> {
    let answer = client.simple_query(question).await;
    let answer = answer.unwrap_or_else(|error| panic!("{question}: {error:?}"));
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// The seed to replay, or a new one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("HERDSMAN_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(fastrand::u32(..)))
}

/// As [`mixed`], where the long proofs run in full: for tests whose outcome hardly depends on versions meeting.
pub(crate) fn mixed_in_full() -> Option<Vec<u32>> {
    mixed().filter(|_| soak())
}

/// Whether the long proofs run in full.
pub(crate) fn soak() -> bool {
    std::env::var_os("HERDSMAN_SOAK").is_some()
}

/// Appends to the report of a soak run, and prints.
#[expect(clippy::print_stdout, reason = "the figures are published with --nocapture")]
pub(crate) fn report(line: &str) {
    use std::io::Write as _;
    println!("{line}");
    if let Ok(path) = std::env::var("HERDSMAN_SOAK_REPORT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}
