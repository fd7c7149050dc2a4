//! A real cluster, and replica sets over it.

use std::sync::OnceLock;
use std::time::Duration;

use herdsman::{Builder, ReplicaSet};
use herdsman_sandbox::Sandbox;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

/// Long enough for a loaded machine; nothing asserts on time but to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) use herdsman_sandbox::{on_each_version, on_newest_version};

/// Few clusters at a time: each is a dozen processes, and a starved server looks like a frozen one.
async fn turn() -> SemaphorePermit<'static> {
    static TURNS: OnceLock<Semaphore> = OnceLock::new();
    TURNS.get_or_init(|| Semaphore::new(2)).acquire().await.unwrap()
}

/// A cluster of `n1` (primary), `n2`, `n3`, …
pub(crate) struct Herd {
    pub(crate) sandbox: Sandbox,
    _turn: SemaphorePermit<'static>,
}

impl Herd {
    pub(crate) async fn start(version: u32, standbys: usize) -> Self {
        let turn = turn().await;
        let sandbox =
            Sandbox::builder().standbys(standbys).pg_version(version).start().await.unwrap();
        Self { sandbox, _turn: turn }
    }

    /// The connection string of a role to a node, through its proxy.
    pub(crate) fn conninfo(&self, node: &str, role: &str) -> String {
        let keys = self.sandbox.conninfo(node, role).unwrap();
        let pairs = keys.iter().map(|(key, value)| format!("{key}='{value}'"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    /// A builder with `n1` as writer (`write`) and the others as readers (`read0`, …), as the application logs in.
    pub(crate) fn given(&self) -> Builder {
        let mut names = self.sandbox.node_names().into_iter();
        let writer = names.next().unwrap();
        let builder = ReplicaSet::builder().writer(&self.conninfo(&writer, "app"));
        names.fold(builder, |builder, name| builder.reader(&self.conninfo(&name, "app")))
    }

    /// A builder with every node, roles to be discovered.
    pub(crate) fn discovered(&self) -> Builder {
        let password = self.sandbox.credentials().password("herdsman").unwrap();
        let builder =
            ReplicaSet::builder().monitor(&format!("user=herdsman password='{password}'"));
        let names = self.sandbox.node_names();
        names.iter().fold(builder, |builder, name| builder.node(name, &self.conninfo(name, "app")))
    }

    /// Creates a table `notes (id bigserial primary key, text text)` that the application may use, and waits until
    /// every standby has it.
    pub(crate) async fn notes(&self) {
        let admin = self.sandbox.sql("n1", "postgres").await.unwrap();
        let sql = "CREATE TABLE notes (id bigserial PRIMARY KEY, text text); \
                   GRANT ALL ON notes TO app; GRANT ALL ON SEQUENCE notes_id_seq TO app";
        admin.batch_execute(sql).await.unwrap();
        self.sandbox.wait_replayed().await.unwrap();
    }
}

/// Waits until this is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// How many statements a node was sent.
pub(crate) fn sent(db: &ReplicaSet, node: &str) -> u64 {
    db.statistics().nodes[node].query_count
}

/// Waits until the set holds this node for online, or offline.
pub(crate) async fn until_online(db: &ReplicaSet, node: &str, online: bool) {
    until(&format!("{node} is online: {online}"), async || {
        db.statistics().nodes[node].online == online
    })
    .await;
}
