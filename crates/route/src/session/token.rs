use std::fmt;
use std::str::FromStr;

use herdsman_node::{Lsn, SystemId, Timeline};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest text a token has: `1.`, 20 digits, `-`, 10 digits, `-`, and two halves of 8 digits around a `/`.
const MAX_LEN: usize = 51;

/// What a session has written: everything up to a position in the log of one cluster.
///
/// A position alone would not do: after a promotion the same number means something else, and in another cluster it
/// means nothing. The text is `1.<system identifier>-<timeline>-<lsn>`, where `1` is the version of the format; there is
/// exactly one text for each token, of at most 51 bytes, and it is safe in an HTTP header.
///
/// ```
/// use herdsman::session::SessionToken;
/// let token: SessionToken = "1.7431982345678901234-3-0/16B3748".parse().unwrap();
/// assert_eq!(token.timeline.0, 3);
/// assert_eq!(token.to_string(), "1.7431982345678901234-3-0/16B3748");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionToken {
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline the writer was on.
    pub timeline: Timeline,
    /// A position at or after the end of the last write.
    pub lsn: Lsn,
}

/// The text is not a session token.
///
/// The text is not repeated: it often comes from a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a session token; expected `1.<system identifier>-<timeline>-<lsn>`, such as 1.7431982345678901234-3-0/16B3748"
)]
pub struct ParseTokenError;

impl SessionToken {
    /// The one of the two that stands for more: the later timeline, then the later position.
    ///
    /// Tokens of different clusters cannot be compared: then it is `other`, the one learnt last. Whoever keeps only that
    /// has forgotten what `self` stood for; a [`Session`](super::Session) asks the writer in that case.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let comparable = self.system_id == other.system_id;
        if comparable && (self.timeline, self.lsn) > (other.timeline, other.lsn) {
            self
        } else {
            other
        }
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}-{}-{}", self.system_id, self.timeline, self.lsn)
    }
}

impl FromStr for SessionToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.strip_prefix("1.")?.splitn(3, '-');
            Some(Self {
                system_id: parts.next()?.parse().ok()?,
                timeline: Timeline(parts.next()?.parse().ok()?),
                lsn: parts.next()?.parse().ok()?,
            })
        };
        // Numbers can be written in several ways (`+1`, `01`, `0/a`); only the one we write is taken.
        (text.len() <= MAX_LEN)
            .then(parse)
            .flatten()
            .filter(|token| token.to_string() == text)
            .ok_or(ParseTokenError)
    }
}

impl Serialize for SessionToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    fn token(system: u64, timeline: u32, lsn: u64) -> SessionToken {
        SessionToken { system_id: SystemId(system), timeline: Timeline(timeline), lsn: Lsn(lsn) }
    }

    #[test]
    fn only_the_text_that_we_write_is_a_token() {
        assert_eq!("1.7-3-0/16B3748".parse(), Ok(token(7, 3, 0x16B_3748)));
        for text in [
            "",
            "1",
            "1.",
            "1.7",
            "1.7-3",
            "1.7-3-",
            "1.7-3-0",
            "2.7-3-0/1",
            "7-3-0/1",
            "1.+7-3-0/1",
            "1.07-3-0/1",
            "1.7-03-0/1",
            "1.7--3-0/1",
            "1.7-3-0/a",
            "1.7-3-0/0A",
            "1.7-3-00/A",
            "1.7-3-0/1-1",
            " 1.7-3-0/1",
            "1.7-3-0/1 ",
            "1.7-3-0/1\n",
            "1.7-4294967296-0/1",
            "1.18446744073709551616-3-0/1",
            "1.writer",
        ] {
            assert_eq!(text.parse::<SessionToken>(), Err(ParseTokenError), "{text:?}");
        }
    }

    #[test]
    fn the_longest_token_fits_the_bound_exactly() {
        let longest = token(u64::MAX, u32::MAX, u64::MAX);
        assert_eq!(longest.to_string().len(), MAX_LEN);
        assert_eq!(longest.to_string().parse(), Ok(longest));
    }

    #[test]
    fn the_later_of_two_is_by_timeline_then_position() {
        let cases = [
            (token(1, 1, 9), token(1, 2, 5), token(1, 2, 5)),
            (token(1, 2, 5), token(1, 1, 9), token(1, 2, 5)),
            (token(1, 2, 5), token(1, 2, 6), token(1, 2, 6)),
            (token(1, 2, 6), token(1, 2, 5), token(1, 2, 6)),
            (token(1, 9, 9), token(2, 1, 1), token(2, 1, 1)),
        ];
        for (a, b, later) in cases {
            assert_eq!(a.max(b), later, "{a} and {b}");
        }
    }

    #[test]
    fn it_is_serialised_as_its_text() {
        struct AsText(SessionToken);
        impl fmt::Display for AsText {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.serialize(f)
            }
        }
        let text = "1.7-3-0/16B3748";
        let read: StrDeserializer<'_, Error> = text.into_deserializer();
        let token = SessionToken::deserialize(read).unwrap();
        assert_eq!(AsText(token).to_string(), text);
        let bad: StrDeserializer<'_, Error> = "1.7-3".into_deserializer();
        assert!(SessionToken::deserialize(bad).unwrap_err().to_string().starts_with("not a"));
    }

    proptest! {
        #[test]
        fn text_round_trips(system: u64, timeline: u32, lsn: u64) {
            let token = token(system, timeline, lsn);
            let text = token.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(text.parse(), Ok(token));
        }

        #[test]
        fn whatever_parses_is_written_the_same(text in "1\\.[0-9+]{1,3}-[0-9]{1,3}-[0-9a-fA-F]{1,2}/[0-9a-fA-F]{1,3}") {
            if let Ok(token) = text.parse::<SessionToken>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
