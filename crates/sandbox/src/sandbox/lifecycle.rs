//! What a node goes through: start, stop, kill, freeze, promotion, another primary.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::{Node, Sandbox};
use crate::{ProcessState, SandboxError, copying, sql};

/// How often a server is asked for what it does not announce.
const ASK_EVERY: Duration = Duration::from_millis(10);

impl Sandbox {
    /// Kills every process of the node with SIGKILL at once, frozen ones too.
    ///
    /// # Errors
    /// No such node, it is not running, or the processes do not go.
    pub async fn kill(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        if node.server.known_processes().is_empty() {
            return Err(SandboxError::not_now(
                &node.server.name,
                "is not running, there is nothing to kill",
            ));
        }
        node.server.kill().await
    }

    /// Kills the postmaster alone: idle sessions end at once, a busy one may still commit.
    ///
    /// # Errors
    /// No such node, or it is not running.
    pub async fn kill_postmaster(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        node.server.kill_postmaster().await
    }

    /// Shuts the node down (fast). A primary waits for its standbys to receive everything, so this fails at the deadline
    /// when they are stalled.
    ///
    /// # Errors
    /// No such node, it is not running or frozen, or it does not end in time.
    pub async fn stop(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        node.server.stop(self.deadline).await
    }

    /// Stops every process of the node with SIGSTOP: it accepts connections and answers nothing.
    ///
    /// # Errors
    /// No such node, or it is not running.
    pub async fn freeze(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        node.server.freeze(true)
    }

    /// Stops the postmaster alone with SIGSTOP: open sessions go on, new ones hang.
    ///
    /// # Errors
    /// No such node, or it is not running.
    pub async fn freeze_postmaster(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        node.server.freeze(false)
    }

    /// Undoes a freeze. A node that is not frozen is left as it is.
    ///
    /// # Errors
    /// No such node.
    pub async fn thaw(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        node.server.thaw();
        Ok(())
    }

    /// Starts a node that is down, as what it was: an old primary comes back as a primary. Waits until it lets clients
    /// in.
    ///
    /// # Errors
    /// No such node, it is running already, or it does not come up.
    pub async fn start(&self, node: &str) -> Result<(), SandboxError> {
        let node = self.node(node)?;
        let _busy = node.busy.lock().await;
        self.start_server(node).await
    }

