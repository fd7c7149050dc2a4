//! The header that a TCP proxy puts ahead of a client's bytes (PROXY protocol, version 2), to say who the client is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Malformed;

/// Bytes before the addresses.
pub const FIXED: usize = 16;
/// No header says more after its first 16 bytes: addresses, and what proxies add about TLS.
pub const LONGEST: usize = 4_096;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Who a proxy says is behind a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This client.
    Client(SocketAddr),
    /// Somebody for whom there is no such address: a unix socket, or a protocol the proxy does not know.
    Unknown,
    /// Nobody: the proxy itself has connected, to see whether we are there.
    Proxy,
}

/// The first 16 bytes of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// How many bytes follow.
    pub following: usize,
    local: bool,
    family: u8,
}

/// Reads the first 16 bytes.
///
/// # Errors
/// [`Malformed`] where they do not begin a header.
pub fn prefix(bytes: &[u8; FIXED]) -> Result<Prefix, Malformed> {
    let [signature @ .., kind, family, high, low] = bytes;
    if *signature != SIGNATURE {
        return Err(Malformed("there is no PROXY protocol header of version 2"));
    }
    let local = match kind {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("a PROXY protocol header of another version or command")),
    };
    let following = usize::from(u16::from_be_bytes([*high, *low]));
    if following > LONGEST {
        return Err(Malformed("a PROXY protocol header is too long"));
    }
    Ok(Prefix { following, local, family: *family })
}

impl Prefix {
    /// Reads the rest, of which there are [`following`](Self::following) bytes.
    ///
    /// # Errors
    /// [`Malformed`] where the addresses are not all there.
    pub fn source(self, rest: &[u8]) -> Result<Source, Malformed> {
        if self.local {
            return Ok(Source::Proxy);
        }
        // TCP over IPv4, TCP over IPv6; what else there is names nobody we could know.
        let source = match self.family {
            0x11 => {
                source_and_port::<4>(rest, 8).map(|(ip, port)| (Ipv4Addr::from(ip).into(), port))
            }
            0x21 => source_and_port::<16>(rest, 32).map(|(ip, port)| {
                let ip: IpAddr = Ipv6Addr::from(ip).to_canonical();
                (ip, port)
            }),
            _ => return Ok(Source::Unknown),
        };
        let source = source.ok_or(Malformed("a PROXY protocol header ends in its addresses"))?;
        Ok(Source::Client(source.into()))
    }
}

/// The source address and its port, which stands behind the `addresses` bytes of both addresses, ahead of the other port.
fn source_and_port<const N: usize>(bytes: &[u8], addresses: usize) -> Option<([u8; N], u16)> {
    let ports = bytes.get(addresses..)?;
    let [a, b, _, _, ..] = ports else { return None };
    Some((*bytes.first_chunk::<N>()?, u16::from_be_bytes([*a, *b])))
}

#[cfg(test)]
mod tests;
