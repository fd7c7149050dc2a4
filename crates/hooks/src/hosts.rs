//! A file of addresses and names, for whatever serves names from one: `/etc/hosts` is not it, CoreDNS' and dnsmasq's are.

mod render;

use std::net::IpAddr;

use herdsman_node::NodeName;

use crate::config::HostsConfig;
use crate::file::{self, New};
use crate::herd::{Herd, Places};

/// The hook.
#[derive(Debug)]
pub(crate) struct HostsFile {
    pub(crate) config: HostsConfig,
    pub(crate) places: Places,
}

impl HostsFile {
    /// Makes it so.
    pub(crate) async fn keep(&self, herd: &Herd) -> Result<String, String> {
        let writer = match herd.writer() {
            Some(node) => Some(self.address(node).await?),
            None => None,
        };
        let mut readers = Vec::new();
        let mut unknown = Vec::new();
        for node in herd.readers() {
            match self.address(node).await {
                Ok(address) => readers.push(address),
                Err(problem) => unknown.push(problem),
            }
        }
        let path = &self.config.file;
        let before = file::read(path)?;
        if let Some(before) = &before
            && !before.is_empty()
            && !before.starts_with(render::HEAD)
        {
            return Err(format!(
                "`{}` was not written by Herdsman and is left alone; name another file, or move it away",
                path.display()
            ));
        }
        let text = render::render(&self.config, writer, &readers, before.as_deref());
        if before.as_ref() != Some(&text) {
            file::replace(path, &text, New::Public)?;
        }
        // What is known is in the file already.
        match unknown.is_empty() {
            true => Ok(format!("{} holds", path.display())),
            false => Err(unknown.join("; ")),
        }
    }

    async fn address(&self, node: &NodeName) -> Result<IpAddr, String> {
        let place = self.places.get(node).ok_or_else(|| format!("{node} is not configured"))?;
        if let Some(address) = place.address {
            return Ok(address);
        }
        let problem = |problem: &str| {
            format!(
                "`{}`, the host of {node}, has no address: {problem}; set `hostaddr` in `hosts.{node}`",
                place.host
            )
        };
        let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
        let mut found = found.map_err(|error| problem(&error.to_string()))?;
        found.next().map(|address| address.ip()).ok_or_else(|| problem("none was found"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::herd::tests::{herd, name};
    use crate::herd::{Part, Place};

    #[tokio::test]
    async fn a_file_that_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        let config = serde_json::json!({ "file": file, "writer": "rw" });
        let place =
            Place { host: "127.0.0.1".to_owned(), port: 1, address: "127.0.0.1".parse().ok() };
        let hook = HostsFile {
            config: serde_json::from_value(config).unwrap(),
            places: [(name("a"), place)].into(),
        };
        let herd = herd(&[("a", Part::Writer)]);
        std::fs::write(&file, "127.0.0.1 localhost\n").unwrap();
        let problem = hook.keep(&herd).await.unwrap_err();
        assert!(problem.contains("not written by Herdsman"), "{problem}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "127.0.0.1 localhost\n");
        std::fs::remove_file(&file).unwrap();
        hook.keep(&herd).await.unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().ends_with("\n127.0.0.1 rw\n"));
    }
}
