//! Two servers with one table, that the mesh keeps alike or a subscription does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::engine::Engine;
use herdsman_mesh::status::LinkName;
use herdsman_mesh::{MeshConfig, Setup, install};
use herdsman_node::{Conninfo, NodeName};
use herdsman_sandbox::Sandbox;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Statement};

use crate::cpu;
use crate::error::BenchError;

/// Who carries changes from the first server to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Carrier {
    /// A subscription of PostgreSQL's own.
    Native,
    /// The mesh.
    Herdsman,
    /// The mesh with one lane.
    OneLane,
}

impl Carrier {
    pub(crate) const ALL: [Self; 3] = [Self::Native, Self::Herdsman, Self::OneLane];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Herdsman => "herdsman",
            Self::OneLane => "herdsman, 1 lane",
        }
    }
}

/// The table that is carried.
pub(crate) const TABLE: &str = "rows_of_it";
/// Nothing goes on beside the bench, and no log is full of whole pages.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "512MB"),
    ("autovacuum", "off"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
];
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// How little processor time servers take that have nothing to do: a fiftieth, in this time.
const CALM: Duration = Duration::from_millis(250);

/// The two servers at work.
pub(crate) struct Pair {
    pub(crate) carrier: Carrier,
    pub(crate) source: Client,
    target: Client,
    insert: Statement,
    look: Statement,
    /// Holds the table of the second server, where a subscription is held up.
    holder: Client,
    postmasters: Vec<i32>,
    /// The bench's own sessions.
    sessions: Vec<i32>,
    engine: Option<(Engine, LinkName)>,
    _sandbox: Sandbox,
}

impl Pair {
    /// Starts them.
    pub(crate) async fn start(
        carrier: Carrier,
        pg_version: u32,
        lanes: usize,
    ) -> Result<Self, BenchError> {
        let sandbox = servers(&[pg_version; 2]).await?;
        let (source, target, holder) = (
            sandbox.sql("n1", "postgres").await?,
            sandbox.sql("n2", "postgres").await?,
            sandbox.sql("n2", "postgres").await?,
        );
        let engine = match carrier {
            Carrier::Native => {
                subscribe(&sandbox, ("n1", &source), ("n2", &target)).await?;
                // Both write. Before 16 what came from the other would be sent back.
                if pg_version >= 16 {
                    subscribe(&sandbox, ("n2", &target), ("n1", &source)).await?;
                }
                None
            }
            Carrier::Herdsman | Carrier::OneLane => {
                let mut setup = setup(&sandbox, 2)?;
                setup.config.lanes = if carrier == Carrier::OneLane { 1 } else { lanes };
                up(&setup).await?;
                let link = LinkName { source: "n1".parse()?, target: "n2".parse()? };
                Some((Engine::start(setup)?, link))
            }
        };
        let (mut postmasters, mut sessions) = (Vec::new(), Vec::new());
        for client in [&source, &target, &holder] {
            let pids = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int, pg_backend_pid()";
            let row = client.query_one(pids, &[]).await?;
            postmasters.push(row.get(0));
            sessions.push(row.get(1));
        }
        let insert = source.prepare(&format!("INSERT INTO {TABLE} (id) VALUES ($1)")).await?;
        let look =
            target.prepare(&format!("SELECT EXISTS (SELECT FROM {TABLE} WHERE id = $1)")).await?;
        Ok(Self {
            carrier,
            source,
            target,
            insert,
            look,
            holder,
            postmasters,
            sessions,
            engine,
            _sandbox: sandbox,
        })
    }

    /// Keeps changes from the second server, or lets them go on. Whoever carries them reads a little in advance.
    pub(crate) async fn hold(&self, hold: bool) -> Result<(), BenchError> {
        match &self.engine {
            Some((engine, link)) => engine.pause(Some(link), hold),
            None if hold => {
                let lock = format!("BEGIN; LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE");
                self.holder.batch_execute(&lock).await?;
            }
            None => self.holder.batch_execute("COMMIT").await?,
        }
        Ok(())
    }

    /// Processor time of all processes of both servers but the bench's own sessions.
    pub(crate) fn spent(&self) -> BTreeMap<i32, Duration> {
        let mut spent = cpu::of_children(&self.postmasters);
        spent.retain(|pid, _| !self.sessions.contains(pid));
        spent
    }

    /// Waits until the servers have nothing to do.
    pub(crate) async fn calm(&self) {
        let all = || self.spent().into_values().sum::<Duration>();
        let mut before = all();
        loop {
            sleep(CALM).await;
            let now = all();
            if now.saturating_sub(before) < CALM / 50 {
                return;
            }
            before = now;
        }
    }

