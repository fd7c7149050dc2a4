//! What came of an entry.

use std::{fmt, str::FromStr};

use crate::{identity::Offset, table::Refused};

/// What came of an entry; the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its changes are in the data.
    Committed,
    /// Somebody else was first: SQLSTATE 40001. Its request may try again.
    Conflict,
    /// It was called off before it could commit.
    Cancelled,
    /// No node does that: the SQLSTATE.
    Refused([u8; 5]),
    /// Its request had committed already, there.
    Duplicate(Offset),
    /// The operator had it passed over.
    Skipped,
    /// It changes no data.
    Noted,
}

impl Outcome {
    /// Whether its request is settled by it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Cancelled | Self::Refused(_) | Self::Noted)
    }
}

impl From<Refused> for Outcome {
    fn from(Refused(state): Refused) -> Self {
        Self::Refused(state.as_bytes().try_into().unwrap_or(*b"XX000"))
    }
}

impl fmt::Display for Outcome {
    /// As nodes write it down.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::Conflict => f.write_str("conflict"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Refused(state) => write!(f, "refused {}", String::from_utf8_lossy(state)),
            Self::Duplicate(of) => write!(f, "duplicate of {of}"),
            Self::Skipped => f.write_str("skipped"),
            Self::Noted => f.write_str("noted"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no outcome");
        Ok(match text {
            "committed" => Self::Committed,
            "conflict" => Self::Conflict,
            "cancelled" => Self::Cancelled,
            "skipped" => Self::Skipped,
            "noted" => Self::Noted,
            _ => {
                if let Some(state) = text.strip_prefix("refused ") {
                    Self::Refused(state.as_bytes().try_into().map_err(|_| bad())?)
                } else {
                    let of = text.strip_prefix("duplicate of ").ok_or_else(bad)?;
                    Self::Duplicate(Offset(of.parse().map_err(|_| bad())?))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_back_as_they_are_written_down() {
        use Outcome::{Cancelled, Committed, Conflict, Duplicate, Noted, Refused, Skipped};
        for outcome in [
            Committed,
            Conflict,
            Cancelled,
            Refused(*b"42P07"),
            Duplicate(Offset(7)),
            Skipped,
            Noted,
        ] {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert!("refused 42".parse::<Outcome>().is_err());
        assert!("else".parse::<Outcome>().is_err());
    }
}
