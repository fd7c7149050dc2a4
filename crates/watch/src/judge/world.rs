//! A model of a herd with its ground truth: what scenarios and simulations let happen, and what a probe would see of it.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_node::{Lsn, NodeName, SystemId, Timeline};

use crate::evidence::{Branch, Evidence, Receiver, Sender};

/// The cluster the herd belongs to.
pub(super) const OURS: SystemId = SystemId(7_431_982_345_678_901_234);
/// Some other cluster.
pub(super) const THEIRS: SystemId = SystemId(7_500_000_000_000_000_001);

/// What a server's processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// Stopped by a signal: sockets stay open, nothing answers.
    Frozen,
    Off,
}

/// One server as it truly is.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) power: Power,
    /// Cut off from the watcher, though not from the other servers.
    pub(super) hidden: bool,
    pub(super) system_id: SystemId,
    pub(super) in_recovery: bool,
    pub(super) timeline: Timeline,
    pub(super) lsn: Lsn,
    pub(super) read_only: bool,
    pub(super) upstream: Option<NodeName>,
    pub(super) streaming: bool,
    /// Receives and replays nothing for now, though connected.
    pub(super) lagging: bool,
    pub(super) branches: Vec<Branch>,
    /// Whether the watcher's role may read timeline history there.
    pub(super) shows_history: bool,
    /// Whether the watcher's role lacks `pg_monitor` there.
    pub(super) blind: bool,
    /// How long ago this standby last reported to its upstream.
    pub(super) silence: Duration,
    /// Whether it uses a replication slot (named after it).
    pub(super) uses_slot: bool,
    /// The name it presents to its upstream.
    pub(super) application_name: String,
    /// The host its configuration calls its upstream by, where that is not the upstream's name.
    pub(super) calls_upstream: Option<String>,
    /// Rows of log archivers and other followers that are none of our nodes.
    pub(super) strangers: Vec<Sender>,
    /// Bytes received of a record whose end is missing: the primary flushed a page's end and died.
    pub(super) half_record: u64,
}

/// All servers.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) servers: BTreeMap<NodeName, Server>,
}

/// A node's name from a text known to be good.
pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

impl Server {
    pub(super) fn new(name: &str) -> Self {
        Self {
            power: Power::On,
            hidden: false,
            system_id: OURS,
            in_recovery: false,
            timeline: Timeline(1),
            lsn: Lsn(0x100_0000),
            read_only: false,
            upstream: None,
            streaming: false,
            lagging: false,
            branches: Vec::new(),
            shows_history: true,
            blind: false,
            silence: Duration::ZERO,
            uses_slot: true,
            application_name: name.to_owned(),
            calls_upstream: None,
            strangers: Vec::new(),
            half_record: 0,
        }
    }

    /// All it has replayed, plus a record it has only half of; what a promoted server received stays as it was.
    fn received(&self) -> Option<Lsn> {
        let whole =
            if self.in_recovery { Some(self.lsn) } else { self.branches.last().map(|b| b.at) };
        whole.map(|lsn| Lsn(lsn.0 + self.half_record))
    }

    pub(super) fn writes(&self) -> bool {
        self.power == Power::On && !self.in_recovery
    }
}

impl World {
    pub(super) fn get(&self, node: &str) -> &Server {
        &self.servers[node]
    }

    pub(super) fn get_mut(&mut self, node: &str) -> &mut Server {
        self.servers.get_mut(node).unwrap()
    }

    /// A new server that is already a caught-up standby of `upstream`: a re-clone, a rewind, a first base backup.
    pub(super) fn rebuild(&mut self, node: &str, upstream: &str) {
        let source = self.get(upstream).clone();
        let server = self.servers.entry(name(node)).or_insert_with(|| Server::new(node));
        *server = Server {
            power: Power::On,
            in_recovery: true,
            read_only: false,
            streaming: source.power == Power::On,
            lagging: false,
            upstream: Some(name(upstream)),
            system_id: source.system_id,
            timeline: source.timeline,
            lsn: source.lsn,
            branches: source.branches,
            ..server.clone()
        };
    }

    /// The server stops being a standby and starts the next timeline.
    pub(super) fn promote(&mut self, node: &str) {
        let server = self.get_mut(node);
        server.branches.push(Branch { parent: server.timeline, at: server.lsn });
        server.timeline = Timeline(server.timeline.0 + 1);
        server.lsn = Lsn(server.lsn.0 + 0x60);
        (server.in_recovery, server.streaming, server.upstream) = (false, false, None);
    }

