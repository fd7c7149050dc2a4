//! Switches that take single rules out of the judge.
//!
//! They exist so that tests can show each rule to be necessary: with the rule off, the test of its property must fail.
//! Outside tests every rule is on, and nothing can switch it off.

/// Which rules are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Nodes of another cluster are not looked at.
    pub(crate) filter_foreign: bool,
    /// A primary that was left stays out until it has been seen in recovery.
    pub(crate) fence: bool,
    /// A timeline older than the accepted one is never accepted.
    pub(crate) forward_only: bool,
    /// A first primary needs the word of its standbys.
    pub(crate) attest: bool,
    /// Evidence older than the lease counts for nothing.
    pub(crate) lease: bool,
    /// A promotion must have been seen coming.
    pub(crate) witness: bool,
    /// A promotion must not lose what was acknowledged.
    pub(crate) keep_writes: bool,
    /// The first verdict waits until every node has been tried.
    pub(crate) wait_for_all: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        filter_foreign: true,
        fence: true,
        forward_only: true,
        attest: true,
        lease: true,
        witness: true,
        keep_writes: true,
        wait_for_all: true,
    };
}
