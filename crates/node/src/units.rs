//! Values with a unit or a range, as every section of the configuration file spells them.
//!
//! These are readers for `#[serde(deserialize_with = …)]`: a section names its range in a function of one line, and all
//! sections refuse the same mistakes in the same words.
//!
//! ```
//! use std::time::Duration;
//!
//! use serde::{Deserialize, Deserializer};
//!
//! #[derive(Deserialize)]
//! struct Section {
//!     #[serde(deserialize_with = "pause")]
//!     pause: Duration,
//! }
//!
//! fn pause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
//!     herdsman_node::units::duration(deserializer, Duration::from_millis(10)..=Duration::from_secs(60))
//! }
//!
//! let section: Section = serde_json::from_str(r#"{"pause": "1500ms"}"#)?;
//! assert_eq!(section.pause, Duration::from_millis(1500));
//! let error = serde_json::from_str::<Section>(r#"{"pause": "2h"}"#).err().unwrap();
//! assert!(error.to_string().starts_with("`2h` is out of range; allowed is 10ms to 1m"));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Word for a time that never comes, where [`duration_or_never`] reads.
const NEVER: &str = "never";

/// Reads a time with its unit (`500ms`, `5s`, `2m`) within a range.
///
/// # Errors
/// When it is not a time, or outside the range; the error says what is allowed.
pub fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
    allowed: RangeInclusive<Duration>,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bad = |problem: &str| Error::custom(format!("`{text}` {problem}"));
    let value = humantime::parse_duration(&text)
        .map_err(|_| bad("is not a duration; write it like 500ms, 5s or 2m"))?;
    if allowed.contains(&value) { Ok(value) } else { Err(bad(&out_of_range(&allowed))) }
}

/// Reads a time as [`duration`] does, or `never`, which becomes `None`.
///
/// # Errors
/// As [`duration`].
pub fn duration_or_never<'de, D: Deserializer<'de>>(
    deserializer: D,
    allowed: RangeInclusive<Duration>,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == NEVER {
        return Ok(None);
    }
    let bad = |problem: &str| Error::custom(format!("`{text}` {problem}"));
    let value = humantime::parse_duration(&text)
        .map_err(|_| bad("is not a duration; write it like 500ms, 5s or 2m, or write never"))?;
    if allowed.contains(&value) {
        Ok(Some(value))
    } else {
        Err(bad(&format!("{}, or never", out_of_range(&allowed))))
    }
}

/// Reads a number within a range.
///
/// # Errors
/// When it is not a number of this type, or outside the range; the error says what is allowed.
pub fn number<'de, D, T>(deserializer: D, allowed: RangeInclusive<T>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + Display,
{
    let value = T::deserialize(deserializer)?;
    if allowed.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(Error::custom(format!("`{value}` is out of range; allowed is {least} to {most}")))
}

fn out_of_range(allowed: &RangeInclusive<Duration>) -> String {
    let ends = [*allowed.start(), *allowed.end()].map(humantime::format_duration);
    format!("is out of range; allowed is {} to {}", ends[0], ends[1])
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer, U32Deserializer};

    use super::*;

    const RANGE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

    fn text(text: &str) -> StrDeserializer<'_, Error> {
        text.into_deserializer()
    }

    #[test]
    fn times_are_read_with_their_unit_and_refused_without_or_outside_the_range() {
        for (given, expected) in [
            ("10ms", Ok(Duration::from_millis(10))),
            ("1h", Ok(Duration::from_secs(3600))),
            ("1m 30s", Ok(Duration::from_secs(90))),
            ("9ms", Err("`9ms` is out of range; allowed is 10ms to 1h")),
            ("61m", Err("`61m` is out of range; allowed is 10ms to 1h")),
            ("5", Err("`5` is not a duration; write it like 500ms, 5s or 2m")),
            ("never", Err("`never` is not a duration; write it like 500ms, 5s or 2m")),
            ("", Err("`` is not a duration; write it like 500ms, 5s or 2m")),
        ] {
            let found = duration(text(given), RANGE).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{given}");
        }
    }

    #[test]
    fn a_time_may_be_never_where_that_means_something() {
        for (given, expected) in [
            ("never", Ok(None)),
            ("2m", Ok(Some(Duration::from_secs(120)))),
            ("2d", Err("`2d` is out of range; allowed is 10ms to 1h, or never")),
            (
                "soon",
                Err("`soon` is not a duration; write it like 500ms, 5s or 2m, or write never"),
            ),
        ] {
            let found = duration_or_never(text(given), RANGE).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{given}");
        }
    }

    #[test]
    fn numbers_outside_the_range_are_refused_with_what_is_allowed() {
        let read = |value: u32| {
            let deserializer: U32Deserializer<Error> = value.into_deserializer();
            number(deserializer, 1..=100_u32).map_err(|error| error.to_string())
        };
        assert_eq!((read(1), read(100)), (Ok(1), Ok(100)));
        assert_eq!(read(0), Err("`0` is out of range; allowed is 1 to 100".to_owned()));
        assert_eq!(read(101), Err("`101` is out of range; allowed is 1 to 100".to_owned()));
    }
}
