//! A member leaves, or is given up.
//!
//! A planned leave drains: users' writes are refused on the member, and everybody has all that was written there before it
//! is taken out. A member that is lost cannot be drained: what only some had received from it is spread among the others
//! ([`crate::heal`]), and only then it counts as gone. Either way its slots are dropped on both sides, so that nobody keeps
//! log for it.
//!
//! Interrupted anywhere, the same call goes on. Until the member is noted to be gone it can be called off instead
//! ([`cancel`]): that note is the one point of no return, and nothing that others need is dropped before it.

mod cancelling;
mod down;
mod slots;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::time::{Instant, sleep};

use crate::error::MeshError;
use crate::heal::{self, Spread};
use crate::install::{self, Plan, Step};
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::verify::scan;
use crate::verify::session::{Seat, Session};
use standing::{Mark, Standing};

pub use cancelling::cancel;
pub use down::down;

/// How to leave.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node is lost: it is not asked, and nothing is waited for.
    pub dead: bool,
    /// Even if it answers.
    pub force: bool,
    /// Leave the mesh's two columns in its tables.
    pub keep_columns: bool,
    /// Do not refuse users' writes while it is drained. What is written there after the others have drained it reaches
    /// nobody, and nobody is told.
    pub keep_writable: bool,
    /// How long the others may take to apply what it has written.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let patience = Duration::from_secs(600);
        Self { dead: false, force: false, keep_columns: false, keep_writable: false, patience }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Progress {
    /// The others apply what it has written.
    Draining {
        /// Links that have not come past it.
        behind: Vec<String>,
    },
    /// What only some had received from it is spread.
    Healing,
    /// Slots are dropped.
    Dropping,
    /// A step at the member itself: its writes are refused, in the end the mesh is removed from it.
    Removing(Step),
}

/// A member is gone.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Left {
    /// Its number, which is never given again.
    pub id: NodeId,
    /// Slots that were dropped on the others.
    pub slots: u64,
    /// Bytes of log that the others kept for it.
    pub freed: u64,
    /// What was spread, where it was lost.
    pub spread: Option<Spread>,
    /// What is left to do.
    pub notes: Vec<String>,
}

/// How long a node is tried that should be dead.
const ALIVE: Duration = Duration::from_secs(3);
/// How long nothing may have come from a lost member before it counts as all there is: a few times the pause between two
/// signs of life, and longer than a group is under way.
const QUIET: Duration = Duration::from_secs(3);

/// Takes `node` out.
///
/// # Errors
/// It is no member, the others have not applied everything in time, or, where it is said to be dead, it answers.
pub async fn remove(
    setup: &Arc<Setup>,
    node: &NodeName,
    options: &Options,
    mut tell: impl FnMut(&Progress),
) -> Result<Left, MeshError> {
    let standing = Standing::find(setup, node).await?;
    if standing.is_over(setup, options.dead).await? {
        return Err(standing::no_member(node));
    }
    let decided = standing.is_decided(setup, options.dead).await?;
    let Standing { member, others, .. } = standing;
    if others.is_empty() {
        return Err(MeshError::refused(
            format!("node `{node}` is the last member"),
            "take the whole mesh down with `herdsman mesh down`",
        ));
    }
    let mut left = Left { id: member.id, ..Left::default() };
    if options.dead {
        refuse_the_living(setup, node, options).await?;
    }
    match (decided, options.dead) {
        (true, _) => {}
        (false, true) => give_up(&others, &member, &mut left, &mut tell).await?,
        (false, false) => drained(setup, &others, &member, options, &mut tell).await?,
    }
    tell(&Progress::Dropping);
    (left.slots, left.freed) = slots::drop_for(setup, &others, member.id).await?;
    forget(&others, member.id).await?;
    if options.dead {
        left.notes.push(format!(
            "should node `{node}` ever start again, it must not be written: `herdsman mesh down {node}` makes it a database of its own, and `herdsman mesh add {node}` a member again"
        ));
    } else {
        let tell = |step: &Step| tell(&Progress::Removing(step.clone()));
        strip(setup, node, options.keep_columns, tell).await?;
    }
    left.notes.push(format!("take `{node}` out of `mesh.nodes` in the configuration"));
    Ok(left)
}

async fn refuse_the_living(
    setup: &Setup,
    node: &NodeName,
    options: &Options,
) -> Result<(), MeshError> {
    let Some(info) = setup.nodes.get(node) else { return Ok(()) };
    if options.force {
        return Ok(());
    }
    match tokio::time::timeout(ALIVE, Session::open(node, info)).await {
        Ok(Ok(_)) => Err(MeshError::refused(
            format!("node `{node}` answers"),
            "remove it without `--dead`, so that nothing it wrote is lost; `--force` gives it up all the same",
        )),
        _ => Ok(()),
    }
}