    /// The processes that apply and send, as soon as both are there.
    pub(crate) async fn at_work(&self) -> Result<(i32, i32), BenchError> {
        let (worker, slot) = match self.carrier {
            Carrier::Herdsman | Carrier::OneLane => {
                ("SELECT pid FROM herdsman.lease", "herdsman_mesh_to_2")
            }
            Carrier::Native => (
                "SELECT pid FROM pg_stat_subscription WHERE subname = 'to_n2' AND pid IS NOT NULL",
                "to_n2",
            ),
        };
        let sender = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL";
        let waiting = async {
            loop {
                let worker = self.target.query_opt(worker, &[]).await?;
                let sender = self.source.query_opt(sender, &[&slot]).await?;
                if let (Some(worker), Some(sender)) = (worker, sender) {
                    return Ok((worker.get(0), sender.get(0)));
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let late = |_| BenchError::Wrong(format!("{} does not begin to work", self.carrier.name()));
        timeout(PATIENCE, waiting).await.map_err(late)?
    }

    /// All processes that apply: of a mesh with those of its lanes, which are there once they are needed.
    pub(crate) async fn appliers(&self, worker: i32) -> Result<Vec<i32>, BenchError> {
        let lanes = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'";
        let rows = match self.carrier {
            Carrier::Native => Vec::new(),
            Carrier::Herdsman | Carrier::OneLane => self.target.query(lanes, &[]).await?,
        };
        Ok(rows.iter().map(|row| row.get(0)).chain([worker]).collect())
    }

    /// Writes a row of its own.
    pub(crate) async fn mark(&self, id: i32) -> Result<(), BenchError> {
        self.source.execute(&self.insert, &[&id]).await?;
        Ok(())
    }

    /// Waits until that row is on the second server; `pause` between looks. Returns when it was seen.
    pub(crate) async fn seen(&self, id: i32, pause: Duration) -> Result<Instant, BenchError> {
        let waiting = async {
            loop {
                if self.target.query_one(&self.look, &[&id]).await?.get::<_, bool>(0) {
                    return Ok(Instant::now());
                }
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
        };
        let late = |_| BenchError::Wrong(format!("row {id} is not seen on the second server"));
        timeout(PATIENCE, waiting).await.map_err(late)?
    }

    /// Ends the engine's work.
    pub(crate) async fn stop(self) {
        if let Some((engine, _)) = self.engine {
            engine.stop().await;
        }
    }
}

/// Servers with an empty table.
pub(crate) async fn servers(versions: &[u32]) -> Result<Sandbox, BenchError> {
    let mut builder = Sandbox::builder().versions(versions.iter().copied());
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    let sandbox = builder.start().await?;
    for node in sandbox.node_names() {
        let sql = format!(
            "CREATE TABLE {TABLE} (id int PRIMARY KEY, a int, b text, c text, d timestamptz)"
        );
        sandbox.sql(&node, "app").await?.batch_execute(&sql).await?;
    }
    Ok(sandbox)
}

/// A mesh of the first `members` of the servers; all of them can be reached. Nothing passes through a proxy.
pub(crate) fn setup(sandbox: &Sandbox, members: usize) -> Result<Setup, BenchError> {
    let names: Vec<NodeName> =
        sandbox.node_names().iter().map(|node| node.parse()).collect::<Result<_, _>>()?;
    let mut nodes = BTreeMap::new();
    for name in &names {
        nodes.insert(name.clone(), Conninfo::from_pairs(direct(sandbox, name.as_str(), "mesh")?)?);
    }
    let members = names.into_iter().take(members).collect();
    let config = MeshConfig {
        nodes: members,
        tables: vec![format!("public.{TABLE}")],
        ..MeshConfig::default()
    };
    Ok(Setup { config, nodes: nodes.into_iter().collect() })
}

/// How a role connects straight to a server.
pub(crate) fn direct(
    sandbox: &Sandbox,
    node: &str,
    role: &str,
) -> Result<BTreeMap<String, String>, BenchError> {
    let mut pairs = sandbox.conninfo(node, role)?;
    pairs.insert("port".to_owned(), sandbox.server_port(node)?.to_string());
    Ok(pairs.into_iter().collect())
}

/// Prepares the members.
pub(crate) async fn up(setup: &Setup) -> Result<(), BenchError> {
    let setup = Arc::new(setup.clone());
    let found = install::survey(&setup).await?;
    let plan = install::plan(&setup, &found);
    if let Some(problem) = plan.problems.first() {
        return Err(BenchError::Wrong(problem.clone()));
    }
    Ok(install::carry_out(&setup, &plan, |_| {}).await?)
}

/// A subscription like those of a mesh made by hand: `origin = none` where there is that.
async fn subscribe(
    sandbox: &Sandbox,
    (from, source): (&str, &Client),
    (to, target): (&str, &Client),
) -> Result<(), BenchError> {
    source.batch_execute(&format!("CREATE PUBLICATION bench FOR TABLE {TABLE}")).await?;
    let quoted = |(key, value): (String, String)| {
        format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    };
    let pairs = direct(sandbox, from, "postgres")?;
    let conninfo: Vec<String> = pairs.into_iter().map(quoted).collect();
    let conninfo = conninfo.join(" ").replace('\'', "''");
    let version: i32 =
        target.query_one("SELECT current_setting('server_version_num')::int", &[]).await?.get(0);
    let origin = if version >= 160_000 { ", origin = none" } else { "" };
    target
        .batch_execute(&format!(
            "CREATE SUBSCRIPTION to_{to} CONNECTION '{conninfo}' PUBLICATION bench WITH (copy_data = off{origin})"
        ))
        .await?;
    Ok(())
}
