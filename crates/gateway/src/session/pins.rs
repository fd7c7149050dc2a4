//! Why a client keeps its server connection: state there that cannot be made again on another one.

use super::Session;

/// The pool mode says so.
pub(super) const SESSION_MODE: &str = "session mode";
/// `PREPARE` in SQL.
pub(super) const PREPARED: &str = "a statement prepared in SQL";
/// A text that may leave anything behind.
pub(super) const UNKNOWN: &str = "session state that cannot be told from its text";

impl Session {
    /// Why the connection stays with the client, if it does.
    pub(crate) fn pinned(&self) -> Option<&'static str> {
        self.pins.first().copied()
    }

    /// Why it stays, apart from the pool mode.
    pub(super) fn holds_state(&self) -> Option<&'static str> {
        self.pins.iter().copied().find(|why| *why != SESSION_MODE)
    }

    pub(super) fn pin(&mut self, why: &'static str) {
        if !self.pins.contains(&why) {
            self.pins.push(why);
        }
    }

    /// What is so is over.
    pub(super) fn let_go(&mut self, so: impl Fn(&str) -> bool) {
        self.pins.retain(|why| *why == SESSION_MODE || !so(why));
    }
}
