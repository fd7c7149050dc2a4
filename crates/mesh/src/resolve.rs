//! The heart: what becomes of a row when a version of it arrives. Pure: no I/O, no clock, no randomness.
//!
//! What members hold of one key is its greatest version; a deletion is a version without a row, and a truncation one of
//! every key of its table. The SQL that applies groups of changes ([`crate::apply`]) does the same for many keys at
//! once; a test holds the two against each other.
//!
//! - [`join`]: what is held afterwards. Taking the greater of two is commutative, associative and idempotent, so members
//!   that have received the same versions hold the same ones.
//! - [`Version::then`]: several changes of one key by one member, taken together.
//! - [`conflict`]: whether a writer overwrote what it did not know, which is recorded and changes nothing.
//! - [`unique`]: which rows are visible where two claim the same value.
//! - [`frontier`]: which tombstones nobody needs any more.
//! - [`parts`] and [`answer`]: other policies than the last update's winning.
//!
//! # Who records a conflict
//! Each member for itself, when a version arrives. A member always has in hand what it wrote itself when somebody
//! else's version takes its place, so no write is lost without a record at least where it was made. Of a chain of three
//! members it may be impossible to say whether the last knew the first; then it is recorded too, as not [sure]
//! (`Conflict::sure`): rather one record too many than a lost row without any.
//!
//! [sure]: Conflict::sure

pub mod answer;
pub mod frontier;
pub mod parts;
mod recent;
#[cfg(test)]
mod tests;
pub mod unique;
pub mod untouched;

pub use recent::Recent;

use crate::stamp::Stamp;

/// A version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<R> {
    /// When and where it was written.
    pub stamp: Stamp,
    /// The version its writer replaced, [`Stamp::NONE`] for an insertion. Of several changes taken together: see
    /// [`Version::then`].
    pub seen: Stamp,
    /// The row; `None` for a deletion.
    pub row: Option<R>,
}

impl<R> Version<R> {
    /// This and the next change of the same key by the same member, taken together.
    ///
    /// It is the greater of the two, and has seen what the first of its unbroken run has: a change continues the run if
    /// it replaced the one before, or inserts what that deleted. Otherwise something of another member's came between,
    /// which its writer had seen.
    ///
    /// ```
    /// use herdsman_mesh::resolve::Version;
    /// use herdsman_mesh::{NodeId, Stamp};
    /// let at = |micros| Stamp::new(micros, NodeId(1));
    /// let first = Version { stamp: at(7), seen: at(3), row: Some("a") };
    /// let second = Version { stamp: at(9), seen: at(7), row: Some("b") };
    /// assert_eq!(first.then(second), Version { stamp: at(9), seen: at(3), row: Some("b") });
    /// ```
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        if join(Some(&self), &next) == Verdict::Keep {
            return self;
        }
        let born_again = self.row.is_none() && next.seen == Stamp::NONE;
        let unbroken = next.seen == self.stamp || born_again;
        Self { seen: if unbroken { self.seen } else { next.seen }, ..next }
    }
}

/// What becomes of an arriving version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It takes the place of what is held.
    Apply,
    /// What is held stays.
    Keep,
}

/// What two versions of a key have to do with each other, where neither writer knew the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// Both inserted it.
    InsertInsert,
    /// Both changed it.
    UpdateUpdate,
    /// One changed what the other deleted.
    UpdateDelete,
    /// Both hold the same value of another unique constraint.
    Unique,
    /// One wrote rows that the other's TRUNCATE removed.
    Truncate,
}

/// A writer overwrote what it did not know, or may not have known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What the two are.
    pub kind: ConflictKind,
    /// What becomes of the arriving one; the other loses.
    pub verdict: Verdict,
    /// Whether it is certain that the winner's writer did not know the loser.
    pub sure: bool,
}

/// Whether an arriving version takes the place of what is held.
///
/// ```
/// use herdsman_mesh::resolve::{Verdict, Version, join};
/// use herdsman_mesh::{NodeId, Stamp};
/// let version = |micros, row| Version { stamp: Stamp::new(micros, NodeId(1)), seen: Stamp::NONE, row };
/// let (held, arriving) = (version(7, Some("old")), version(9, None));
/// assert_eq!(join(Some(&held), &arriving), Verdict::Apply);
/// ```
pub fn join<R>(held: Option<&Version<R>>, arriving: &Version<R>) -> Verdict {
    match held {
        None => Verdict::Apply,
        Some(held) if held.stamp < arriving.stamp => Verdict::Apply,
        // Of one writer and one microsecond the row is the later: a deletion is always above what it deletes.
        Some(held)
            if held.stamp == arriving.stamp && held.row.is_none() && arriving.row.is_some() =>
        {
            Verdict::Apply
        }
        Some(_) => Verdict::Keep,
    }
}

