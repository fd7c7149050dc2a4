//! How the program ends: the numbers scripts may rely on.

use std::fmt::Display;

/// Every exit code, with its meaning. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked.
    Success = 0,
    /// What was asked for did not succeed.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `doctor`: there are warnings, and no error.
    Warnings = 3,
    /// `primary`: there is no primary. Mirrors the API's 404.
    NoPrimary = 4,
    /// `primary`: split brain, several nodes claim the role. Mirrors the API's 409.
    SplitBrain = 9,
    /// Herdsman cannot be asked.
    Unavailable = 69,
    /// An error that should not happen.
    Internal = 70,
    /// The configuration is wrong.
    Config = 78,
}

/// The table for the manual.
pub(crate) const MANUAL: &[(Exit, &str)] = &[
    (Exit::Success, "It worked."),
    (Exit::Failure, "What was asked for did not succeed; standard error says why."),
    (Exit::Usage, "The command line is wrong."),
    (Exit::Warnings, "doctor: it works, and a warning says what may end that."),
    (Exit::NoPrimary, "primary, stream: no node is the primary (the API's 404)."),
    (
        Exit::SplitBrain,
        "primary, stream: split brain, several nodes claim to be it (the API's 409).",
    ),
    (
        Exit::Unavailable,
        "status, primary, switchover, mesh, ledger: Herdsman cannot be asked. run: an address cannot be listened on.",
    ),
    (Exit::Internal, "An error that should not happen; please report it."),
    (Exit::Config, "The configuration is wrong; nothing was started."),
];

/// Why a command ends early: the code, and the words for standard error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// Ends a command with this code and these words.
    pub(crate) fn with(self, message: impl Display) -> Failed {
        Failed { exit: self, message: message.to_string() }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<crate::config::ConfigError> for Failed {
    fn from(error: crate::config::ConfigError) -> Self {
        Exit::Config.with(error)
    }
}
