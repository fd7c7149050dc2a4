//! Patterns for names of tables: `schema.table` with `*` and `?`.

use std::fmt;
use std::str::FromStr;

/// A pattern for tables: `*` stands for any letters, `?` for exactly one. Neither crosses from the schema into the
/// table: the first dot separates them.
///
/// Letters are compared as they are, as in the catalogue: nothing is folded to lower case and nothing is quoted.
///
/// ```
/// use herdsman_wal::Glob;
/// let glob = Glob::new("shop_*.order?").unwrap();
/// assert!(glob.matches("shop_eu", "orders"));
/// assert!(!glob.matches("shop_eu", "order") && !glob.matches("public", "orders"));
/// assert!(Glob::new("orders").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    schema: Box<str>,
    table: Box<str>,
}

/// A text is no pattern for tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pattern for tables; expected schema.table, such as public.orders or public.*")]
pub struct InvalidGlob(String);

impl Glob {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`InvalidGlob`] where schema or table is missing.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        match pattern.split_once('.') {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
                Ok(Self { schema: schema.into(), table: table.into() })
            }
            _ => Err(InvalidGlob(pattern.chars().take(140).collect())),
        }
    }

    /// Whether the table is meant.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        matches(&self.schema, schema) && matches(&self.table, table)
    }

    /// Whether it can mean one table only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.schema.contains(['*', '?']) && !self.table.contains(['*', '?'])
    }
}

/// Whether `text` is what `pattern` describes. Takes time proportional to the product of their lengths at worst: on a
/// mismatch only the last `*` is tried again, one letter further.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut retry = None;
    loop {
        let (before, wanted, found) = (text.clone(), pattern.next(), text.next());
        let fits = match (wanted, found) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = before.clone();
                retry = Some((pattern.clone(), before));
                true
            }
            (Some('?'), Some(_)) => true,
            (Some(wanted), Some(found)) => wanted == found,
            _ => false,
        };
        if !fits {
            let Some((after_star, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            (pattern, text) = (after_star.clone(), from.clone());
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl FromStr for Glob {
    type Err = InvalidGlob;

    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        Self::new(pattern)
    }
}

impl<'de> serde::Deserialize<'de> for Glob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pattern = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&pattern).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_letters() {
        for (pattern, schema, table, expected) in [
            ("public.orders", "public", "orders", true),
            ("public.orders", "public", "orders2", false),
            ("public.*", "public", "", true),
            ("*.*", "a", "b.c", true),
            ("*.o*r*s", "x", "orders", true),
            ("*.o*r*s", "x", "orderst", false),
            ("*.*a*ab", "x", "aaaab", true),
            ("p?.é?", "pq", "éa", true),
            ("p?.é?", "p", "éa", false),
            ("*.Orders", "public", "orders", false),
            ("a.b.c", "a", "b.c", true),
            ("*.c", "a.b", "c", true),
        ] {
            assert_eq!(
                Glob::new(pattern).unwrap().matches(schema, table),
                expected,
                "{pattern} and {schema}.{table}"
            );
        }
    }

    #[test]
    fn a_pattern_without_schema_or_table_is_refused() {
        for pattern in ["", "orders", ".orders", "public."] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }

    /// The definition, as slow as it is obvious.
    fn obvious(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => obvious(rest, text),
            (Some(('*', rest)), Some((_, more))) => obvious(rest, text) || obvious(pattern, more),
            (Some(('?', rest)), Some((_, more))) => obvious(rest, more),
            (Some((wanted, rest)), Some((found, more))) => wanted == found && obvious(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), obvious(&p, &t));
        }
    }
}
