//! Calling a leave off.

use std::sync::Arc;

use herdsman_node::NodeName;

use super::set_state;
use super::standing::{Standing, no_member, state};
use crate::error::MeshError;
use crate::install::{self, Plan, Step};
use crate::setup::{MemberState, Setup};
use crate::stamp::NodeId;
use crate::verify::scan;
use crate::verify::session::Seat;

/// Makes a member that leaves an ordinary one again, which users may write: after a [`remove`](super::remove) that was
/// interrupted or took too long, and while one is waiting, which then ends with an error. Links have never ceased to work,
/// so that nothing has to be made up for.
///
/// # Errors
/// It does not leave; it is gone already, so that only the leave can be finished; or it cannot be reached.
pub async fn cancel(
    setup: &Arc<Setup>,
    node: &NodeName,
    mut tell: impl FnMut(&Step),
) -> Result<NodeId, MeshError> {
    let Standing { member, others, said } = Standing::find(setup, node).await?;
    let id = member.id;
    if said.contains(&MemberState::Gone) {
        return Err(too_late(node));
    }
    let own = Seat::open(setup, member).await?;
    let before = state(&own.session, id).await?.ok_or_else(|| no_member(node))?;
    let leaves = before == MemberState::Leaving || said.contains(&MemberState::Leaving);
    if !leaves && !is_guarded(&own).await? {
        return Err(MeshError::refused(
            format!("node `{node}` does not leave"),
            "there is nothing to call off; see `herdsman mesh status`",
        ));
    }
    let streams = scan::progress(&own).await?;
    if before == MemberState::Joining || others.iter().any(|seat| !streams.contains_key(&seat.id()))
    {
        return Err(MeshError::refused(
            format!("node `{node}` had not all rows yet when its leave began"),
            format!(
                "finish with `herdsman mesh remove {node}`, empty its tables, and add it again"
            ),
        ));
    }
    // First here, where it is decided: whoever waits for it to be drained has lost then.
    let sql = "UPDATE herdsman.members SET state = 'active' WHERE node = $1 AND state IN ('leaving', 'active')";
    if own.session.execute("note that the member stays", sql, &[&id.0]).await? == 0 {
        return Err(too_late(node));
    }
    let plan = Plan { steps: install::unguard(node, &own.tables), ..Plan::default() };
    install::carry_out(setup, &plan, |step| tell(step)).await?;
    // Last on the others: as long as one of them says that it leaves, the same command goes on.
    for seat in &others {
        if state(&seat.session, id).await? == Some(MemberState::Gone) {
            return Err(too_late(node));
        }
        set_state(std::slice::from_ref(seat), id, MemberState::Active).await?;
    }
    Ok(id)
}

/// Whether users' writes are refused there.
async fn is_guarded(own: &Seat) -> Result<bool, MeshError> {
    let what = "look whether it refuses writes";
    let sql = "SELECT to_regprocedure('herdsman.leaving()') IS NOT NULL";
    own.session.get(what, &own.session.row(what, sql, &[]).await?, 0)
}

fn too_late(node: &NodeName) -> MeshError {
    MeshError::refused(
        format!("node `{node}` has left: the others go on without it already"),
        format!(
            "finish with `herdsman mesh remove {node}`; `herdsman mesh add {node}` makes it a member again"
        ),
    )
}