    /// Promotes a standby and waits until it takes writes. Nobody else is told: its old primary lives on, other standbys
    /// keep following whom they follow.
    ///
    /// # Errors
    /// No such node, it is down, is a primary already, or does not leave recovery in time.
    pub async fn promote(&self, node: &str) -> Result<(), SandboxError> {
        self.only_in_a_cluster("nobody is promoted")?;
        let index = self.index(node)?;
        let node = self.at(index)?;
        let _busy = node.busy.lock().await;
        let client = self.superuser(node).await?;
        if !self.in_recovery(node, &client).await? {
            return Err(SandboxError::not_now(&node.server.name, "is a primary already"));
        }
        let promote = client.execute("SELECT pg_promote(false)", &[]);
        sql::within(&node.server, "it cannot be promoted", self.deadline, promote).await?;
        let deadline = Instant::now() + self.deadline;
        while self.in_recovery(node, &client).await? {
            self.still_time(deadline, node, "the promotion", "")?;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        self.configure(index, None, &[])?;
        self.ensure_slots(index, &client, false).await
    }

    /// Has a running standby stream from another node, which gets a slot for it.
    ///
    /// # Errors
    /// No such node, it is no running standby, or the other one is down.
    pub async fn follow(&self, node: &str, upstream: &str) -> Result<(), SandboxError> {
        self.only_in_a_cluster("nobody follows another")?;
        let (index, upstream) = (self.index(node)?, self.index(upstream)?);
        let node = self.at(index)?;
        let _busy = node.busy.lock().await;
        let client = self.superuser(node).await?;
        if !self.in_recovery(node, &client).await? {
            return Err(SandboxError::not_now(
                &node.server.name,
                "is a primary and cannot just follow; rejoin it",
            ));
        }
        self.reserve_slot(index, upstream).await?;
        self.configure(index, Some(upstream), &[])?;
        node.server.reload()
    }

    /// Replaces the node by a new cluster, empty and with a system identifier of its own, at the same address and with the
    /// same passwords.
    ///
    /// # Errors
    /// No such node, or the new cluster does not come up.
    pub async fn freshly_initdb(&self, node: &str) -> Result<(), SandboxError> {
        let index = self.index(node)?;
        let node = self.at(index)?;
        let _busy = node.busy.lock().await;
        node.server.kill().await?;
        node.server.wipe()?;
        self.create_cluster(index).await
    }

    /// Replaces the node by a copy of the primary that has promoted itself, as a restored backup does: same system
    /// identifier, a timeline of its own, and it never was attached to anybody.
    ///
    /// # Errors
    /// No such node, it is the only primary, or the copy does not come up.
    pub async fn clone_promoted(&self, node: &str) -> Result<(), SandboxError> {
        self.only_in_a_cluster("there is no primary to clone")?;
        let index = self.index(node)?;
        let source = self.primary_but(index).await?;
        let node = self.at(index)?;
        let _busy = node.busy.lock().await;
        node.server.kill().await?;
        node.server.wipe()?;
        copying::copy(&self.at(source)?.server, &node.server, &self.credentials, self.deadline)
            .await?;
        self.mark(node, Some("recovery.signal"))?;
        // Nothing to restore: it replays what came with the copy, then promotes itself.
        self.configure(index, None, &[("restore_command".to_owned(), "false".to_owned())])?;
        self.start_server(node).await?;
        let client = self.superuser(node).await?;
        let deadline = Instant::now() + self.deadline;
        while self.in_recovery(node, &client).await? {
            self.still_time(deadline, node, "the promotion of the copy", "")?;
            tokio::time::sleep(ASK_EVERY).await;
        }
        self.configure(index, None, &[])
    }

    /// Starts a server and waits until it lets clients in.
    pub(super) async fn start_server(&self, node: &Node) -> Result<(), SandboxError> {
        self.start_and_enter(node, self.credentials.password("postgres")?).await.map(drop)
    }

    async fn start_and_enter(&self, node: &Node, password: &str) -> Result<Client, SandboxError> {
        node.server.spawn().await?;
        let deadline = Instant::now() + self.deadline;
        loop {
            if node.server.postmaster().is_none() {
                return Err(SandboxError::DidNotStart {
                    node: node.server.name.clone(),
                    log: node.server.log_end(),
                });
            }
            let refusal = match sql::connect_with(&node.server, "postgres", password).await {
                Ok(client) => return Ok(client),
                Err(error) => error.one_line(),
            };
            self.still_time(
                deadline,
                node,
                "the start",
                &format!("{refusal}; its log ends with: {}", node.server.log_end()),
            )?;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// A new cluster with all roles, running as a primary.
    pub(super) async fn create_cluster(&self, index: usize) -> Result<(), SandboxError> {
        let node = self.at(index)?;
        let password = copying::create(&node.server, &self.credentials, self.deadline).await?;
        self.configure(index, None, &[])?;
        let client = self.start_and_enter(node, &password).await?;
        self.credentials.create_roles(&node.server.name, &client).await
    }

    /// A new copy of `upstream`, running as its standby. The node must be down and wiped.
    pub(super) async fn copy_as_standby(
        &self,
        index: usize,
        upstream: usize,
    ) -> Result<(), SandboxError> {
        let (node, source) = (self.at(index)?, self.at(upstream)?);
        self.reserve_slot(index, upstream).await?;
        copying::copy(&source.server, &node.server, &self.credentials, self.deadline).await?;
        self.start_as_standby(index, upstream).await
    }

    pub(super) async fn start_as_standby(
        &self,
        index: usize,
        upstream: usize,
    ) -> Result<(), SandboxError> {
        let node = self.at(index)?;
        self.configure(index, Some(upstream), &[])?;
        self.mark(node, Some("standby.signal"))?;
        self.start_server(node).await
    }

    /// Gives the node's slots on a server to all others, for whoever may follow it.
    pub(super) async fn ensure_slots(
        &self,
        index: usize,
        client: &Client,
        reserve: bool,
    ) -> Result<(), SandboxError> {
        let server = &self.at(index)?.server;
        for other in self.nodes.iter().filter(|other| other.server.name != server.name) {
            sql::ensure_slot(server, client, &other.server.name, reserve).await?;
        }
        Ok(())
    }

    pub(super) async fn reserve_slot(
        &self,
        index: usize,
        upstream: usize,
    ) -> Result<(), SandboxError> {
        let (node, upstream) = (self.at(index)?, self.at(upstream)?);
        let client = self.superuser(upstream).await?;
        sql::ensure_slot(&upstream.server, &client, &node.server.name, true).await
    }

    pub(super) async fn in_recovery(
        &self,
        node: &Node,
        client: &Client,
    ) -> Result<bool, SandboxError> {
        let query = client.query_one("SELECT pg_is_in_recovery()", &[]);
        Ok(sql::within(&node.server, "its role is unknown", self.deadline, query).await?.get(0))
    }

    /// Refuses what makes no sense where every node is a server of its own.
    pub(super) fn only_in_a_cluster(&self, why_not: &str) -> Result<(), SandboxError> {
        if self.writers {
            let reason = format!("is of writers, each a server of its own: {why_not}");
            return Err(SandboxError::not_now("sandbox", reason));
        }
        Ok(())
    }

    pub(super) fn still_time(
        &self,
        deadline: Instant,
        node: &Node,
        what: &str,
        seen: &str,
    ) -> Result<(), SandboxError> {
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(SandboxError::Deadline {
            node: node.server.name.clone(),
            what: what.to_owned(),
            within: self.deadline,
            detail: seen.to_owned(),
        })
    }

    /// Leaves exactly this signal file in the data folder: a copy brings along those of its source.
    fn mark(&self, node: &Node, signal: Option<&str>) -> Result<(), SandboxError> {
        let data = node.server.data();
        for name in ["standby.signal", "recovery.signal"] {
            let path = data.join(name);
            if signal == Some(name) {
                self.account.write(&path, "")?;
            } else if path.exists() {
                std::fs::remove_file(&path).map_err(SandboxError::file("remove", path))?;
            }
        }
        Ok(())
    }

    /// What the node's processes are doing.
    ///
    /// # Errors
    /// There is no such node.
    pub fn state(&self, node: &str) -> Result<ProcessState, SandboxError> {
        Ok(self.node(node)?.server.state())
    }
}
