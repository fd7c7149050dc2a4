//! The herd under simulated topologies, and its own questions on real servers.

mod choosing;
mod guards;
mod keeping;
mod servers;
mod tides;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman::policy::Want;
use herdsman::policy::balance::Load;
use herdsman_node::{Conninfo, Lsn, NodeName, Role, SystemId, Timeline};
use herdsman_watch::{Moment, NodeView, Proof, Topology, Verdict, Watch, Why};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Causal, Choice, Herd, Loss, Options, Sever};
use crate::config::{Target, WriteGuard};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Nodes of these roles, all readable, under a verdict.
fn topology(verdict: Verdict, nodes: &[(&str, Role)]) -> Topology {
    let view = |role: Role| NodeView {
        role,
        readable: role == Role::Standby,
        reasons: if role == Role::Unavailable { vec!["it is gone".to_owned()] } else { Vec::new() },
        error: (role == Role::Unavailable).then(|| "refused".to_owned()),
        evidence_at: Some(Moment::default()),
        timeline: Some(Timeline(1)),
        ..NodeView::default()
    };
    Topology {
        version: 1,
        term: 1,
        system_id: Some(SystemId(7)),
        verdict,
        nodes: nodes.iter().map(|(node, role)| (name(node), view(*role))).collect(),
    }
}

fn primary(node: &str) -> Verdict {
    Verdict::Primary {
        node: name(node),
        timeline: Timeline(1),
        proof: Proof::Attested,
        reason: "everybody follows it".to_owned(),
    }
}

fn nobody() -> Verdict {
    Verdict::None { why: Why::NoQuorum, reason: "too few nodes agree".to_owned() }
}

fn split_brain(claimants: &[&str]) -> Verdict {
    Verdict::SplitBrain {
        claimants: claimants.iter().map(|node| name(node)).collect(),
        reason: "two claim it".to_owned(),
    }
}

/// One primary and its standbys.
fn healthy(nodes: usize) -> Topology {
    let names: Vec<String> = (1..=nodes).map(|number| format!("n{number}")).collect();
    let role = |index: usize| if index == 0 { Role::Primary } else { Role::Standby };
    let nodes: Vec<(&str, Role)> =
        names.iter().enumerate().map(|(index, node)| (node.as_str(), role(index))).collect();
    topology(primary("n1"), &nodes)
}

/// What was cut.
#[derive(Debug, Default)]
struct Cuts(Mutex<Vec<(usize, Loss)>>);

impl Sever for Cuts {
    fn sever(&self, node: usize, loss: Loss, _why: &str) {
        self.0.lock().unwrap().push((node, loss));
    }
}

impl Cuts {
    fn take(&self) -> Vec<(usize, Loss)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A herd, and the hand that gives it topologies.
struct Simulated {
    herd: Arc<Herd>,
    publish: watch::Sender<Arc<Topology>>,
}

const OPTIONS: Options = Options {
    read_in_split_brain: true,
    write_guard: WriteGuard::Off,
    guard_lease: Duration::from_secs(1),
};

impl Simulated {
    fn new(first: Topology, options: Options) -> Self {
        let conninfo = |node: &NodeName| {
            // Nobody listens there.
            let info: Conninfo = "host=127.0.0.1 port=1 user=u".parse().unwrap();
            (node.clone(), info)
        };
        let nodes: BTreeMap<NodeName, Conninfo> = first.nodes.keys().map(conninfo).collect();
        let (publish, receiver) = watch::channel(Arc::new(first));
        let herd = Herd::new(&nodes, Watch::detached(receiver), options);
        Self { herd, publish }
    }

    /// Follows what is published from now on.
    fn start(&self) -> (Arc<Cuts>, tokio_util::sync::DropGuard) {
        let (cuts, stop) = (Arc::<Cuts>::default(), CancellationToken::new());
        self.herd.start(Arc::<Cuts>::clone(&cuts), &stop);
        (cuts, stop.drop_guard())
    }

    /// Publishes, and waits until it is in force.
    async fn publish(&self, mut topology: Topology) {
        let version = self.publish.borrow().version + 1;
        topology.version = version;
        self.publish.send_replace(Arc::new(topology));
        until(|| self.herd.topology().version == version).await;
    }

    fn choose(&self, want: Want, target: &Target) -> Choice {
        self.choose_with(want, target, None, &mut Causal::default(), &[])
    }

    fn choose_with(
        &self,
        want: Want,
        target: &Target,
        group: Option<&Arc<[NodeName]>>,
        causal: &mut Causal,
        tried: &[usize],
    ) -> Choice {
        let load = |_| Load::default();
        self.herd.choose(want, target, group, causal, tried, load)
    }
}

/// Waits for a condition, within a deadline.
async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the condition never came");
}

/// Where it goes, without the epoch.
fn place(choice: Choice) -> Option<(usize, bool)> {
    match choice {
        Choice::Node { node, writer, .. } => Some((node, writer)),
        Choice::Wait | Choice::Refuse => None,
    }
}
