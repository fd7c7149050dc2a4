//! Slots on every node for every member, and where each member begins to read.

use herdsman_node::NodeName;
use herdsman_wal::SlotName;
use herdsman_wal::slot::Slot;

use super::Planning;
use crate::install::{How, POSITION, Step};
use crate::link::trouble::again;
use crate::names;
use crate::setup::MemberState;
use crate::stamp::NodeId;

impl Planning<'_> {
    pub(super) fn links(&mut self) {
        let (mut slots, mut beginnings) = (Vec::new(), Vec::new());
        let nodes = self.order();
        for source in &nodes {
            for target in &nodes {
                let Some(found) = self.nodes.get(source) else { continue };
                let (Some(from), Some(to)) = (self.ids.get(source), self.ids.get(target)) else {
                    continue;
                };
                let (from, to) = (*from, *to);
                let Ok(name) = names::slot(&self.setup.config.name, to) else { continue };
                let slot = found.slots.iter().find(|slot| slot.name == name).cloned();
                let known = self
                    .nodes
                    .get(target)
                    .is_some_and(|found| found.progress.contains_key(&from.0));
                match self.slot(source, target, &name, slot.as_ref(), known) {
                    None => {}
                    Some(there) => {
                        if !there {
                            slots.push(slot_step(source, target, name.clone()));
                        }
                        // A node that is joining begins to read when it has been filled.
                        if (!known || !there) && self.may_begin(source, target, to) {
                            beginnings.push(beginning(source, target, from, name));
                        }
                    }
                }
            }
        }
        self.plan.steps.extend(slots);
        self.plan.steps.extend(beginnings);
    }

    fn may_begin(&self, source: &NodeName, target: &NodeName, to: NodeId) -> bool {
        let joining =
            self.members.get(&to).is_some_and(|member| member.state == MemberState::Joining);
        !joining || source == target || self.options.joining.contains(target)
    }

    /// Whether the slot is there; none where something is wrong with it.
    fn slot(
        &mut self,
        source: &NodeName,
        target: &NodeName,
        name: &SlotName,
        slot: Option<&Slot>,
        known: bool,
    ) -> Option<bool> {
        let again = again(target);
        let problem = match slot {
            // What a node reads of its own is only a second look.
            None if !known || source == target => return Some(false),
            None => format!(
                "node `{source}` has lost the slot {name}: changes that `{target}` has not read yet may be lost; {again}"
            ),
            Some(slot) if !slot.database_is_ours => format!(
                "node `{source}` has a slot {name} for database `{}`; give this mesh another name",
                slot.database.as_deref().unwrap_or("none")
            ),
            Some(slot) if slot.plugin.as_deref() != Some("pgoutput") => {
                format!("node `{source}` has a slot {name} that the mesh has not made; drop it")
            }
            Some(slot) => match slot.lost() {
                // It is made again.
                Some(reason) if source == target => {
                    let sql = format!("SELECT pg_drop_replication_slot('{name}')");
                    let what = format!("drop the slot {name}, which is lost ({reason})");
                    self.plan.steps.push(Step::singly(source, what, vec![sql]));
                    return Some(false);
                }
                Some(reason) => {
                    format!("the slot {name} on node `{source}` is lost ({reason}); {again}")
                }
                None => return Some(true),
            },
        };
        self.problem(problem);
        None
    }
}

fn slot_step(source: &NodeName, target: &NodeName, name: SlotName) -> Step {
    let whose = if source == target { "itself".to_owned() } else { format!("`{target}`") };
    let sql = format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')");
    let how = How::Slot { name, failover: true };
    Step { how, ..Step::new(source, format!("keep the log for {whose} in a slot"), vec![sql]) }
}

fn beginning(source: &NodeName, target: &NodeName, from: NodeId, slot: SlotName) -> Step {
    let sql = format!(
        "INSERT INTO herdsman.progress (source, lsn) VALUES ({from}, {POSITION}) ON CONFLICT (source) DO UPDATE SET lsn = EXCLUDED.lsn, commit_lsn = NULL"
    );
    let whose = if source == target { "its own changes".to_owned() } else { format!("`{source}`") };
    let how = How::AtSlot { node: source.clone(), slot };
    Step { how, ..Step::new(target, format!("note from where {whose} is read"), vec![sql]) }
}
