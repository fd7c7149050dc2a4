//! From what the builder was told to a set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use herdsman_node::{Conninfo, NodeName, Tls};
use herdsman_watch::{AvailabilityConfig, Setup};

use super::{BuildError, Builder, Node, Roles};
use crate::ReplicaSet;
use crate::classify::Classifier;
use crate::config::{GroupConfig, PoolConfig, RouteConfig};
use crate::member::Member;
use crate::policy::Rules;
use crate::pulse::{Pulse, Rhythm};
use crate::set::{Hand, Herd, Parts, Settings, Source};

impl Builder {
    /// Puts the set together.
    ///
    /// # Errors
    /// [`BuildError`]; where several things are wrong, [`BuildError::Several`] with all of them.
    pub fn build(mut self) -> Result<ReplicaSet, BuildError> {
        let mut errors = std::mem::take(&mut self.errors);
        errors.extend(self.mistakes());
        match errors.len() {
            0 => self.assemble(),
            1 => Err(errors.swap_remove(0)),
            _ => Err(BuildError::Several(errors)),
        }
    }

    fn mistakes(&self) -> Vec<BuildError> {
        let mut mistakes = Vec::new();
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            if !names.insert(&node.name) {
                mistakes.push(BuildError::Twice(node.name.clone()));
            }
        }
        if self.nodes.is_empty() && self.errors.is_empty() {
            mistakes.push(BuildError::NoNodes);
        }
        if self.given() {
            let bare = self.nodes.iter().find(|node| !node.writer && !node.reader);
            mistakes.extend(bare.map(|node| BuildError::Mixed(node.name.clone())));
        }
        let unknown = |what: String, node: &NodeName| {
            (!names.contains(node)).then(|| BuildError::UnknownNode { what, node: node.clone() })
        };
        let RouteConfig { weights, zones, groups, pool, .. } = &self.settings;
        mistakes.extend(weights.keys().filter_map(|node| unknown("weight".to_owned(), node)));
        mistakes.extend(zones.keys().filter_map(|node| unknown("zone_of".to_owned(), node)));
        for (group, config) in groups {
            mistakes.extend(
                config.nodes.iter().filter_map(|node| unknown(format!("group {group}"), node)),
            );
            if config.nodes.is_empty() {
                let problem = format!("of group {group} is empty; name at least one node");
                mistakes.push(BuildError::Setting { setting: "nodes", problem });
            }
        }
        mistakes.extend(pool_mistakes(pool));
        mistakes
    }

    /// Whether roles were given, rather than to be discovered.
    fn given(&self) -> bool {
        matches!(self.roles, Roles::Own) && self.nodes.iter().any(|node| node.writer || node.reader)
    }

    fn assemble(mut self) -> Result<ReplicaSet, BuildError> {
        let given = self.given();
        let source = self.source(given)?;
        let rhythm =
            Rhythm { interval: self.settings.probe.interval, timeout: self.settings.probe.timeout };
        let mut pulses = Vec::new();
        for node in &self.nodes {
            // With `pg_monitor` a standby also says which timeline it receives; without, only that of its last checkpoint,
            // which after a promotion is the old one for minutes: reads that wait for a new write would all go elsewhere.
            let conninfo = if given { node.conninfo.clone() } else { self.watched(node)? };
            let tls = Tls::new(&conninfo)
                .map_err(|source| BuildError::Tls { node: node.name.clone(), source })?;
            pulses.push(Arc::new(Pulse::new(node.name.clone(), conninfo, tls, rhythm)));
        }
        let nodes: Vec<(Node, Arc<Pulse>)> =
            std::mem::take(&mut self.nodes).into_iter().zip(pulses.iter().cloned()).collect();
        let frame = Frame {
            nodes,
            given,
            herd: Arc::new(Herd::new(pulses, source)),
            classifier: Arc::new(Classifier::new()),
            settings: self.settings,
            hand: Hand { node: self.only, ..Hand::default() },
        };
        let groups = frame
            .settings
            .groups
            .iter()
            .map(|(name, group)| (name.clone(), frame.group(name, group)))
            .collect();
        Ok(frame.set("", |_| true, &frame.settings.pool, false, groups))
    }

    fn source(&mut self, given: bool) -> Result<Source, BuildError> {
        if given {
            return Ok(Source::Given);
        }
        match std::mem::take(&mut self.roles) {
            Roles::Watch(watch) => return Ok(Source::Watch(watch)),
            Roles::Remote(remote) => return Ok(Source::Remote(remote)),
            Roles::Own => {}
        }
        let mut nodes = BTreeMap::new();
        for node in &self.nodes {
            let conninfo = self.watched(node)?;
            nodes.insert(node.name.clone(), conninfo);
        }
        let setup =
            Setup { nodes, watch: self.watch.clone(), availability: AvailabilityConfig::default() };
        Ok(Source::Watcher(Box::new(setup), std::sync::OnceLock::new()))
    }

    /// What the watcher connects with.
    fn watched(&self, node: &Node) -> Result<Conninfo, BuildError> {
        let mut conninfo = node.monitor.clone().unwrap_or_else(|| node.conninfo.clone());
        let Some(keywords) = &self.monitor else { return Ok(conninfo) };
        let wrong = |source| BuildError::Conninfo { node: "monitor".to_owned(), source };
        let pairs = Conninfo::pairs(keywords).map_err(wrong)?;
        let parsed = Conninfo::from_pairs(&pairs).map_err(wrong)?;
        if pairs.contains_key("user") {
            conninfo.user = parsed.user;
            conninfo.password = None;
        }
        if pairs.contains_key("password") {
            conninfo.password = parsed.password;
        }
        if pairs.contains_key("dbname") {
            conninfo.dbname = parsed.dbname;
        }
        Ok(conninfo)
    }
}

