//! What members go by.

/// Each may be switched off, to show that it is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Deletions are remembered.
    pub(super) tombstones: bool,
    /// A tombstone is never replaced by an older one.
    pub(super) conditional_tombstones: bool,
    /// A row is held against tombstones and truncations before it is put in.
    pub(super) check_rows: bool,
    /// A member joins its own changes, too.
    pub(super) self_stream: bool,
    /// Its own tombstones among them.
    pub(super) own_tombstones: bool,
    /// One session applies what comes from all.
    pub(super) one_session: bool,
    /// What is applied at once in several lanes has no key in common,
    pub(super) lanes_apart: bool,
    /// and no truncation,
    pub(super) truncates_alone: bool,
    /// and is committed in its order.
    pub(super) lanes_in_order: bool,
    /// Stamps are above everything the member has seen.
    pub(super) floor: bool,
    /// And every stamp above the one before, while the clock is behind.
    pub(super) moving_floor: bool,
    /// A truncation is above every row it removes.
    pub(super) truncate_above: bool,
    /// Of two versions of one microsecond that of the greater node wins.
    pub(super) ties_by_node: bool,
    /// Changes taken together have seen what the first of them has.
    pub(super) runs: bool,
    /// Conflicts are found by who had seen what, not by time alone.
    pub(super) exact: bool,
    /// Rows that were put away are seen again when their value is free.
    pub(super) reevaluate: bool,
    /// Tombstones go when nobody needs them, not when they are old.
    pub(super) frontier: bool,
    /// A joining member holds the frontier back.
    pub(super) joiners_hold_back: bool,
    /// A copy is made when the donor has applied what the slots leave out.
    pub(super) donor_waits: bool,
    /// What the donor has not yet put in order is put in order in the copy.
    pub(super) sweep_copy: bool,
    /// What only some have of a lost member is spread.
    pub(super) heals: bool,
}

impl Rules {
    pub(super) const ALL: Self = Self {
        tombstones: true,
        conditional_tombstones: true,
        check_rows: true,
        self_stream: true,
        own_tombstones: true,
        one_session: true,
        lanes_apart: true,
        truncates_alone: true,
        lanes_in_order: true,
        floor: true,
        moving_floor: true,
        truncate_above: true,
        ties_by_node: true,
        runs: true,
        exact: true,
        reevaluate: true,
        frontier: true,
        joiners_hold_back: true,
        donor_waits: true,
        sweep_copy: true,
        heals: true,
    };
}
