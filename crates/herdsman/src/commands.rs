//! The commands: each turns arguments into an exit code.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod manual;
pub(crate) mod primary;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod status;

mod ask;
