//! How each node looks in the topology: its role, whether it may be read, and why not.

use std::collections::BTreeMap;

use herdsman_node::{NodeName, Role, SystemId};

use super::attest::{self, Stance};
use super::{Judge, NodeState};
use crate::Moment;
use crate::config::SplitBrain;
use crate::evidence::Evidence;
use crate::topology::{NodeView, Verdict, Why};

/// What all the views of one verdict are made from.
pub(super) struct Look<'a> {
    pub(super) judge: &'a Judge,
    pub(super) nodes: &'a BTreeMap<NodeName, NodeState>,
    pub(super) now: Moment,
    pub(super) verdict: &'a Verdict,
    pub(super) stances: &'a BTreeMap<NodeName, Stance>,
    pub(super) cluster: Option<SystemId>,
}

impl Look<'_> {
    /// Every node as it looks under this verdict.
    pub(super) fn views(&self) -> BTreeMap<NodeName, NodeView> {
        self.nodes.iter().map(|(name, state)| (name.clone(), self.view(name, state))).collect()
    }

    fn view(&self, name: &NodeName, state: &NodeState) -> NodeView {
        let last = state.evidence.as_ref().map(|(_, evidence)| &**evidence);
        let mut view = NodeView {
            system_id: last.map(|e| e.system_id),
            timeline: last.map(|e| e.timeline),
            lsn: last.map(|e| e.lsn),
            server_version: last.map(|e| e.server_version),
            evidence_at: state.evidence.as_ref().map(|(at, _)| *at),
            error: state.error.clone().or_else(|| state.shut.clone()),
            // Who cannot be asked is as late as it was.
            lag_alarm: self.was_late(name),
            ..NodeView::default()
        };
        let Some(evidence) = state.live(self.now, self.judge.lease()) else {
            view.reasons
                .push(state.error.clone().unwrap_or_else(|| "it has not answered yet".to_owned()));
            return view;
        };
        view.latency_seconds = state.latency;
        if let Some(ours) = self
            .cluster
            .filter(|&ours| self.judge.rules.filter_foreign && ours != evidence.system_id)
        {
            view.foreign = true;
            view.lag_alarm = false;
            let theirs = evidence.system_id;
            view.reasons.push(format!(
                "it belongs to another cluster (system identifier {theirs}, ours is {ours})"
            ));
            return view;
        }
        view.heartbeat = state.heartbeat.clone();
        view.role = if evidence.in_recovery { Role::Standby } else { Role::Primary };
        if evidence.blind {
            view.reasons.push(
                "our role lacks pg_monitor there, so that nobody can be seen following; \
                               run: GRANT pg_monitor TO the monitoring role"
                    .to_owned(),
            );
        }
        view.member = self.judge.config.mesh.contains(name);
        view.lag_alarm = false;
        match view.role {
            _ if !self.judge.config.mesh.is_empty() => self.view_in_mesh(evidence, &mut view),
            Role::Primary => self.view_claimant(name, evidence, &mut view),
            _ => self.view_standby(name, state, evidence, &mut view),
        }
        view
    }

    /// Members take writes each on their own; whatever else there is belongs to one of them, or to none.
    fn view_in_mesh(&self, evidence: &Evidence, view: &mut NodeView) {
        let reason = match (view.member, view.role) {
            (true, Role::Primary) if !evidence.read_only => None,
            (true, Role::Primary) => {
                Some("it refuses writes (default_transaction_read_only is on)")
            }
            (true, _) => Some("a member of the mesh takes writes, and this is a standby"),
            (false, _) => Some("it is no member of the mesh (mesh.nodes)"),
        };
        view.readable = reason.is_none();
        view.reasons.extend(reason.map(str::to_owned));
    }

    fn view_claimant(&self, name: &NodeName, evidence: &Evidence, view: &mut NodeView) {
        let accepted = matches!(self.verdict, Verdict::Primary { node, .. } if node == name);
        view.readable = accepted;
        if accepted {
            return;
        }
        if evidence.read_only {
            view.reasons.push("it refuses writes (default_transaction_read_only is on)".to_owned());
        }
        let left = self
            .judge
            .memory
            .incumbent
            .as_ref()
            .is_some_and(|i| i.node != *name && evidence.timeline < i.timeline);
        if self.judge.memory.fences.contains_key(name) || left {
            view.fenced = true;
            let reason = "it accepts writes but was left for a newer primary; \
                          rebuild it as a standby (pg_rewind) to bring it back";
            view.reasons.push(reason.to_owned());
            // The predecessor's rule shows every claim, so that two are seen to be two.
            if self.judge.config.split_brain == SplitBrain::Proof {
                view.role = Role::Unavailable;
            }
        } else {
            view.reasons.push("it accepts writes and is not the proven primary".to_owned());
        }
    }

    fn view_standby(
        &self,
        name: &NodeName,
        state: &NodeState,
        evidence: &Evidence,
        view: &mut NodeView,
    ) {
        let stance = self.stances.get(name);
        if let Some(Stance::Follows(upstream)) = stance {
            view.follows = Some(upstream.clone());
        }
        let incumbent = self.judge.memory.incumbent.as_ref();
        view.lag = incumbent
            .filter(|i| evidence.timeline == i.timeline)
            .and_then(|_| self.judge.track.lag(evidence.lsn, self.now));
        let (alarm, was) = (&self.judge.config.lag_alarm, self.was_late(name));
        view.lag_alarm = view.lag.map_or(was, |lag| alarm.is_on(was, &lag));

        let mut obstacles = Vec::new();
        if state.streak < self.judge.config.healthy_checks {
            obstacles.push(format!(
                "{} of {} good probes since it came back",
                state.streak, self.judge.config.healthy_checks
            ));
        }
        if state.damped_until.is_some_and(|until| self.now < until) {
            obstacles.push("it came and went too often lately (watch.damping)".to_owned());
        }
        if let Some(lag) = view.lag {
            let late =
                self.judge.config.max_lag.time.is_some_and(|max| lag.seconds > max.as_secs_f64());
            if late || self.judge.config.max_lag.bytes.is_some_and(|max| lag.bytes > max) {
                let (bytes, seconds) = (lag.bytes, lag.seconds);
                obstacles
                    .push(format!("it is {bytes} bytes and {seconds:.1} s behind (watch.max_lag)"));
            }
        }
        obstacles.extend(self.divergence(name, evidence));
        if let (Some(root), Some(incumbent)) = (attest::root(name, self.stances), incumbent)
            && *root != incumbent.node
        {
            obstacles.push(format!("it follows {root}, which is not the proven primary"));
        }
        match self.verdict {
            Verdict::SplitBrain { .. } if !self.judge.memory.attachments.contains_key(name) => {
                obstacles.push(
                    "during a split brain only standbys of the last proven primary are read"
                        .to_owned(),
                );
            }
            Verdict::None { why: Why::UnknownCluster, .. } => {
                obstacles.push("nobody knows which cluster is ours".to_owned());
            }
            _ => {}
        }
        view.readable = obstacles.is_empty();
        view.reasons.append(&mut obstacles);
        if stance == Some(&Stance::Detached) && view.reasons.is_empty() {
            view.reasons.push("it follows no node that says so too".to_owned());
        }
    }

    /// Whether its alarm was on before, and there is one still.
    fn was_late(&self, name: &NodeName) -> bool {
        self.judge.config.lag_alarm.is_set() && self.judge.late.contains(name)
    }

    /// Why a standby must not be read although it answers: it is on a branch that the primary has left.
    fn divergence(&self, name: &NodeName, evidence: &Evidence) -> Option<String> {
        let incumbent = self.judge.memory.incumbent.as_ref()?;
        let detached = *self.judge.detached.get(name)?;
        if evidence.timeline > incumbent.timeline {
            return Some(format!(
                "it is on timeline {}, the primary on {}",
                evidence.timeline, incumbent.timeline
            ));
        }
        if evidence.timeline == incumbent.timeline {
            return None;
        }
        let primary =
            self.nodes.get(&incumbent.node).and_then(|s| s.evidence.as_ref()).map(|(_, e)| e);
        let beyond =
            primary.and_then(|e| e.left(evidence.timeline)).filter(|fork| evidence.lsn > *fork);
        if let Some(fork) = beyond {
            let timeline = evidence.timeline;
            return Some(format!(
                "it replayed timeline {timeline} past {fork}, where the primary left it; it needs pg_rewind"
            ));
        }
        let lost = self.now.since(detached) >= self.judge.config.suspect_grace;
        lost.then(|| format!("it follows nobody and is still on timeline {}", evidence.timeline))
    }
}
