//! The first packet of a connection, which has no tag.

use super::backend;
use super::{Malformed, cstr, message};

/// No first packet is longer: PostgreSQL's own bound.
pub const LONGEST: usize = 10_000;
/// The newest minor version of protocol 3 that is spoken here.
pub const NEWEST_MINOR: u16 = 2;
/// Options of the protocol itself begin so.
const PROTOCOL_OPTION: &str = "_pq_.";
/// No secret of a cancel request is longer: the protocol's own bound.
const LONGEST_SECRET: usize = 256;

/// Stand in the place of a version.
const SPECIAL: u16 = 1234;
const CANCEL: u16 = 5678;
const SSL: u16 = 5679;
const GSS: u16 = 5680;

/// What a client begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// It asks for TLS.
    Ssl,
    /// It asks for GSSAPI encryption.
    Gss,
    /// It wants a request cancelled.
    Cancel {
        /// The process it was given.
        process: i32,
        /// The secret it was given: 4 bytes, or up to 256 in protocol 3.2.
        secret: Vec<u8>,
    },
    /// It wants to log in.
    Startup(Startup),
    /// It speaks another major version of the protocol; nothing more of the packet can be read.
    Version {
        /// Major.
        major: u16,
        /// Minor.
        minor: u16,
    },
}

/// The start-up packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// The minor version of protocol 3.
    pub minor: u16,
    /// Everything it asks for, in order.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// The value of a parameter; of several with one name, the last, as on a server.
    ///
    /// ```
    /// use herdsman_gateway::wire::startup::Startup;
    /// let asked = vec![("user".into(), "ann".into()), ("user".into(), "bob".into())];
    /// let startup = Startup { minor: 0, parameters: asked };
    /// assert_eq!(startup.get("user"), Some("bob"));
    /// assert_eq!(startup.get("database"), None);
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The minor version that client and gateway both speak.
    #[must_use]
    pub fn spoken(&self) -> u16 {
        self.minor.min(NEWEST_MINOR)
    }

    /// What has to be said about the version before the login goes on: nothing, where all is as the client asked.
    pub fn negotiate(&self, out: &mut Vec<u8>) {
        let options = || self.parameters.iter().map(|(key, _)| key.as_str()).filter(is_option);
        if self.minor <= NEWEST_MINOR && options().next().is_none() {
            return;
        }
        message(out, backend::NEGOTIATE, |out| {
            out.extend_from_slice(&3_u16.to_be_bytes());
            out.extend_from_slice(&self.spoken().to_be_bytes());
            let count = i32::try_from(options().count()).unwrap_or(i32::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            for option in options() {
                out.extend_from_slice(option.as_bytes());
                out.push(0);
            }
        });
    }
}

/// How many bytes follow the length that a first packet begins with.
///
/// # Errors
/// [`Malformed`] where no first packet has that length.
pub fn following(length: [u8; 4]) -> Result<usize, Malformed> {
    // The length counts itself, and a version follows it in every packet.
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length @ 8..=LONGEST) => Ok(length - 4),
        Ok(..8) => Err(Malformed("a first packet cannot be that short")),
        _ => Err(Malformed("a first packet cannot be that long")),
    }
}

/// Reads a first packet without its length.
///
/// # Errors
/// [`Malformed`] where it is none.
pub fn first(body: &[u8]) -> Result<First, Malformed> {
    let [a, b, c, d, rest @ ..] = body else { return Err(Malformed("it has no version")) };
    let major = u16::from_be_bytes([*a, *b]);
    let minor = u16::from_be_bytes([*c, *d]);
    match (major, minor) {
        (SPECIAL, SSL) => alone(rest, First::Ssl),
        (SPECIAL, GSS) => alone(rest, First::Gss),
        (SPECIAL, CANCEL) => cancel(rest),
        (3, minor) => Ok(First::Startup(Startup { minor, parameters: parameters(rest)? })),
        (major, minor) => Ok(First::Version { major, minor }),
    }
}

fn is_option(key: &&str) -> bool {
    key.starts_with(PROTOCOL_OPTION)
}

fn alone(rest: &[u8], first: First) -> Result<First, Malformed> {
    if rest.is_empty() { Ok(first) } else { Err(Malformed("a request for encryption is longer")) }
}

fn cancel(rest: &[u8]) -> Result<First, Malformed> {
    let [a, b, c, d, secret @ ..] = rest else {
        return Err(Malformed("a cancel request names no process"));
    };
    if secret.is_empty() || secret.len() > LONGEST_SECRET {
        return Err(Malformed("a cancel request's secret has no such length"));
    }
    Ok(First::Cancel { process: i32::from_be_bytes([*a, *b, *c, *d]), secret: secret.to_vec() })
}

fn parameters(mut rest: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut found = Vec::new();
    loop {
        match rest {
            [0] => return Ok(found),
            [] => return Err(Malformed("a start-up packet does not end")),
            [0, ..] => return Err(Malformed("a start-up packet goes on after its end")),
            _ => {}
        }
        let (name, behind) = cstr(rest)?;
        let (value, behind) = cstr(behind)?;
        found.push((text(name)?, text(value)?));
        rest = behind;
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let text = str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Malformed("a start-up parameter is not UTF-8"))
}

#[cfg(test)]
mod tests;
