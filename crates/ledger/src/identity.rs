//! Where in the log, which log, whose request.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// A place in the log. The genesis entry is at 0, and no place is ever left out: a gap is a fault of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The genesis entry.
    pub const GENESIS: Self = Self(0);

    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! sixteen_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl $name {
            /// Reads what `Display` writes: 32 hexadecimal digits. `None` if it is anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                unhex(text).and_then(|bytes| bytes.try_into().ok()).map(Self)
            }
        }
    };
}

sixteen_bytes! {
    /// Which log: chosen at random when it was made, and in every entry of it. A topic made anew under the old name is
    /// another log.
    LogId
}

sixteen_bytes! {
    /// Whose request: chosen by the client, or at random. However often a request is in the log, it commits once.
    RequestId
}

/// What was in the log up to some place: every entry's bytes, in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The hash at `offset`, from the one before it and the entry's bytes.
    #[must_use]
    pub fn after(self, offset: Offset, body: &[u8]) -> Self {
        let mut text = Vec::with_capacity(self.0.len() + 8 + body.len());
        text.extend_from_slice(&self.0);
        text.extend_from_slice(&offset.0.to_be_bytes());
        text.extend_from_slice(body);
        Self(sha256(&text))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}

/// The first 16 bytes of the SHA-256.
pub(crate) fn sha256_half(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(sha256(bytes)) {
        *to = from;
    }
    half
}

pub(crate) fn hex_of(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    let mut digits = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        digits.push(digit(byte >> 4));
        digits.push(digit(byte & 0x0f));
    }
    digits
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_hash_depends_on_every_entry_its_place_and_the_order() {
        let of = |entries: &[(u64, &[u8])]| {
            let first = ChainHash::default();
            entries.iter().fold(first, |hash, (at, body)| hash.after(Offset(*at), body))
        };
        let hash = of(&[(0, b"a"), (1, b"b")]);
        assert_eq!(hash, of(&[(0, b"a"), (1, b"b")]));
        for other in
            [&[(0, b"b".as_slice()), (1, b"a")], &[(0, b"a"), (2, b"b")], &[(0, b"a"), (1, b"c")]]
        {
            assert_ne!(hash, of(other));
        }
    }

    #[test]
    fn identifiers_are_read_back_as_they_are_written() {
        let id = RequestId(std::array::from_fn(|i| u8::try_from(i * 17 % 256).unwrap()));
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
        for bad in
            ["", "0", "zz", "00112233445566778899aabbccddeef", "00112233445566778899aabbccddeeff00"]
        {
            assert_eq!(RequestId::parse(bad), None, "{bad}");
        }
    }
}
