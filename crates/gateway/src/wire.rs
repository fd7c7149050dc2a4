//! PostgreSQL's protocol, version 3, as bytes: no I/O, no state, no copies.
//!
//! Only what the gateway looks at is read; everything else is forwarded by its length. A length is checked before it is
//! used, and what is malformed is an error, never a panic.

pub mod backend;
pub mod error;
pub mod frontend;
pub mod proxy;
pub mod startup;

pub use error::Problem;

/// A message's first byte and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of message it is.
    pub tag: u8,
    /// All of it in bytes, with the tag and the length itself.
    pub len: usize,
}

/// Bytes of a message before its body.
pub const HEADER: usize = 5;

/// What came is not PostgreSQL's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// The header at the start of `bytes`; `None` while it is not all there.
///
/// # Errors
/// [`Malformed`] where the length cannot be one.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let len = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(len) {
        Ok(len) if len >= 4 => Ok(Some(Header { tag, len: len + 1 })),
        _ => Err(Malformed("its length is less than four")),
    }
}

/// The text up to the next zero byte, and what follows it.
#[inline]
pub(crate) fn cstr(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    // Most names are empty: they are not searched for their end.
    if let [0, rest @ ..] = bytes {
        return Ok((&[], rest));
    }
    let end = memchr::memchr(0, bytes).ok_or(Malformed("a text does not end"))?;
    match bytes.split_at_checked(end) {
        Some((text, [_, rest @ ..])) => Ok((text, rest)),
        _ => Err(Malformed("a text does not end")),
    }
}

/// Appends a message: its tag, its length, and the body that `body` writes.
pub(crate) fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}
