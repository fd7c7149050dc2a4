//! Switches that take single rules out, so that tests can show each to be necessary.

/// All on, but in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A request commits once.
    pub(crate) dedupe: bool,
    /// First committer wins.
    pub(crate) certify: bool,
    /// What is called off stays so.
    pub(crate) cancel: bool,
    /// Who wrote what is known again after a restart.
    pub(crate) remember: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { dedupe: true, certify: true, cancel: true, remember: true }
    }
}
