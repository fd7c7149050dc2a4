use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name the configuration gives a node: short, unique, printable. Cheap to clone.
///
/// ```
/// use herdsman_node::NodeName;
/// assert_eq!(NodeName::new("n1").unwrap().as_str(), "n1");
/// assert!(NodeName::new("a/b").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// The text cannot name a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a node; use 1 to 255 printable characters without `/`, `?` and `#`, which would not survive in a URL"
)]
pub struct InvalidName(String);

impl NodeName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidName`] when the text is empty, over 255 bytes, or holds a control character, `/`, `?` or `#`.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let bad = |c: char| c.is_control() || matches!(c, '/' | '?' | '#');
        if name.is_empty() || name.len() > 255 || name.contains(bad) {
            return Err(InvalidName(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The number `initdb` gave a cluster: equal on a primary and all its standbys, different between clusters.
///
/// Serialised as text, because 64-bit numbers do not survive JavaScript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

/// The text is not a system identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a system identifier; expected the number `pg_controldata` prints, such as 7431982345678901234"
)]
pub struct ParseSystemIdError(String);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemId {
    type Err = ParseSystemIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseSystemIdError(text.to_owned()))
    }
}

impl Serialize for SystemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SystemId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A branch of a cluster's history: grows by at least one with each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a node is seen to be, by its own word. Whether it may be *used* as that is a verdict, not a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not in recovery: it accepts writes.
    Primary,
    /// In recovery: it replays another server's log and serves reads at most.
    Standby,
    /// It does not answer, or what answers cannot be trusted.
    Unavailable,
}

impl Role {
    /// The word pgroute66 and our API use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_url_or_a_terminal_are_refused() {
        for name in ["", "a/b", "a?b", "a#b", "a\nb", "\u{1b}[0m"] {
            assert!(NodeName::new(name).is_err(), "{name:?} was accepted");
        }
        assert!(NodeName::new(&"x".repeat(256)).is_err());
        for name in ["n1", "10.0.0.1", "db primary", "été", "::1"] {
            assert!(NodeName::new(name).is_ok(), "{name:?} was refused");
        }
    }

    #[test]
    fn a_system_identifier_above_the_signed_range_parses() {
        assert_eq!("18446744073709551615".parse(), Ok(SystemId(u64::MAX)));
        assert!("-1".parse::<SystemId>().is_err());
    }
}
