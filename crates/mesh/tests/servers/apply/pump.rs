//! One member's changes carried to another by hand: as the engine does, and stopped wherever a test wants.

use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::apply::{Applied, Applier};
use herdsman_mesh::group::{End, Group};
use herdsman_mesh::{Member, MeshError, NodeId, install, names};
use herdsman_node::{Conninfo, Lsn, Tls};
use herdsman_wal::{Catalogue, Event, Replication, Start, Stream, StreamOptions};
use tokio::time::timeout;

use crate::proof::{DEADLINE, Mesh, name};

const LIMIT: Duration = Duration::from_secs(20);

/// Carries what `source` writes to `target`.
pub(crate) struct Pump {
    stream: Stream,
    source: NodeId,
    within: Option<Group>,
    /// Everything before is handed over.
    pub(crate) read: Lsn,
    /// Everything before was applied when this began.
    applied: Lsn,
}

pub(crate) async fn member(mesh: &Mesh, node: &str) -> Member {
    let client = mesh.root(node).await;
    let members = install::members(&name(node), &client).await.unwrap();
    members.into_iter().find(|member| member.name == name(node)).unwrap()
}

pub(crate) fn info(mesh: &Mesh, node: &str) -> Conninfo {
    mesh.setup.nodes[&name(node)].clone()
}

pub(crate) async fn applier(mesh: &Mesh, node: &str) -> Applier {
    let setup = Arc::new(mesh.setup.clone());
    Applier::open(&setup, &member(mesh, node).await, &info(mesh, node)).await.unwrap()
}

impl Pump {
    pub(crate) async fn start(mesh: &Mesh, source: &str, applier: &Applier) -> Self {
        let source_member = member(mesh, source).await;
        let applied = applier.progress().await.unwrap()[&source_member.id].lsn;
        let (info, name) = (info(mesh, source), &mesh.setup.config.name);
        let tls = Tls::new(&info).unwrap();
        let replication = Replication::connect(&info, &tls, LIMIT).await.unwrap();
        let start = Start {
            slot: names::slot(name, applier.member.id).unwrap(),
            publications: vec![names::publication(name).unwrap()],
            from: Lsn(0),
            options: StreamOptions {
                local_only: true,
                messages: false,
                ..StreamOptions::default()
            },
        };
        let stream = replication.start(start).await.unwrap();
        let stream = stream.with_catalogue(Catalogue::new(info, tls, LIMIT));
        Self { stream, source: source_member.id, within: None, read: applied, applied }
    }

    /// The next group: full (`most` keys, in the middle of a transaction if need be) or complete, with everything up to
    /// `until`; `None`: all of that has been read.
    pub(crate) async fn next(&mut self, until: Lsn, most: usize) -> Option<Group> {
        let mut group = self.within.take().unwrap_or_else(|| Group::new(self.source));
        let mut skip = false;
        while self.read < until || group.end.is_none() && group.changes > 0 {
            let event = timeout(DEADLINE, self.stream.next()).await.expect("changes come").unwrap();
            match event {
                Event::Begin(transaction) => skip = transaction.commit_lsn < self.applied,
                Event::Change(change) if !skip => {
                    group.push(&change).unwrap();
                    if group.rows() >= most {
                        return Some(group);
                    }
                }
                Event::Commit { transaction, end_lsn } => {
                    self.read = end_lsn;
                    if !skip {
                        let (commit_lsn, time) = (transaction.commit_lsn, transaction.commit_time);
                        group.commit(End { lsn: end_lsn, commit_lsn, time });
                        if self.read >= until || group.rows() * 2 >= most {
                            return Some(group);
                        }
                    }
                }
                Event::Idle { wal_end } => self.read = self.read.max(wal_end),
                _ => {}
            }
        }
        (group.transactions > 0).then_some(group)
    }

    /// Applies everything the source has written up to now.
    pub(crate) async fn carry(
        &mut self,
        mesh: &Mesh,
        source: &str,
        applier: &mut Applier,
        most: usize,
    ) -> Result<Applied, MeshError> {
        let until = end_of_log(mesh, source).await;
        let mut all = Applied::default();
        while let Some(group) = self.next(until, most).await {
            let applied = applier.apply(std::slice::from_ref(&group), false).await?;
            all.rows += applied.rows;
            all.conflicts += applied.conflicts;
        }
        Ok(all)
    }

    pub(crate) async fn close(self) {
        self.stream.close().await;
    }
}

/// Two members, `n1` and `n2`, with all four streams.
pub(crate) struct Both {
    one: Applier,
    two: Applier,
    to_one: Pump,
    to_two: Pump,
    own_one: Pump,
    own_two: Pump,
}

impl Both {
    pub(crate) async fn start(mesh: &Mesh) -> Self {
        let (one, two) = (applier(mesh, "n1").await, applier(mesh, "n2").await);
        Self {
            to_one: Pump::start(mesh, "n2", &one).await,
            to_two: Pump::start(mesh, "n1", &two).await,
            own_one: Pump::start(mesh, "n1", &one).await,
            own_two: Pump::start(mesh, "n2", &two).await,
            one,
            two,
        }
    }

    pub(crate) async fn carry(&mut self, mesh: &Mesh, rounds: usize) {
        for _ in 0..rounds {
            self.to_two.carry(mesh, "n1", &mut self.two, 20).await.unwrap();
            self.own_two.carry(mesh, "n2", &mut self.two, 20).await.unwrap();
            self.to_one.carry(mesh, "n2", &mut self.one, 20).await.unwrap();
            self.own_one.carry(mesh, "n1", &mut self.one, 20).await.unwrap();
        }
    }
}

pub(crate) async fn end_of_log(mesh: &Mesh, node: &str) -> Lsn {
    // Whatever was committed is before it, and the commit behind it makes the server say so. (Switching to another segment
    // does not always write something: the end of an empty one is never read.)
    let message = "SELECT pg_logical_emit_message(true, 'test', '')";
    let end = mesh.ask(node, message).await.unwrap();
    end.parse().unwrap()
}
