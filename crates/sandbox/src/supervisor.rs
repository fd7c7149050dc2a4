//! The process behind a command line sandbox.

/// Its log, in the folder of the sandbox.
pub const LOG_FILE: &str = "supervisor.log";