/// Whether a writer knew a version, by the stamp it wrote and the ones it is known to have replaced: `None` if that
/// cannot be said.
///
/// It did if it wrote both itself, if it replaced just that one, or a later one of the same writer. It did not if what
/// it replaced is older. Otherwise it replaced a third member's version, which may or may not have been written over
/// that one.
#[must_use]
pub fn knew(later: Stamp, replaced: &[Stamp], earlier: Stamp) -> Option<bool> {
    let newer = |of: &&Stamp| **of >= earlier;
    if later.node == earlier.node || replaced.iter().filter(newer).any(|of| of.node == earlier.node)
    {
        return Some(true);
    }
    // What was replaced is a chain, the latest first; a gap below its last is not known.
    replaced.iter().any(|of| *of < earlier).then_some(false)
}

/// Whether the meeting of what is held and an arriving version is a conflict. `replaced` is what the held one's writer is
/// known to have replaced, the latest first: of a tombstone what it says itself, else what [`Recent`] remembers.
///
/// That a deletion gives way to an insertion is none (who inserts has seen that there is nothing), nor are two deletions.
pub fn conflict<R>(
    held: &Version<R>,
    replaced: &[Stamp],
    arriving: &Version<R>,
) -> Option<Conflict> {
    met(held, replaced, arriving, &[arriving.seen])
}

/// [`conflict`] for versions that do not come from their writer's stream: of either is known what it replaced, or (empty)
/// not.
pub fn met<R>(
    held: &Version<R>,
    held_replaced: &[Stamp],
    arriving: &Version<R>,
    arriving_replaced: &[Stamp],
) -> Option<Conflict> {
    if held.stamp == arriving.stamp {
        return None;
    }
    let verdict = join(Some(held), arriving);
    let (later, replaced, earlier) = match verdict {
        Verdict::Apply => (arriving, arriving_replaced, held),
        Verdict::Keep => (held, held_replaced, arriving),
    };
    let inserted = match replaced {
        [.., first, Stamp::NONE] => Some(*first),
        [Stamp::NONE] => Some(later.stamp),
        _ => None,
    };
    let gave_way = later.row.is_none() || inserted.is_some_and(|at| at > earlier.stamp);
    if earlier.row.is_none() && gave_way {
        return None;
    }
    let known = knew(later.stamp, replaced, earlier.stamp);
    let inserting = arriving_replaced == [Stamp::NONE];
    let kind = match (&held.row, &arriving.row) {
        (Some(_), Some(_)) if inserting => ConflictKind::InsertInsert,
        (Some(_), Some(_)) => ConflictKind::UpdateUpdate,
        _ => ConflictKind::UpdateDelete,
    };
    (known != Some(true)).then_some(Conflict { kind, verdict, sure: known == Some(false) })
}

/// Whether a row that a truncation removes was unknown to who truncated: `known` is how far that member had then got
/// with the row's writer ([`crate::apply::Progress::heartbeat`]).
#[must_use]
pub fn truncated_unseen(truncation: Stamp, known: Option<i64>, row: Stamp) -> bool {
    row < truncation && row.node != truncation.node && known.is_none_or(|known| row.micros > known)
}

/// Why the greater of two versions won, in words.
///
/// ```
/// use herdsman_mesh::{NodeId, Stamp, resolve};
/// let (one, two) = (Stamp::new(5, NodeId(1)), Stamp::new(5, NodeId(2)));
/// assert_eq!(resolve::why(two, one), "same microsecond, greater node");
/// assert_eq!(resolve::why(Stamp::new(25, NodeId(1)), two), "written later (20 µs)");
/// ```
#[must_use]
pub fn why(winner: Stamp, loser: Stamp) -> String {
    match winner.micros.saturating_sub(loser.micros) {
        0 if winner.node == loser.node => "same microsecond, a row over its deletion".to_owned(),
        0 => "same microsecond, greater node".to_owned(),
        micros => format!("written later ({micros} µs)"),
    }
}
