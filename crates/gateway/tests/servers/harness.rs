//! A gateway in this process, on a free port, before the servers of a sandbox.
#![allow(dead_code, reason = "each test needs a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herdsman_config::{Depth, Reading};
use herdsman_gateway::{Gateway, GatewayConfig, Setup};
use herdsman_sandbox::Sandbox;
use herdsman_watch::{Setup as WatchSetup, Topology, Watch, Watcher};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Who may do everything at the console.
pub(crate) const ADMIN: (&str, &str) = ("admin", "admin-password");
/// Who may look at it.
pub(crate) const STATS: (&str, &str) = ("stats", "stats-password");
/// How long tests wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A running gateway with its watcher. Users are the roles of the sandbox, with their passwords, and [`ADMIN`] and
/// [`STATS`]; databases are those of the servers, split.
pub(crate) struct Running {
    pub(crate) gateway: Gateway,
    pub(crate) watcher: Watcher,
    /// What it began with: for reloads.
    pub(crate) setup: Setup,
    passwords: BTreeMap<String, String>,
    /// The hosts and how to watch them, as text.
    above: String,
}

/// Starts a gateway. `extra` are lines of YAML for below `gateway:`, such as `hold: 1s\npool: {size: 2}`; they replace
/// the harness's own `listen`, `users`, `admins` and `stats_users`. Comes back when the watcher has found the primary,
/// or after a while without one.
pub(crate) async fn gateway(cluster: &Sandbox, extra: &str) -> Running {
    gateway_with(cluster, extra, |_| {}).await
}

