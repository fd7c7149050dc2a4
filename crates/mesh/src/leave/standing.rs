//! How far a member's leave is, as the nodes say, and the point of no return.

use std::sync::Arc;

use herdsman_node::NodeName;

use crate::error::MeshError;
use crate::names;
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::verify::session::{Seat, Session, members, unknown};

const STATE: &str = "say what the member is";

/// A member that is to leave, and all others.
pub(super) struct Standing {
    pub(super) member: Member,
    /// By their numbers.
    pub(super) others: Vec<Seat>,
    /// What each of them says that it is.
    pub(super) said: Vec<MemberState>,
}

impl Standing {
    /// Asks the others; it itself may be lost.
    pub(super) async fn find(setup: &Arc<Setup>, node: &NodeName) -> Result<Self, MeshError> {
        let mut without = Setup::clone(setup);
        without.config.nodes.retain(|other| other != node);
        let known = match without.config.nodes.is_empty() {
            true => members(setup).await?,
            false => members(&Arc::new(without)).await?,
        };
        // Whoever came back has another number, and is meant.
        let named = known.iter().filter(|member| member.name == *node);
        let member = named.max_by_key(|member| member.id).cloned();
        let member = member.ok_or_else(|| no_member(node))?;
        let (mut others, mut said) = (Vec::new(), Vec::new());
        for other in known {
            if other.id != member.id && other.state != MemberState::Gone {
                others.push(Seat::open(setup, other).await?);
            }
        }
        others.sort_by_key(Seat::id);
        for seat in &others {
            said.extend(state(&seat.session, member.id).await?);
        }
        Ok(Self { member, others, said })
    }

    /// Whether somebody knows that it is gone: all that it wrote is with the others then, or nowhere.
    pub(super) async fn is_decided(&self, setup: &Setup, dead: bool) -> Result<bool, MeshError> {
        if self.said.contains(&MemberState::Gone) {
            return Ok(true);
        }
        if dead {
            return Ok(false);
        }
        let own = self.own_session(setup).await?;
        Ok(state(&own, self.member.id).await? == Some(MemberState::Gone))
    }

    /// Whether nothing is left to do.
    pub(super) async fn is_over(&self, setup: &Setup, dead: bool) -> Result<bool, MeshError> {
        if self.others.is_empty() || self.said.iter().any(|state| *state != MemberState::Gone) {
            return Ok(false);
        }
        let slot = names::slot(&setup.config.name, self.member.id)?;
        let sql = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1) OR EXISTS (SELECT FROM herdsman.progress WHERE source = $2)";
        let what = "look for what is kept for the member";
        for seat in &self.others {
            let row = seat.session.row(what, sql, &[&slot.as_str(), &self.member.id.0]).await?;
            if seat.session.get(what, &row, 0)? {
                return Ok(false);
            }
        }
        if dead {
            return Ok(true);
        }
        // One that cannot be asked any more has been switched off since.
        let Ok(own) = self.own_session(setup).await else { return Ok(true) };
        Ok(own_number(&own).await? != Some(self.member.id))
    }

    pub(super) async fn own_session(&self, setup: &Setup) -> Result<Session, MeshError> {
        let node = &self.member.name;
        let info = setup.nodes.get(node).ok_or_else(|| unknown(node))?;
        Session::open(node, info).await
    }
}

/// What a node says that a member is; nothing where it does not know it, or is in no mesh.
pub(super) async fn state(session: &Session, id: NodeId) -> Result<Option<MemberState>, MeshError> {
    let known = crate::install::members(&session.node, &session.client).await?;
    Ok(known.into_iter().find(|member| member.id == id).map(|member| member.state))
}

/// Who a node is for itself.
pub(super) async fn own_number(session: &Session) -> Result<Option<NodeId>, MeshError> {
    let there = session.row(STATE, "SELECT to_regclass('herdsman.mesh') IS NOT NULL", &[]).await?;
    if !session.get::<bool>(STATE, &there, 0)? {
        return Ok(None);
    }
    let rows = session.rows(STATE, "SELECT node FROM herdsman.mesh", &[]).await?;
    rows.first().map(|row| session.get(STATE, row, 0).map(NodeId)).transpose()
}

/// The note on one node that a member leaves. It is this command's own: whoever calls the leave off, or begins it anew,
/// writes another one.
pub(super) struct Mark {
    member: Member,
    version: String,
}

impl Mark {
    /// Notes it.
    pub(super) async fn leaving(seat: &Seat, member: &Member) -> Result<Self, MeshError> {
        let what = "note that the member leaves";
        let sql = "UPDATE herdsman.members SET state = 'leaving' WHERE node = $1 AND state <> 'gone' RETURNING xmin::text";
        let rows = seat.session.rows(what, sql, &[&member.id.0]).await?;
        match rows.first() {
            Some(row) => {
                let version = seat.session.get(what, row, 0)?;
                Ok(Self { member: member.clone(), version })
            }
            None => Err(in_between(&member.name)),
        }
    }

    /// The point of no return: from here on it can only go.
    pub(super) async fn gone(self, seat: &Seat) -> Result<(), MeshError> {
        let sql = "UPDATE herdsman.members SET state = 'gone' WHERE node = $1 AND state = 'leaving' AND xmin::text = $2";
        let what = "note that the member is gone";
        match seat.session.execute(what, sql, &[&self.member.id.0, &self.version]).await? {
            0 => Err(in_between(&self.member.name)),
            _ => Ok(()),
        }
    }
}

fn in_between(node: &NodeName) -> MeshError {
    MeshError::refused(
        format!(
            "node `{node}`: another command has called its leave off meanwhile, or goes on with it"
        ),
        format!(
            "nothing was dropped by this one; should it stay, run `herdsman mesh remove {node} --cancel` once nothing else is at work on it"
        ),
    )
}

pub(super) fn no_member(node: &NodeName) -> MeshError {
    MeshError::refused(
        format!("node `{node}` is no member of the mesh"),
        "see `herdsman mesh status` for who is",
    )
}
