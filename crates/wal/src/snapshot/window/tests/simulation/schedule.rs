//! What happens in a simulation, and by which rule chunks and stream are put into one order.

use proptest::prelude::*;

/// One thing that happens; what exactly, depends on what is possible.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Step {
    pub(super) what: What,
    pub(super) who: u8,
    pub(super) key: u8,
    pub(super) other: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Begin,
    Write,
    Log,
    Seen,
    Abort,
    Deliver,
    Read,
    Accept,
    Emit,
}

impl Arbitrary for Step {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let what = prop_oneof![
            3 => Just(What::Begin),
            8 => Just(What::Write),
            4 => Just(What::Log),
            3 => Just(What::Seen),
            1 => Just(What::Abort),
            5 => Just(What::Deliver),
            3 => Just(What::Read),
            3 => Just(What::Accept),
            3 => Just(What::Emit),
        ];
        let step = (what, any::<u8>(), any::<u8>(), any::<u8>());
        step.prop_map(|(what, who, key, other)| Self { what, who, key, other }).boxed()
    }
}

/// How chunks and stream are put into one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Rule {
    BySnapshot,
    /// What DBLog does: rows that the stream told between two positions in the log are left out.
    ByPosition,
    WithoutWaiting,
    WithoutReadingAgain,
}

#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Settings {
    pub(in super::super) first_xid: u64,
    /// After how many steps observing begins.
    pub(in super::super) observe_after: usize,
    pub(in super::super) most_keys: usize,
    /// Rows in a chunk.
    pub(in super::super) page: usize,
    pub(in super::super) rule: Rule,
    /// Only inserts, updates of every column, and deletes.
    pub(in super::super) simple: bool,
    /// A transaction is seen in the moment it is in the log.
    pub(in super::super) seen_at_once: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            first_xid: 700,
            observe_after: 0,
            most_keys: 100,
            page: 3,
            rule: Rule::BySnapshot,
            simple: false,
            seen_at_once: false,
        }
    }
}
