//! Looking at the cluster, past every proxy, and waiting for what it should come to.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::{Node, Sandbox};
use crate::{Fault, ProcessState, SandboxError, sql};

/// How long a server may take to say what it is. It is on this machine; only a frozen one takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(15);

/// What a server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
}

/// One node as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Version of its server, such as "15.20".
    #[serde(default)]
    pub version: String,
    /// What its processes do.
    pub state: ProcessState,
    /// What the server says it is, when it answers.
    pub role: Option<Role>,
    /// The timeline it writes or has received, when it answers.
    pub timeline: Option<i64>,
    /// Where clients reach it.
    pub endpoint: String,
    /// Where the server itself listens.
    pub server_port: u16,
    /// The postmaster's process number.
    pub pid: Option<i32>,
    /// Whom it is told to stream from.
    pub follows: Option<String>,
}

/// A network fault in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFault {
    /// The node cut off; none for clients and watchers.
    pub from: Option<String>,
    /// The node it cannot reach.
    pub to: String,
    /// What happens to the traffic.
    pub fault: Fault,
}

impl Sandbox {
    /// Every node as it is now. Asks all of them at once; a frozen one costs 2 s.
    pub async fn status(&self) -> Vec<NodeStatus> {
        join_all(self.nodes.iter().map(|node| self.status_of(node))).await
    }

    /// The network faults in force.
    #[must_use]
    pub fn faults(&self) -> Vec<LinkFault> {
        let name =
            |index: usize| self.at(index).map(|node| node.server.name.clone()).unwrap_or_default();
        let clients = self.nodes.iter().map(|node| LinkFault {
            from: None,
            to: node.server.name.clone(),
            fault: node.clients.fault(),
        });
        let links = self.links.iter().map(|((from, to), proxy)| LinkFault {
            from: Some(name(*from)),
            to: name(*to),
            fault: proxy.fault(),
        });
        clients.chain(links).filter(|link| link.fault != Fault::Pass).collect()
    }

    /// The running node that is not in recovery; of several, the one on the highest timeline.
    ///
    /// # Errors
    /// There is none.
    pub async fn primary(&self) -> Result<String, SandboxError> {
        let index = self.primary_but(usize::MAX).await?;
        Ok(self.at(index)?.server.name.clone())
    }

    /// Waits until the standby streams from the node it follows, as both of them see it.
    ///
    /// # Errors
    /// No such node, it follows nobody, or it does not in time.
    pub async fn wait_streaming(&self, standby: &str) -> Result<(), SandboxError> {
        self.await_streaming(self.index(standby)?).await
    }

    /// Waits until every running standby has replayed what the primary has written up to now.
    ///
    /// # Errors
    /// There is no primary, or a standby does not get there in time.
    pub async fn wait_replayed(&self) -> Result<(), SandboxError> {
        let primary = self.primary_but(usize::MAX).await?;
        let node = self.at(primary)?;
        let client = self.superuser(node).await?;
        let query = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]);
        let written: String =
            sql::within(&node.server, "its position is unknown", ANSWER_LIMIT, query).await?.get(0);
        let standbys = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| *index != primary && node.is_running());
        let waits = standbys.map(|(_, node)| self.await_replayed(node, &written));
        futures_util::future::try_join_all(waits).await.map(|_| ())
    }

    /// The primary, other than this node.
    pub(super) async fn primary_but(&self, index: usize) -> Result<usize, SandboxError> {
        self.only_in_a_cluster("there is no one primary")?;
        let asked =
            join_all(self.nodes.iter().enumerate().filter(|(other, _)| *other != index).map(
                async |(other, node)| match self.identity(node).await {
                    Some((Role::Primary, timeline)) => Some((timeline, other)),
                    _ => None,
                },
            ))
            .await;
        asked
            .into_iter()
            .flatten()
            .max_by_key(|(timeline, _)| *timeline)
            .map(|(_, other)| other)
            .ok_or_else(|| {
                SandboxError::not_now(
                    "sandbox",
                    "has no running primary; start or promote a node first",
                )
            })
    }

    pub(super) async fn await_streaming(&self, index: usize) -> Result<(), SandboxError> {
        let node = self.at(index)?;
        let upstream = node
            .follows()
            .ok_or_else(|| SandboxError::not_now(&node.server.name, "follows nobody"))
            .and_then(|upstream| self.at(upstream))?;
        let deadline = Instant::now() + self.deadline;
        loop {
            let seen = match self.is_streaming(node, upstream).await {
                Ok(true) => return Ok(()),
                Ok(false) => format!("its log ends with: {}", node.server.log_end()),
                Err(error) => error.one_line(),
            };
            self.still_time(
                deadline,
                node,
                &format!("streaming from {}", upstream.server.name),
                &seen,
            )?;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn is_streaming(&self, node: &Node, upstream: &Node) -> Result<bool, SandboxError> {
        let client = self.superuser(upstream).await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&node.server.name];
        let query = client.query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming')",
            &parameters,
        );
        if !sql::within(&upstream.server, "its senders are unknown", ANSWER_LIMIT, query)
            .await?
            .get::<_, bool>(0)
        {
            return Ok(false);
        }
        let client = self.superuser(node).await?;
        let query = client.query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')",
            &[],
        );
        Ok(sql::within(&node.server, "its receiver is unknown", ANSWER_LIMIT, query).await?.get(0))
    }

    async fn await_replayed(&self, node: &Node, written: &String) -> Result<(), SandboxError> {
        let client = self.superuser(node).await?;
        let deadline = Instant::now() + self.deadline;
        let parameters: [&(dyn ToSql + Sync); 1] = [written];
        loop {
            let query = client.query_one(
                "SELECT NOT pg_is_in_recovery() OR coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)",
                &parameters,
            );
            if sql::within(&node.server, "its position is unknown", ANSWER_LIMIT, query)
                .await?
                .get(0)
            {
                return Ok(());
            }
            self.still_time(deadline, node, &format!("replay up to {written}"), "")?;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn status_of(&self, node: &Node) -> NodeStatus {
        let identity = self.identity(node).await;
        NodeStatus {
            name: node.server.name.clone(),
            version: node.server.binaries.version.clone(),
            state: node.server.state(),
            role: identity.map(|(role, _)| role),
            timeline: identity.map(|(_, timeline)| timeline),
            endpoint: format!("127.0.0.1:{}", node.clients.port()),
            server_port: node.server.port.port(),
            pid: node.server.postmaster().map(|postmaster| postmaster.pid),
            follows: node
                .follows()
                .and_then(|index| Some(self.at(index).ok()?.server.name.clone())),
        }
    }

    /// What a node says it is, and its timeline. The control file is not asked: it lies for minutes after a promotion.
    async fn identity(&self, node: &Node) -> Option<(Role, i64)> {
        if !node.is_running() {
            return None;
        }
        let ask = async {
            let client = self.superuser(node).await.ok()?;
            let row = client
                .query_one(
                    "SELECT pg_is_in_recovery(),
                            CASE WHEN pg_is_in_recovery()
                                 THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                                               (SELECT timeline_id FROM pg_control_checkpoint()))::bigint
                                 ELSE ('x' || lpad(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), 16, '0'))::bit(64)::bigint
                            END",
                    &[],
                )
                .await
                .ok()?;
            let role = if row.get(0) { Role::Standby } else { Role::Primary };
            Some((role, row.get(1)))
        };
        tokio::time::timeout(ANSWER_LIMIT, ask).await.ok().flatten()
    }
}
