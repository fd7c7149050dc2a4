//! Whether all nodes hold the same.

use std::{collections::BTreeMap, time::Duration};

use super::{Condition, Ledger, RequestError, request::random_request};
use crate::{
    Offset,
    entry::{Attempt, Entry},
    node::{Checksum, NodeError},
};

/// What the nodes hold at one place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The place.
    pub at: Offset,
    /// Each node's tables.
    pub nodes: BTreeMap<String, BTreeMap<String, Checksum>>,
    /// Nodes that could not be looked at, and why.
    pub absent: BTreeMap<String, String>,
}

impl Verified {
    /// Whether all nodes that could be looked at hold the same.
    #[must_use]
    pub fn alike(&self) -> bool {
        let mut tables = self.nodes.values();
        let first = tables.next();
        tables.all(|other| Some(other) == first)
    }
}

impl Ledger {
    /// Holds all nodes at one place, looks at what they hold there, and lets them go on. It leaves one barrier in the
    /// log, [`Entry::Barrier`], and nothing else.
    ///
    /// # Errors
    /// A node that follows the log does not come to the place in time.
    pub async fn verify(&self, within: Duration) -> Result<Verified, RequestError> {
        let _one = self.shared.verifying.lock().await;
        let verified = tokio::time::timeout(within, self.look()).await;
        self.shared.hold.send_replace(None);
        verified.unwrap_or_else(|_| {
            Err(RequestError::Node(
                "all".to_owned(),
                format!("they did not come to one place within {within:?}"),
            ))
        })
    }

    async fn look(&self) -> Result<Verified, RequestError> {
        // Nobody begins another entry; then whoever is furthest says where to meet. One entry more makes all of them see
        // that they are held.
        self.shared.hold.send_replace(Some(Offset::GENESIS));
        let attempt = Attempt { request: random_request(), number: 1 };
        let body = self.encode(&Entry::Barrier { attempt })?;
        let at = self.shared.log.append(body).await;
        at.map_err(|error| RequestError::NotTaken(error.to_string()))?;
        let mut absent = BTreeMap::new();
        let mut present = Vec::new();
        for member in &self.shared.members {
            let stuck = |it: &super::NodeStatus| {
                matches!(it.condition, Condition::Fenced(_) | Condition::Troubled(_))
            };
            let mut status = member.status.subscribe();
            let seen = status.wait_for(|it| it.held || stuck(it)).await.map(|it| it.clone());
            match seen.map(|it| (it.held, it.condition)) {
                Ok((true, _)) => present.push(member),
                Ok((_, Condition::Fenced(why) | Condition::Troubled(why))) => {
                    absent.insert(member.node.name().to_owned(), why);
                }
                _ => {}
            }
        }
        let applied = present.iter().map(|it| it.status.borrow().applied).max().unwrap_or_default();
        self.shared.hold.send_replace(Some(applied));
        let mut nodes = BTreeMap::new();
        for member in present {
            let name = member.node.name();
            let mut status = member.status.subscribe();
            drop(status.wait_for(|it| it.applied >= applied).await);
            let trouble = |why: String| RequestError::Node(name.to_owned(), why);
            let found = member.node.checksums().await;
            let found = found.map_err(|error: NodeError| trouble(error.to_string()))?;
            if found.at != applied {
                return Err(trouble(format!("it is at entry {}, not {applied}", found.at)));
            }
            nodes.insert(name.to_owned(), found.tables);
        }
        Ok(Verified { at: applied, nodes, absent })
    }
}
