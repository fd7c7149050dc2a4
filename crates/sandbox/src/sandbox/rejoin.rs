//! Bringing a node back as a standby, whatever it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Node, Sandbox};
use crate::{ProcessState, SandboxError, copying};

/// A shutdown that takes longer waits for somebody who does not answer; the node is then killed.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// How a node may be brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejoinBy {
    /// `pg_rewind` where the package has it and it works, else a new copy.
    #[default]
    RewindElseCopy,
    /// A new copy.
    Copy,
}

/// How a node was brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejoined {
    /// By `pg_rewind`.
    Rewound,
    /// By a new copy of the primary.
    Copied,
}

impl Sandbox {
    /// Brings a node back as a standby of the primary: the running node not in recovery, of several the one on the highest
    /// timeline. The node is stopped first if need be; writes only it had are gone.
    ///
    /// # Errors
    /// No such node, no other primary, or the node does not stream in the end.
    pub async fn rejoin(&self, node: &str) -> Result<Rejoined, SandboxError> {
        let index = self.index(node)?;
        let upstream = self.primary_but(index).await?;
        self.rejoin_index(index, upstream, RejoinBy::default()).await
    }

    /// The primary a node would be rejoined to: the running node not in recovery, other than itself, of several the one on
    /// the highest timeline.
    ///
    /// # Errors
    /// No such node, or there is no other primary.
    pub async fn primary_other_than(&self, node: &str) -> Result<String, SandboxError> {
        let primary = self.primary_but(self.index(node)?).await?;
        Ok(self.at(primary)?.server.name.clone())
    }

    /// As [`Sandbox::rejoin`], as a standby of a node of choice and in a chosen way.
    ///
    /// # Errors
    /// No such node, the upstream is down, or the node does not stream in the end.
    pub async fn rejoin_from(
        &self,
        node: &str,
        upstream: &str,
        by: RejoinBy,
    ) -> Result<Rejoined, SandboxError> {
        self.rejoin_index(self.index(node)?, self.index(upstream)?, by).await
    }

    async fn rejoin_index(
        &self,
        index: usize,
        upstream: usize,
        by: RejoinBy,
    ) -> Result<Rejoined, SandboxError> {
        self.only_in_a_cluster("nobody is rejoined to another")?;
        let node = self.at(index)?;
        if index == upstream {
            return Err(SandboxError::not_now(&node.server.name, "cannot follow itself"));
        }
        let _busy = node.busy.lock().await;
        self.bring_down(node).await?;
        self.reserve_slot(index, upstream).await?;
        if by == RejoinBy::RewindElseCopy && node.server.binaries.pg_rewind.is_some() {
            match self.rewind(index, upstream).await {
                Ok(()) => return Ok(Rejoined::Rewound),
                Err(error) => {
                    tracing::warn!(
                        node = node.server.name,
                        error = error.one_line(),
                        "rewind failed, copying anew"
                    );
                }
            }
        }
        node.server.kill().await?;
        node.server.wipe()?;
        self.copy_as_standby(index, upstream).await?;
        self.await_streaming(index).await?;
        Ok(Rejoined::Copied)
    }

    async fn rewind(&self, index: usize, upstream: usize) -> Result<(), SandboxError> {
        /// A rewound node that does not stream by then never will.
        const STREAM_WITHIN: Duration = Duration::from_secs(15);
        let (node, source) = (self.at(index)?, self.at(upstream)?);
        copying::rewind(&source.server, &node.server, &self.credentials, self.deadline).await?;
        self.start_as_standby(index, upstream).await?;
        tokio::time::timeout(STREAM_WITHIN, self.await_streaming(index)).await.unwrap_or_else(
            |_| {
                Err(SandboxError::Deadline {
                    node: node.server.name.clone(),
                    what: "streaming after the rewind".to_owned(),
                    within: STREAM_WITHIN,
                    detail: format!("its log ends with: {}", node.server.log_end()),
                })
            },
        )
    }

    /// In an orderly way where it can, which spares the rewind a recovery.
    async fn bring_down(&self, node: &Node) -> Result<(), SandboxError> {
        if node.server.state() == ProcessState::Running
            && let Err(error) = node.server.stop(SHUTDOWN_PATIENCE).await
        {
            tracing::debug!(
                node = node.server.name,
                error = error.one_line(),
                "not shut down, killing"
            );
        }
        node.server.kill().await
    }
}
