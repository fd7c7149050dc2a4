//! Names of slots and publications, and how any name gets into SQL.

use std::fmt;
use std::str::FromStr;

/// Bytes a name may have: one less than PostgreSQL's `NAMEDATALEN`.
const LONGEST: usize = 63;

/// The name of a replication slot: lower-case letters, digits and underscores, at most 63 of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct SlotName(Box<str>);

/// The name of a publication, in any letters; quoted wherever it goes into SQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct PublicationName(Box<str>);

/// A name cannot be that of a slot or publication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name for a {what}: {problem}")]
pub struct InvalidObjectName {
    name: String,
    what: &'static str,
    problem: &'static str,
}

impl SlotName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidObjectName`] says what a slot's name may be.
    ///
    /// ```
    /// use herdsman_wal::SlotName;
    /// assert_eq!(SlotName::new("herdsman_orders").unwrap().as_str(), "herdsman_orders");
    /// assert!(SlotName::new("Herdsman-Orders").is_err());
    /// ```
    pub fn new(name: &str) -> Result<Self, InvalidObjectName> {
        let wrong = |problem| {
            Err(InvalidObjectName { name: shown(name), what: "replication slot", problem })
        };
        if name.is_empty() {
            return wrong("it is empty");
        }
        if name.len() > LONGEST {
            return wrong("it is longer than 63 bytes");
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return wrong("expected lower-case letters, digits and underscores only");
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PublicationName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidObjectName`] says what a publication's name may be.
    pub fn new(name: &str) -> Result<Self, InvalidObjectName> {
        let wrong =
            |problem| Err(InvalidObjectName { name: shown(name), what: "publication", problem });
        if name.is_empty() {
            return wrong("it is empty");
        }
        // The server would cut it silently, and then another name is not found.
        if name.len() > LONGEST {
            return wrong("it is longer than 63 bytes");
        }
        if name.contains('\0') {
            return wrong("it contains a zero byte");
        }
        Ok(Self(name.into()))
    }

    /// The name, not quoted.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn shown(name: &str) -> String {
    name.chars().take(80).filter(|c| !c.is_control()).collect()
}

/// A name as SQL takes it: always quoted.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, for commands that take no parameters.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''").replace('\\', "\\\\"));
    // Only the escape form reads a backslash the same under every setting.
    if text.contains('\\') { format!(" E{quoted}") } else { quoted }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PublicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SlotName {
    type Err = InvalidObjectName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl FromStr for PublicationName {
    type Err = InvalidObjectName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl<'de> serde::Deserialize<'de> for SlotName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

impl<'de> serde::Deserialize<'de> for PublicationName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_server_would_cut_or_refuse_are_refused_here() {
        assert!(SlotName::new(&"a".repeat(63)).is_ok());
        for name in ["", "A", "a-b", "a b", "é", &"a".repeat(64)] {
            assert!(SlotName::new(name).is_err(), "{name}");
        }
        assert!(PublicationName::new("Mixed Case é").is_ok());
        for name in ["", "a\0b", &"é".repeat(32)] {
            assert!(PublicationName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn quoting_leaves_no_way_out() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("a'b"), "'a''b'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
    }
}