/// As [`gateway`], with a last word on the configuration.
pub(crate) async fn gateway_with(
    cluster: &Sandbox,
    extra: &str,
    change: impl FnOnce(&mut GatewayConfig),
) -> Running {
    let above = above(cluster);
    let mut passwords: BTreeMap<_, _> =
        cluster.credentials().iter().map(|(r, p)| (r.to_owned(), p.to_owned())).collect();
    for (user, password) in [ADMIN, STATS] {
        passwords.insert(user.to_owned(), password.to_owned());
    }
    let (mut setup, watch) = read(&above, &passwords, extra);
    change(&mut setup.config);
    let watcher = Watcher::start(watch).unwrap();
    setup.watch = watcher.watch();
    let mut topology = watcher.watch().subscribe();
    let found = topology.wait_for(|topology| topology.primary().is_some());
    let _or_without = tokio::time::timeout(Duration::from_secs(10), found).await;
    let gateway = Gateway::start(setup.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    Running { gateway, watcher, setup, passwords, above }
}

impl Running {
    /// The port of the gateway.
    pub(crate) fn port(&self) -> u16 {
        self.gateway.addresses()[0].port()
    }

    /// How to log in, as libpq takes it.
    pub(crate) fn conninfo(&self, database: &str, user: &str) -> String {
        let password = &self.passwords[user];
        format!(
            "host=127.0.0.1 port={} dbname={database} user={user} password={password} sslmode=disable connect_timeout=10",
            self.port()
        )
    }

    /// How to log in, as a URL.
    pub(crate) fn url(&self, database: &str, user: &str) -> String {
        let (password, port) = (&self.passwords[user], self.port());
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// The password of a user.
    pub(crate) fn password(&self, user: &str) -> &str {
        &self.passwords[user]
    }

    /// How to log in to the console and do everything there.
    pub(crate) fn admin(&self) -> String {
        self.conninfo("herdsman", ADMIN.0)
    }

    /// A client that is logged in.
    pub(crate) async fn connect(&self, database: &str, user: &str) -> Client {
        connect(&self.conninfo(database, user)).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// A client of the console. Only for simple queries.
    pub(crate) async fn console(&self) -> Client {
        connect(&self.admin()).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// What is known of the nodes.
    pub(crate) fn watch(&self) -> Watch {
        self.watcher.watch()
    }

    /// Goes on with another `extra`, as after a change of the file. Returns the keys that take a restart.
    pub(crate) fn reload(&self, extra: &str) -> Result<Vec<&'static str>, String> {
        let (mut setup, _) = read(&self.above, &self.passwords, extra);
        setup.watch = self.watch();
        self.gateway.reload(setup)
    }

    /// Waits until the nodes are so.
    pub(crate) async fn until(&self, so: impl FnMut(&Topology) -> bool) {
        let mut so = so;
        let mut topology = self.watch().subscribe();
        let wait = topology.wait_for(|topology| so(topology));
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        assert!(matches!(waited, Ok(Ok(_))), "not in time: {:?}", self.watch().topology());
    }

    /// Waits until this node is the proven primary.
    pub(crate) async fn until_primary(&self, node: &str) {
        self.until(|topology| topology.primary().is_some_and(|primary| primary.as_str() == node))
            .await;
    }

    /// Sees from now on whether there are as many readers as there should be.
    pub(crate) async fn readers(&self, count: usize) -> Readers {
        Readers::new(self.watch(), self.console().await, count)
    }

    /// Ends both.
    pub(crate) async fn stop(self) {
        self.gateway.stop().await;
        self.watcher.stop().await;
    }
}

/// Knows whether every standby could be read all the time: on a busy machine a probe may be so late that one could not, and
/// what was sent to the primary meanwhile was sent there rightly.
pub(crate) struct Readers {
    watch: Watch,
    console: Client,
    count: usize,
    /// How often one was missing.
    gaps: Arc<AtomicU64>,
    seeing: JoinHandle<()>,
}

impl Readers {
    fn new(watch: Watch, console: Client, count: usize) -> Self {
        let gaps = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&gaps);
        let mut topologies = watch.subscribe();
        let seeing = tokio::spawn(async move {
            loop {
                if topologies.borrow_and_update().readers().count() != count {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
                if topologies.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { watch, console, count, gaps, seeing }
    }

    /// Waits until all of them may be read, by the watcher's word and the gateway's own. What to ask [`Readers::stayed`]
    /// afterwards.
    pub(crate) async fn all(&self) -> u64 {
        let before = std::cell::Cell::new(0);
        eventually("every standby may be read", async || {
            before.set(self.gaps.load(Ordering::SeqCst));
            let shown = self.console.simple_query("SHOW TOPOLOGY").await.unwrap();
            let readable = shown.iter().filter(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    row.get("role") == Some("standby") && row.get("readable") == Some("yes")
                }
                _ => false,
            });
            readable.count() == self.count && self.stayed(before.get())
        })
        .await;
        before.get()
    }

    /// Whether all of them could be read ever since.
    pub(crate) fn stayed(&self, before: u64) -> bool {
        self.watch.topology().readers().count() == self.count
            && self.gaps.load(Ordering::SeqCst) == before
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.seeing.abort();
    }
}

/// Logs in with libpq's keys and values, and lets the connection run.
pub(crate) async fn connect(conninfo: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await?;
    tokio::spawn(async move {
        // How it ended shows in the client.
        let _ended = connection.await;
    });
    Ok(client)
}

/// Waits for a condition, with a deadline.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The sandbox's own configuration without its gateway.
fn above(cluster: &Sandbox) -> String {
    let text = cluster.config_yaml(8080).unwrap();
    let above = text.split_once("\ngateway:").map_or(text.as_str(), |(above, _)| above).trim_end();
    // On a busy machine one late answer is no sign of anything, and these tests are not about how soon it is noticed.
    above.replace("\nwatch:\n", "\nwatch:\n  unhealthy_checks: 3\n  damping: { changes: 0 }\n")
}

fn read(above: &str, passwords: &BTreeMap<String, String>, extra: &str) -> (Setup, WatchSetup) {
    let users: Vec<_> = passwords
        .iter()
        .map(|(user, password)| format!("{user}: {{ password: {password:?} }}"))
        .collect();
    let own = [
        ("listen", "127.0.0.1:0".to_owned()),
        ("workers", "2".to_owned()),
        ("users", format!("{{ {} }}", users.join(", "))),
        ("admins", format!("[{}]", ADMIN.0)),
        ("stats_users", format!("[{}]", STATS.0)),
    ];
    let mut text = format!("{above}\ngateway:\n");
    for (key, value) in own {
        if !extra.lines().any(|line| line.starts_with(&format!("{key}:"))) {
            text.push_str(&format!("  {key}: {value}\n"));
        }
    }
    for line in extra.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    let refused = |problems: Vec<herdsman_config::Problem>| -> ! {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        panic!("{}\n{text}", lines.join("\n"))
    };
    let mut reading = Reading::new(Path::new("gateway.yml"), &text, Depth::Full)
        .unwrap_or_else(|problems| refused(problems));
    let hosts = reading.hosts();
    let groups = reading.groups();
    let watch = reading.watch();
    let config = GatewayConfig::read(&mut reading, &hosts, &groups);
    let (config, watch) =
        reading.finish(Some((config, watch))).unwrap_or_else(|problems| refused(problems));
    let nodes: BTreeMap<_, _> =
        hosts.into_iter().map(|(name, host)| (name, host.conninfo)).collect();
    let watching = WatchSetup { nodes: nodes.clone(), watch, availability: Default::default() };
    let (_, nobody) = tokio::sync::watch::channel(Default::default());
    (Setup { config, nodes, groups, watch: Watch::detached(nobody) }, watching)
}