async fn set_state(seats: &[Seat], id: NodeId, state: MemberState) -> Result<(), MeshError> {
    let sql =
        "UPDATE herdsman.members SET state = $2 WHERE node = $1 AND state NOT IN ($2, 'gone')";
    for seat in seats {
        seat.session.execute("note what the member is", sql, &[&id.0, &state.name()]).await?;
    }
    Ok(())
}

/// Ends writes on the member, and waits until the others have all that was written there.
async fn drained(
    setup: &Arc<Setup>,
    others: &[Seat],
    member: &Member,
    options: &Options,
    tell: &mut impl FnMut(&Progress),
) -> Result<(), MeshError> {
    let leaving = Seat::open(setup, member.clone()).await?;
    set_state(others, member.id, MemberState::Leaving).await?;
    let own = std::slice::from_ref(&leaving);
    let mark = Mark::leaving(&leaving, member).await?;
    if !options.keep_writable {
        let mesh = &setup.config.name;
        let steps = install::guard(mesh, &member.name, &leaving.tables);
        let plan = Plan { steps, ..Plan::default() };
        install::carry_out(setup, &plan, |step| tell(&Progress::Removing(step.clone()))).await?;
    }
    let until = Instant::now() + options.patience;
    loop {
        let positions = scan::positions(own).await?;
        // The member itself is none of those that are asked.
        let lagging = scan::lagging(others, &positions, Duration::from_secs(1)).await?;
        let lags = |seat: &&Seat| lagging.iter().any(|(_, target)| *target == seat.id());
        let behind = others.iter().filter(lags);
        let behind: Vec<String> =
            behind.map(|seat| format!("{} to {}", member.name, seat.member.name)).collect();
        tell(&Progress::Draining { behind: behind.clone() });
        if behind.is_empty() {
            return mark.gone(&leaving).await;
        }
        if Instant::now() >= until {
            return Err(MeshError::TimedOut {
                node: member.name.clone(),
                what: format!(
                    "draining it: what it wrote has not come through from {} (is `herdsman run` at work?)",
                    behind.join(", ")
                ),
                seconds: options.patience.as_secs(),
            });
        }
    }
}

/// Spreads what some have received from a lost member.
async fn give_up(
    others: &[Seat],
    member: &Member,
    left: &mut Left,
    tell: &mut impl FnMut(&Progress),
) -> Result<(), MeshError> {
    // No more writes are routed to it; it stays in the frontier, so that tombstones it may lack are kept until the end.
    set_state(others, member.id, MemberState::Leaving).await?;
    // There are others: that was looked at.
    let Some(judge) = others.first() else { return Ok(()) };
    let mark = Mark::leaving(judge, member).await?;
    tell(&Progress::Healing);
    let mut spread: Option<Spread> = None;
    loop {
        let before = quiet(others, member.id).await?;
        let more = heal::lost(others, member.id).await?;
        match &mut spread {
            Some(spread) => spread.add(&more),
            None => spread = Some(more),
        }
        // What was on its way in this process or another's may have come while we looked.
        if quiet(others, member.id).await? == before {
            left.spread = spread;
            return mark.gone(judge).await;
        }
    }
}

/// How far everybody is with a member's changes, once that has not changed for a while.
async fn quiet(others: &[Seat], id: NodeId) -> Result<Vec<Option<herdsman_node::Lsn>>, MeshError> {
    let mut last = None;
    let mut since = Instant::now();
    loop {
        let mut now = Vec::with_capacity(others.len());
        for seat in others {
            now.push(scan::progress(seat).await?.get(&id).copied());
        }
        if last.as_ref() != Some(&now) {
            since = Instant::now();
            last = Some(now);
        } else if since.elapsed() >= QUIET {
            return Ok(now);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Nothing waits for the member any more.
async fn forget(others: &[Seat], id: NodeId) -> Result<(), MeshError> {
    for seat in others {
        let sql = "DELETE FROM herdsman.progress WHERE source = $1";
        seat.session.execute("forget how far it was with the member", sql, &[&id.0]).await?;
    }
    Ok(())
}

/// Removes the mesh from the node, once nobody works there any more.
async fn strip(
    setup: &Arc<Setup>,
    node: &NodeName,
    keep_columns: bool,
    tell: impl FnMut(&Step),
) -> Result<(), MeshError> {
    slots::wait_until_free(setup, node).await?;
    down::bare(setup, node, keep_columns, tell).await
}
