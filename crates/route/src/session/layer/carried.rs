use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Session, SessionToken};

/// Says that something was written whose position is not known.
const WRITER: &str = "1.writer";
/// Values looked at of a header that is there several times, as where two proxies have each added theirs.
const MAX_VALUES: usize = 4;

/// What a header carries from one session to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    Token(SessionToken),
    Writer,
}

impl Carried {
    fn parse(value: &HeaderValue) -> Option<Self> {
        match value.to_str().ok()? {
            WRITER => Some(Self::Writer),
            text => text.parse().ok().map(Self::Token),
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => token.fmt(f),
            Self::Writer => f.write_str(WRITER),
        }
    }
}

/// Lets the session go on from what the headers carry.
pub(super) fn observe(session: &Session, headers: &HeaderMap, name: &HeaderName) {
    for carried in headers.get_all(name).iter().take(MAX_VALUES).filter_map(Carried::parse) {
        match carried {
            Carried::Token(token) => session.observe(token),
            // The writes it speaks of were acknowledged before, so a position asked from now on stands for them.
            Carried::Writer => session.wrote(),
        }
    }
}

/// Puts what the next session must know into the headers, in place of what is there.
pub(super) fn tell(carried: Carried, headers: &mut HeaderMap, name: &HeaderName) {
    // Digits, letters and punctuation: always a valid value.
    if let Ok(value) = HeaderValue::try_from(carried.to_string()) {
        headers.insert(name, value);
    }
}
