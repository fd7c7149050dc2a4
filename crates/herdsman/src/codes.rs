//! The codes of findings and errors, each with its page in `docs/errors`.
//!
//! A number stands for what a person does about it, is never given to anything else, and is not used again once it is
//! gone. H00xx: how the program ends. H01xx: reaching a node. H02xx: replication. H03xx: limits. H04xx: the stream.
//! H05xx: the mesh. H06xx: the gateway and the API. H07xx: hooks. H08xx: the ledger.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::exit::Exit;

/// One line for each code: without a page it does not compile.
macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        /// What a finding or an error is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Code {
            $(
                #[doc = $code]
                $name,
            )*
        }

        impl Code {
            /// All of them, by number.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// Such as `H0101`.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// Its page, as it stands in the repository.
            pub(crate) const fn page(self) -> &'static str {
                match self {
                    $(Self::$name => {
                        include_str!(concat!("../../../docs/errors/", $code, ".md"))
                    })*
                }
            }
        }
    };
}

codes! {
    Configuration = "H0001",
    CommandLine = "H0002",
    NotDone = "H0003",
    NoPrimary = "H0004",
    SplitBrain = "H0005",
    Unavailable = "H0006",
    Internal = "H0007",
    Unreachable = "H0101",
    NotReady = "H0102",
    LoginRefused = "H0103",
    TlsFailed = "H0104",
    Unencrypted = "H0105",
    NoConnectionLeft = "H0106",
    Unanswered = "H0107",
    Version = "H0108",
    Monitor = "H0109",
    History = "H0110",
    HeartbeatTable = "H0111",
    SetAside = "H0201",
    NotStreaming = "H0202",
    Lag = "H0203",
    ReplayPaused = "H0204",
    LowerSettings = "H0205",
    Clock = "H0206",
    SlotUnread = "H0207",
    SlotLost = "H0208",
    NoIdentity = "H0209",
    Connections = "H0301",
    Slots = "H0302",
    Senders = "H0303",
    Workers = "H0304",
    OpenFiles = "H0305",
    WaitingClients = "H0306",
    WalLevel = "H0401",
    StreamRights = "H0402",
    StreamSlot = "H0403",
    StreamTables = "H0404",
    LogHeldBack = "H0405",
    StreamSettings = "H0406",
    StreamNode = "H0407",
    MeshBlocked = "H0501",
    MeshPlan = "H0502",
    MeshLink = "H0503",
    GatewayUser = "H0601",
    AuthQuery = "H0602",
    OpenDoor = "H0603",
    Switchover = "H0604",
    HookCommand = "H0701",
    HookFile = "H0702",
    HookConsole = "H0703",
    LedgerNode = "H0801",
    LedgerRights = "H0802",
    LedgerLog = "H0803",
    LedgerFenced = "H0804",
}

impl Code {
    /// The code of a way to end; none where nothing is wrong.
    pub(crate) const fn of_exit(exit: Exit) -> Option<Self> {
        Some(match exit {
            Exit::Success | Exit::Warnings => return None,
            Exit::Failure => Self::NotDone,
            Exit::Usage => Self::CommandLine,
            Exit::NoPrimary => Self::NoPrimary,
            Exit::SplitBrain => Self::SplitBrain,
            Exit::Unavailable => Self::Unavailable,
            Exit::Internal => Self::Internal,
            Exit::Config => Self::Configuration,
        })
    }

    /// The title of its page.
    pub(crate) fn title(self) -> &'static str {
        let first = self.page().lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title)
    }
}

/// No code of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no code; `herdsman explain` lists them all")]
pub(crate) struct NoCode(String);

impl FromStr for Code {
    type Err = NoCode;

    /// Also takes `h101`, `0101` and `101`.
    fn from_str(text: &str) -> Result<Self, NoCode> {
        let digits = text.strip_prefix(['H', 'h']).unwrap_or(text);
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits);
        let wanted = number.and_then(|digits| digits.parse::<u16>().ok());
        let wanted = wanted.map(|number| format!("H{number:04}"));
        Self::ALL
            .iter()
            .copied()
            .find(|code| wanted.as_deref() == Some(code.name()))
            .ok_or_else(|| NoCode(text.to_owned()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests;
