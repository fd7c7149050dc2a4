//! The `watch:` section, and what it must have in common with the hosts.

use std::collections::BTreeSet;

use herdsman_node::NodeName;
use herdsman_watch::WatchConfig;
use serde::Deserialize;

use crate::problem::quoted;
use crate::reading::Reading;

/// What watching takes from the `mesh:` section, whoever reads the rest of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    nodes: BTreeSet<NodeName>,
}

impl Reading<'_> {
    /// The `watch:` section: every program that watches by itself reads it the same way.
    pub fn watch(&mut self) -> WatchConfig {
        let mut watch = self.section::<WatchConfig>("watch").unwrap_or_default();
        watch.mesh = self.section::<Members>("mesh").unwrap_or_default().nodes;
        for key in ["pin", "authority"] {
            if !watch.mesh.is_empty() && self.has(&["watch", key]) {
                let message = format!(
                    "`watch.{key}` names a primary, but the nodes of `mesh` are each one of their own, expected one of the two"
                );
                self.problem_at(&["watch", key], message);
            }
        }
        if let Some(pin) = &watch.pin {
            self.expect_host(&["watch", "pin", "node"], pin.node.as_str());
        }
        for (node, addresses) in &watch.replication_addresses {
            let path = ["watch", "replication_addresses", node.as_str()];
            self.expect_host(&path, node.as_str());
            for (number, address) in (1..).zip(addresses) {
                let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
                if !matches!(port, Some(Ok(1..))) {
                    let number = number.to_string();
                    let message =
                        format!("`{}` has {}, expected HOST:PORT", path.join("."), quoted(address));
                    self.problem_at(&[path[0], path[1], path[2], &number], message);
                }
            }
        }
        if watch.backoff_min > watch.backoff_max {
            let message = format!(
                "`watch.backoff_min` is {:?}, expected at most `watch.backoff_max`, which is {:?}",
                watch.backoff_min, watch.backoff_max
            );
            self.problem_at(&["watch", "backoff_min"], message);
        }
        if watch.authority.as_ref().is_some_and(|authority| authority.command.is_empty()) {
            let message =
                "`watch.authority.command` is empty, expected a program and its arguments";
            self.problem_at(&["watch", "authority", "command"], message);
        }
        watch
    }
}
