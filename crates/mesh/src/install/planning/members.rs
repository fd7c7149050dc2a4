//! Who is a member, and by what number.

use herdsman_node::NodeName;

use super::Planning;
use crate::install::layout::FORMAT;
use crate::names;
use crate::setup::{Member, MemberState};
use crate::stamp::NodeId;

/// A number has ten bits in the keys that `herdsman.id()` makes.
const MOST: i16 = 1023;

impl Planning<'_> {
    /// Finds the numbers of all nodes: those they have, or the next ones that were never given.
    pub(super) fn count_members(&mut self) {
        let mesh = &self.setup.config.name;
        let longest = names::slot(mesh, NodeId(MOST)).map(drop);
        if let Err(error) = longest.and_then(|()| names::publication(mesh).map(drop)) {
            self.problem(format!("`mesh: name`: {error}"));
            return;
        }
        self.known();
        let first_time = self.members.is_empty();
        for node in self.order() {
            self.number(&node, first_time);
        }
        let left: Vec<String> = self
            .members
            .values()
            .filter(|member| {
                member.state != MemberState::Gone && !self.setup.config.nodes.contains(&member.name)
            })
            .map(|member| format!("`{}`", member.name))
            .collect();
        if !left.is_empty() {
            self.note(format!(
                "{} is a member and not in the configuration; take it out with `herdsman mesh remove`",
                left.join(", ")
            ));
        }
    }

    /// What the nodes know already.
    fn known(&mut self) {
        let mut problems = Vec::new();
        for (node, found) in &self.nodes {
            if let Some(own) = &found.own {
                if own.name != self.setup.config.name {
                    problems.push(format!(
                        "node `{node}` belongs to the mesh `{}`, not `{}`; take it out of that one first (`herdsman mesh down`), or give this one its name",
                        own.name, self.setup.config.name
                    ));
                    continue;
                }
                if own.format > FORMAT {
                    problems.push(format!(
                        "node `{node}` was prepared by a newer herdsman (layout {} after {FORMAT}); run that one",
                        own.format
                    ));
                }
                if own.node_name != node.as_str() {
                    problems.push(format!(
                        "node `{node}` knows itself as `{}`: it was renamed, or is a copy of that node; give it its old name, or begin with an empty database",
                        own.node_name
                    ));
                }
            }
            for member in &found.members {
                let same = |other: &&Member| other.id == member.id || other.name == member.name;
                let other = self.members.values().find(same).cloned();
                match other {
                    None => drop(self.members.insert(member.id, member.clone())),
                    Some(other) if other.id == member.id => {
                        let gone = |member: &Member| member.state == MemberState::Gone;
                        if other.name != member.name && !gone(&other) && !gone(member) {
                            problems.push(format!(
                                "member {} is `{}` for one node and `{}` for node `{node}`; mend herdsman.members on the one that is wrong",
                                member.id, other.name, member.name
                            ));
                        }
                        // A member's state only goes forward.
                        if rank(member.state) > rank(other.state) {
                            self.members.insert(member.id, member.clone());
                        }
                    }
                    Some(other) if other.state == MemberState::Gone => {
                        self.members.insert(member.id, member.clone());
                    }
                    Some(_) if member.state == MemberState::Gone => {
                        self.members.insert(member.id, member.clone());
                    }
                    Some(other) => problems.push(format!(
                        "`{}` is member {} for one node and {} for node `{node}`; mend herdsman.members on the one that is wrong",
                        member.name, other.id, member.id
                    )),
                }
            }
        }
        self.plan.problems.extend(problems);
    }

    fn number(&mut self, node: &NodeName, first_time: bool) {
        let own = self.nodes.get(node).and_then(|found| found.own.as_ref()).map(|own| own.node);
        let known = self
            .members
            .values()
            .find(|member| member.name == *node && member.state != MemberState::Gone)
            .cloned();
        match (own, known) {
            (Some(own), Some(known)) if own == known.id => drop(self.ids.insert(node.clone(), own)),
            (Some(own), Some(known)) => self.problem(format!(
                "node `{node}` knows itself as member {own}, and others know it as {}; mend herdsman.mesh there or herdsman.members on the others",
                known.id
            )),
            (Some(own), None) => self.problem(format!(
                "node `{node}` was member {own} and has left; drop its schemas `{}` and `{}` (`herdsman mesh down` does), then `herdsman mesh add {node}`",
                names::SCHEMA,
                names::GONE
            )),
            (None, Some(known)) if known.state == MemberState::Leaving => self.problem(format!(
                "node `{node}` is leaving the mesh; let that end, or take it out of `nodes`"
            )),
            (None, Some(known)) => drop(self.ids.insert(node.clone(), known.id)),
            (None, None) if first_time => self.new_member(node, MemberState::Active),
            (None, None) if self.options.joining.contains(node) => {
                self.new_member(node, MemberState::Joining);
            }
            (None, None) => self.problem(format!(
                "node `{node}` is no member of the mesh that is there; `herdsman mesh add {node}` makes it one"
            )),
        }
    }

    fn new_member(&mut self, node: &NodeName, state: MemberState) {
        let last = self.members.keys().next_back().map_or(0, |id| id.0);
        if last >= MOST {
            self.problem(format!("no number is left for node `{node}`: {MOST} were given"));
            return;
        }
        let id = NodeId(last + 1);
        self.members.insert(id, Member { id, name: node.clone(), state });
        self.ids.insert(node.clone(), id);
    }
}

const fn rank(state: MemberState) -> u8 {
    match state {
        MemberState::Joining => 0,
        MemberState::Active => 1,
        MemberState::Leaving => 2,
        MemberState::Gone => 3,
    }
}
