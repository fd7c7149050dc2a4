//! Values with their ranges, as the section spells them.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use herdsman_node::units;
use serde::de::{
    Deserialize, Deserializer, Error, SeqAccess, Visitor, value::SeqAccessDeserializer,
};

use super::WriteGuard;

const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
/// Shorter is a mistake in the unit.
const SHORTEST: Duration = Duration::from_millis(10);
/// PostgreSQL itself takes few thousands.
const MAX_SIZE: usize = 10_000;
/// More than one process can have open.
const MAX_CLIENTS: usize = 1_000_000;

pub(super) fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::ZERO..=HOUR)
}

pub(super) fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, SHORTEST..=HOUR)
}

pub(super) fn some_timeout<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    timeout(deserializer).map(Some)
}

/// Below, every slow answer would stop writes; above, the guard guards nothing.
pub(super) fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(100)..=Duration::from_secs(60))
}

pub(super) fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_secs(1)..=MONTH)
}

pub(super) fn or_never<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration_or_never(deserializer, SHORTEST..=MONTH).map(Option::unwrap_or_default)
}

pub(super) fn some_or_never<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    or_never(deserializer).map(Some)
}

pub(super) fn slow_query<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    units::duration_or_never(deserializer, Duration::from_millis(1)..=HOUR)
}

pub(super) fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 0..=256)
}

pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1..=MAX_SIZE)
}

pub(super) fn some_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    size(deserializer).map(Some)
}

pub(super) fn queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 0..=MAX_CLIENTS)
}

pub(super) fn some_queue<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    queue(deserializer).map(Some)
}

pub(super) fn clients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1..=MAX_CLIENTS)
}

pub(super) fn statements<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1..=100_000)
}

/// `off` is a boolean in YAML.
pub(super) fn write_guard<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<WriteGuard, D::Error> {
    struct Guard;

    impl Visitor<'_> for Guard {
        type Value = WriteGuard;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("off, deadline or followers")
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<WriteGuard, E> {
            if on {
                return Err(E::custom(
                    "`true` does not say which, expected off, deadline or followers",
                ));
            }
            Ok(WriteGuard::Off)
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<WriteGuard, E> {
            match word {
                "off" => Ok(WriteGuard::Off),
                "deadline" => Ok(WriteGuard::Deadline),
                "followers" => Ok(WriteGuard::Followers),
                _ => {
                    Err(E::custom(format!("`{word}` is none, expected off, deadline or followers")))
                }
            }
        }
    }

    deserializer.deserialize_any(Guard)
}

/// One text, or a list of them.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("host:port or a list of them")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_u64<E: Error>(self, port: u64) -> Result<Vec<String>, E> {
            Ok(vec![port.to_string()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items))
        }
    }

    deserializer.deserialize_any(OneOrMore)
}

/// A map whose values may be left out: `app:` is a database with defaults.
pub(super) fn entries<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    struct Entries<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Entries<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of keys and values")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut access: A,
        ) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<String, Option<T>>()? {
                entries.insert(key, value.unwrap_or_default());
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(Entries(PhantomData))
}
