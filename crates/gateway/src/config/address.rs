//! Addresses to listen on, as the file has them.

use std::net::IpAddr;
use std::str::FromStr;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name, an IP address without brackets, or `*`.
    pub(crate) host: String,
    /// 0: the system chooses.
    pub(crate) port: u16,
}

impl Address {
    /// Whether only this machine reaches it.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether both stand for every address of the machine, or for the same one.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        self.port == other.port
            && (self.is_everywhere()
                || other.is_everywhere()
                || self.host == other.host
                || (self.is_loopback() && other.is_loopback() && self.is_name() != other.is_name()))
    }

    fn is_everywhere(&self) -> bool {
        self.host.is_empty()
            || self.host == "*"
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }

    fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }
}

impl FromStr for Address {
    /// What was expected.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "host:port, such as localhost:6432, [::1]:6432 or *:6432";
        let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let port = port.parse().map_err(|_| EXPECTED)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let wrong = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_err(),
            None => host.is_empty() || host.contains([':', '[', ']', '/', ' ']),
        };
        if wrong {
            return Err(EXPECTED);
        }
        Ok(Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}