/// What every group of a set is made from.
struct Frame {
    nodes: Vec<(Node, Arc<Pulse>)>,
    given: bool,
    herd: Arc<Herd>,
    classifier: Arc<Classifier>,
    settings: RouteConfig,
    hand: Hand,
}

impl Frame {
    fn group(&self, name: &str, group: &GroupConfig) -> ReplicaSet {
        let mut pool = self.settings.pool.clone();
        pool.max_connections = group.max_connections.unwrap_or(pool.max_connections);
        pool.min_connections = pool.min_connections.min(pool.max_connections);
        pool.prepared_statements = group.prepared_statements.unwrap_or(pool.prepared_statements);
        let has = |node: &NodeName| group.nodes.contains(node);
        self.set(name, has, &pool, group.autocommit, BTreeMap::new())
    }

    fn set(
        &self,
        name: &str,
        has: impl Fn(&NodeName) -> bool,
        pool: &PoolConfig,
        autocommit: bool,
        groups: BTreeMap<String, ReplicaSet>,
    ) -> ReplicaSet {
        let settings = &self.settings;
        let nodes: Vec<_> = self.nodes.iter().filter(|(node, _)| has(&node.name)).collect();
        let members = nodes.iter().map(|(node, pulse)| {
            let weight = settings.weights.get(&node.name).copied().unwrap_or(1);
            // Without a zone of our own every node is near; one of no weight is for when there is no other.
            let ours =
                settings.zone.is_none() || settings.zones.get(&node.name) == settings.zone.as_ref();
            let near = ours && weight > 0;
            Arc::new(Member::new(&node.conninfo, Arc::clone(pulse), pool.clone(), weight, near))
        });
        Parts {
            name: name.to_owned(),
            members: members.collect(),
            roles: if self.given {
                nodes.iter().map(|(node, _)| (node.writer, node.reader)).collect()
            } else {
                Vec::new()
            },
            rules: Rules { max_lag: settings.max_lag, slow_start: settings.slow_start },
            settings: Settings {
                balance: settings.balance,
                fallback: settings.fallback,
                causal_wait: settings.causal_wait,
                writer_wait: settings.writer_wait,
                retries: settings.retries,
            },
            classifier: Arc::clone(&self.classifier),
            groups,
            autocommit,
            herd: Arc::clone(&self.herd),
            hand: self.hand,
        }
        .into()
    }
}

fn pool_mistakes(pool: &PoolConfig) -> Vec<BuildError> {
    let wrong =
        |setting, problem: &str| BuildError::Setting { setting, problem: problem.to_owned() };
    let mut mistakes = Vec::new();
    if pool.max_connections == 0 {
        mistakes.push(wrong("max_connections", "is 0; expected at least 1"));
    }
    if pool.min_connections > pool.max_connections {
        mistakes.push(wrong("min_connections", "is larger than max_connections"));
    }
    if pool.acquire_timeout.is_zero() {
        mistakes.push(wrong("acquire_timeout", "is zero; nothing could be acquired in no time"));
    }
    mistakes
}
