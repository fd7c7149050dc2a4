//! The `watch:` section, and what it must have in common with the hosts.

use herdsman_watch::WatchConfig;

use crate::problem::quoted;
use crate::reading::Reading;

impl Reading<'_> {
    /// The `watch:` section: every program that watches by itself reads it the same way.
    pub fn watch(&mut self) -> WatchConfig {
        let watch = self.section::<WatchConfig>("watch").unwrap_or_default();
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
