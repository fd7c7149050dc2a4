//! `node_priority`, `first_insert_wins`, `handler`: policies that answer.
//!
//! None of them changes what is held of two versions: that is always the greater ([`super::join`]). Whose version was
//! overwritten by a writer that did not know it may answer, with an ordinary new version written over the winner.
//!
//! **Why it converges.** Answers are versions like any other, so members that have received the same ones hold the same
//! rows, with or without them. **Why it ends.** An answer has seen the version it answers, whose writer therefore has
//! nothing to answer in turn. Of versions that do not know each other all but the greatest may be answered for, and
//! those answers leave one fewer that do not know each other each time; when users write nothing more, it is over after
//! as many rounds as there were members writing at once. Under `node_priority` a member answers only less important
//! ones, so that the most important one's version is what remains. Only conflicts that are [sure](super::Conflict::sure)
//! are answered, and only by the member that wrote the loser: nobody else.
//!
//! While it lasts, readers see the winner first and the answer after it.

use super::Version;
use crate::stamp::{NodeId, Stamp};

/// What a function of the user's makes of the older and the newer row, either `None` where it was deleted. It must be
/// deterministic.
pub type Handler<'a, R> = &'a dyn Fn(Option<&R>, Option<&R>) -> Option<R>;

/// A policy that answers.
pub enum Policy<'a, R> {
    /// Of two insertions the first is kept.
    FirstInsertWins,
    /// Of two versions that of the more important member is kept: the most important first, all others after them.
    NodePriority(&'a [NodeId]),
    /// What a function says is kept.
    Handler(Handler<'a, R>),
}

/// A version to be written over the winner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<R> {
    /// This row.
    Write(R),
    /// A deletion.
    Delete,
}

/// What the writer of `loser` does about its being overwritten by a `winner` whose writer did not know it: nothing, or
/// an answer. To be asked once, where the loser was written, when the winner takes its place.
///
/// ```
/// use herdsman_mesh::resolve::Version;
/// use herdsman_mesh::resolve::answer::{Answer, Policy, answer};
/// use herdsman_mesh::{NodeId, Stamp};
/// let inserted = |node, micros, row| Version {
///     stamp: Stamp::new(micros, NodeId(node)),
///     seen: Stamp::NONE,
///     row: Some(row),
/// };
/// let (loser, winner) = (inserted(1, 5, "first"), inserted(2, 6, "second"));
/// assert_eq!(answer(&loser, &winner, &Policy::FirstInsertWins), Some(Answer::Write("first")));
/// assert_eq!(answer(&loser, &winner, &Policy::NodePriority(&[NodeId(2)])), None);
/// ```
pub fn answer<R: Clone + PartialEq>(
    loser: &Version<R>,
    winner: &Version<R>,
    policy: &Policy<'_, R>,
) -> Option<Answer<R>> {
    let kept = match policy {
        Policy::FirstInsertWins => {
            let both = loser.seen == Stamp::NONE && winner.seen == Stamp::NONE;
            (both && loser.row.is_some() && winner.row.is_some()).then(|| loser.row.clone())?
        }
        Policy::NodePriority(order) => {
            let place = |version: &Version<R>| {
                order.iter().position(|node| *node == version.stamp.node).unwrap_or(order.len())
            };
            (place(loser) < place(winner)).then(|| loser.row.clone())?
        }
        Policy::Handler(of) => of(loser.row.as_ref(), winner.row.as_ref()),
    };
    if kept == winner.row {
        return None;
    }
    Some(kept.map_or(Answer::Delete, Answer::Write))
}