    /// A copy of `source` from a while ago, restored at `node`'s address and promoted: the same system identifier, a
    /// timeline of its own, and nobody follows it.
    pub(super) fn restore_copy(&mut self, node: &str, source: &str) {
        self.rebuild(node, source);
        let server = self.get_mut(node);
        let fork = server.branches.last().map_or(0x100_0000, |branch| branch.at.0);
        server.lsn = Lsn(fork + (server.lsn.0 - fork) / 2);
        self.promote(node);
    }

    /// A freshly initialised cluster at `node`'s address.
    pub(super) fn replace_by_stranger(&mut self, node: &str) {
        *self.get_mut(node) =
            Server { system_id: THEIRS, lsn: Lsn(0x900_0000), ..Server::new(node) };
    }

    /// Points a standby at another upstream; whether it can follow shows when log flows.
    pub(super) fn repoint(&mut self, node: &str, upstream: &str) {
        let server = self.get_mut(node);
        (server.upstream, server.streaming) = (Some(name(upstream)), false);
    }

    /// Log written by `node`, when it writes at all.
    pub(super) fn write(&mut self, node: &str, bytes: u64) {
        let server = self.get_mut(node);
        if server.writes() && !server.read_only {
            server.lsn = Lsn(server.lsn.0 + bytes);
        }
    }

    /// Lets log flow to every standby that can receive it, through cascades.
    pub(super) fn flow(&mut self) {
        for _ in 0..self.servers.len() {
            let before = self.servers.clone();
            for server in self.servers.values_mut().filter(|s| s.in_recovery) {
                let upstream = server.upstream.as_ref().and_then(|u| before.get(u));
                let Some(upstream) = upstream.filter(|u| u.power != Power::Off) else {
                    server.streaming = false;
                    continue;
                };
                // A frozen upstream stays `streaming` on its standbys for a minute.
                if server.power != Power::On || upstream.power == Power::Frozen {
                    continue;
                }
                server.streaming = can_follow(server, upstream);
                if server.streaming && !server.lagging {
                    server.timeline = upstream.timeline;
                    server.branches.clone_from(&upstream.branches);
                    server.lsn = upstream.lsn;
                }
            }
        }
    }

    /// What a probe of this node would see now.
    pub(super) fn evidence(&self, node: &str) -> Evidence {
        let server = self.get(node);
        Evidence {
            system_id: server.system_id,
            in_recovery: server.in_recovery,
            timeline: server.timeline,
            lsn: server.lsn,
            received: server.received(),
            read_only: server.read_only,
            receiver: (!server.blind).then(|| receiver(node, server)).flatten(),
            senders: if server.blind { Vec::new() } else { self.senders(node) },
            branches: if server.shows_history { server.branches.clone() } else { Vec::new() },
            server_version: 150_000,
            blind: server.blind,
        }
    }

    fn senders(&self, node: &str) -> Vec<Sender> {
        let follows = |s: &&Server| {
            s.in_recovery
                && s.streaming
                && s.power != Power::Off
                && s.upstream.as_ref().is_some_and(|u| u.as_str() == node)
        };
        let row = |(name, s): (&NodeName, &Server)| Sender {
            application_name: s.application_name.clone(),
            streaming: true,
            replayed: Some(s.lsn),
            age: Some(s.silence),
            slot: s.uses_slot.then(|| name.to_string()),
        };
        let ours = self.servers.iter().filter(|(_, s)| follows(s)).map(row);
        ours.chain(self.get(node).strangers.iter().cloned()).collect()
    }
}

fn receiver(node: &str, server: &Server) -> Option<Receiver> {
    let upstream = server.upstream.as_ref().filter(|_| server.in_recovery)?;
    Some(Receiver {
        streaming: server.streaming,
        host: server.calls_upstream.clone().unwrap_or_else(|| upstream.to_string()),
        port: 5432,
        timeline: Some(server.timeline),
        slot: server.uses_slot.then(|| node.to_owned()),
        application_name: Some(server.application_name.clone()),
    })
}

/// What PostgreSQL itself checks: the same cluster, and no log past the point where the upstream took another branch.
fn can_follow(server: &Server, upstream: &Server) -> bool {
    let fork = upstream.branches.iter().find(|branch| branch.parent == server.timeline);
    let before_fork = fork.is_some_and(|branch| server.lsn <= branch.at);
    let same = server.timeline == upstream.timeline && server.lsn <= upstream.lsn;
    server.system_id == upstream.system_id && (same || before_fork)
}
