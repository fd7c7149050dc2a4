//! What was written, by whom and over what: what no member knows, but the checker.

use crate::stamp::Stamp;

/// A version's place in the history.
pub(super) type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Insert,
    Update,
    Delete,
}

/// A version of a key.
pub(super) struct Written {
    pub(super) stamp: Stamp,
    pub(super) spot: usize,
    pub(super) kind: Kind,
    pub(super) author: usize,
    /// What its writer's member held of the key, visible or not yet removed.
    pub(super) parent: Option<Id>,
    pub(super) way: Way,
    /// Whether it was below a deletion or truncation of its writer's member when it was committed: its clock had been set
    /// back, or it had waited.
    pub(super) buried: bool,
}

/// How others come to know something.
#[derive(Default)]
pub(super) struct Way {
    /// How far its writer's log goes with it; `None` while it is not committed.
    pub(super) at: Option<usize>,
    /// The members it was spread to when its writer was lost.
    pub(super) healed: Vec<usize>,
    /// The members it came to in a copy: itself or what had taken its place.
    pub(super) copied: Vec<usize>,
}

/// A truncation: what its writer's member held of each key.
pub(super) struct Emptied {
    pub(super) stamp: Stamp,
    pub(super) table: usize,
    pub(super) author: usize,
    pub(super) heads: Vec<Option<Id>>,
    /// How far that member had then got with each log, its own too.
    pub(super) had: Vec<usize>,
    pub(super) way: Way,
}

#[derive(Default)]
pub(super) struct History {
    pub(super) written: Vec<Written>,
    pub(super) emptied: Vec<Emptied>,
}

impl History {
    pub(super) fn write(
        &mut self,
        stamp: Stamp,
        spot: usize,
        kind: Kind,
        author: usize,
        parent: Option<Id>,
    ) -> Id {
        let id = Id::try_from(self.written.len()).unwrap();
        let written =
            Written { stamp, spot, kind, author, parent, way: Way::default(), buried: false };
        self.written.push(written);
        id
    }

    pub(super) fn of(&self, id: Id) -> &Written {
        &self.written[id as usize]
    }

    /// Whether `later` was written over `earlier`, or over what was written over it, and so on.
    pub(super) fn descends(&self, later: Id, earlier: Id) -> bool {
        let mut at = Some(later);
        // What is written over something has the greater number.
        while let Some(id) = at.filter(|id| *id >= earlier) {
            if id == earlier {
                return true;
            }
            at = self.of(id).parent;
        }
        false
    }

    /// Whether `later` was written over `earlier`, or over something that the same member wrote later.
    pub(super) fn knew(&self, later: Id, earlier: Id) -> bool {
        let of = self.of(earlier);
        let mut at = Some(later);
        while let Some(id) = at.filter(|id| *id >= earlier) {
            if id == earlier || self.of(id).author == of.author {
                return true;
            }
            at = self.of(id).parent;
        }
        false
    }

    /// The insertion that began the life of the row that `of` is a version of.
    pub(super) fn birth(&self, of: Id) -> Id {
        let mut at = of;
        while self.of(at).kind != Kind::Insert {
            let Some(parent) = self.of(at).parent else { return at };
            at = parent;
        }
        at
    }
}
