//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 5929): messages in, messages out.
//!
//! Nothing here hashes a password: a login costs three HMACs and one digest.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herdsman_node::raw::ScramKeys;

use super::verifier::{Scram, same};
use crate::wire::Malformed;

/// What the client says of channel binding, and the one kind there is.
const END_POINT: &[u8] = b"p=tls-server-end-point";

/// One login, from the client's first message on.
pub(super) struct Exchange {
    verifier: Scram,
    /// The hash of our certificate, where the connection has TLS.
    binding: Option<Vec<u8>>,
    /// Our half of the nonce.
    nonce: String,
    first: Option<First>,
}

/// What is kept of the first two messages.
struct First {
    /// `c=`, as the second message must have it.
    bound: String,
    /// Both halves.
    nonce: String,
    /// The client's first message without its header, and ours.
    signed: Vec<u8>,
}

/// How a login ends.
pub(super) enum Outcome {
    /// The client knows the password: our last message, and the keys it has shown.
    Proven(String, ScramKeys),
    /// It does not.
    Wrong,
}

impl Exchange {
    /// `nonce` has to be random, and of printable characters without a comma.
    pub(super) fn new(verifier: Scram, binding: Option<Vec<u8>>, nonce: String) -> Self {
        Self { verifier, binding, nonce, first: None }
    }

    /// The client's first message, sent under the name of the mechanism with channel binding or without; our challenge.
    ///
    /// # Errors
    /// [`Malformed`], also where somebody between us has hidden that we offer channel binding.
    pub(super) fn begin(&mut self, plus: bool, message: &[u8]) -> Result<String, Malformed> {
        let (flag, rest) = part(message).ok_or(Malformed("a SCRAM login has no header"))?;
        match (flag, plus, &self.binding) {
            (b"n", false, _) | (b"y", false, None) | (END_POINT, true, Some(_)) => {}
            (b"y", false, Some(_)) => {
                return Err(Malformed(
                    "the client was told that there is no channel binding, and there is: somebody stands between",
                ));
            }
            (b"n" | b"y", true, _) => {
                return Err(Malformed("a SCRAM login with channel binding does not bind"));
            }
            _ => {
                return Err(Malformed(
                    "a SCRAM login asks for a channel binding that is not offered",
                ));
            }
        }
        let (authority, bare) = part(rest).ok_or(Malformed("a SCRAM login has no header"))?;
        if !authority.is_empty() {
            return Err(Malformed("a SCRAM login asks to be somebody else"));
        }
        let header = message.strip_suffix(bare).unwrap_or_default();
        let nonce = client_nonce(bare)?;
        let nonce = format!("{nonce}{}", self.nonce);
        let challenge = format!("r={nonce},s={},i={}", self.verifier.salt, self.verifier.rounds);
        let mut bound = header.to_vec();
        if let (true, Some(hash)) = (plus, &self.binding) {
            bound.extend_from_slice(hash);
        }
        self.first = Some(First {
            bound: STANDARD.encode(bound),
            nonce,
            signed: [bare, challenge.as_bytes()].join(&b","[..]),
        });
        Ok(challenge)
    }

    /// The client's second message, with its proof.
    ///
    /// # Errors
    /// [`Malformed`], also where it is bound to another TLS connection or answers another challenge.
    pub(super) fn finish(&mut self, message: &[u8]) -> Result<Outcome, Malformed> {
        let first = self.first.take().ok_or(Malformed("a SCRAM login begins at its end"))?;
        let Answer { bound, nonce, unproven, proof } = answer(message)?;
        if !same(bound, first.bound.as_bytes()) {
            return Err(Malformed("a SCRAM login is bound to another connection"));
        }
        if !same(nonce, first.nonce.as_bytes()) {
            return Err(Malformed("a SCRAM login answers another challenge"));
        }
        let signed = [first.signed.as_slice(), unproven].join(&b","[..]);
        let signature = sign(&Key::new(HMAC_SHA256, &self.verifier.stored), &signed);
        let mut keys = ScramKeys { client: proof, server: self.verifier.server };
        keys.client.iter_mut().zip(signature.as_ref()).for_each(|(key, mask)| *key ^= mask);
        if !same(digest(&SHA256, &keys.client).as_ref(), &self.verifier.stored) {
            return Ok(Outcome::Wrong);
        }
        let ours = sign(&Key::new(HMAC_SHA256, &self.verifier.server), &signed);
        Ok(Outcome::Proven(format!("v={}", STANDARD.encode(ours)), keys))
    }
}

/// The client's second message, taken apart.
struct Answer<'a> {
    bound: &'a [u8],
    nonce: &'a [u8],
    /// All of it before the proof.
    unproven: &'a [u8],
    proof: [u8; 32],
}

fn answer(message: &[u8]) -> Result<Answer<'_>, Malformed> {
    const SHORT: Malformed = Malformed("a SCRAM proof ends early");
    let (bound, rest) = part(message).ok_or(SHORT)?;
    let bound = bound.strip_prefix(b"c=").ok_or(Malformed("a SCRAM proof has no binding"))?;
    let (nonce, mut rest) = part(rest).ok_or(SHORT)?;
    let nonce = nonce.strip_prefix(b"r=").ok_or(Malformed("a SCRAM proof has no nonce"))?;
    // Extensions, which nobody has yet, may stand before the proof.
    while let Some((extension, after)) = part(rest) {
        if extension.starts_with(b"p=") {
            return Err(Malformed("a SCRAM proof is not at the end"));
        }
        attribute(extension)?;
        rest = after;
    }
    let unproven = message.len().checked_sub(rest.len() + 1).and_then(|end| message.get(..end));
    let proof = rest.strip_prefix(b"p=").ok_or(Malformed("there is no SCRAM proof"))?;
    let proof = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
    Ok(Answer {
        bound,
        nonce,
        unproven: unproven.ok_or(SHORT)?,
        proof: proof.ok_or(Malformed("a SCRAM proof is not 32 bytes in base64"))?,
    })
}

/// The nonce in the client's first message. Its name for the user is not looked at: the start-up packet's counts.
fn client_nonce(bare: &[u8]) -> Result<&str, Malformed> {
    const SHORT: Malformed = Malformed("a SCRAM login ends early");
    if bare.starts_with(b"m=") {
        return Err(Malformed("a SCRAM login needs an extension that we do not have"));
    }
    let (name, rest) = part(bare).ok_or(SHORT)?;
    if !name.starts_with(b"n=") || name.contains(&0) {
        return Err(Malformed("a SCRAM login has no name"));
    }
    let (nonce, mut rest) = part(rest).map_or((rest, None), |(nonce, rest)| (nonce, Some(rest)));
    while let Some(extensions) = rest {
        let (extension, after) =
            part(extensions).map_or((extensions, None), |(one, after)| (one, Some(after)));
        attribute(extension)?;
        rest = after;
    }
    let nonce = nonce.strip_prefix(b"r=").ok_or(Malformed("a SCRAM login has no nonce"))?;
    let printable = nonce.iter().all(|byte| matches!(byte, 0x21..=0x7e));
    match str::from_utf8(nonce) {
        Ok(nonce) if printable && !nonce.is_empty() => Ok(nonce),
        _ => Err(Malformed("a SCRAM nonce is empty or not printable")),
    }
}

/// An extension: a letter, `=`, and anything.
fn attribute(text: &[u8]) -> Result<(), Malformed> {
    match text {
        [letter, b'=', value @ ..] if letter.is_ascii_alphabetic() && !value.contains(&0) => Ok(()),
        _ => Err(Malformed("a SCRAM message has a malformed extension")),
    }
}

/// What stands before the next comma, and after it.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = bytes.iter().position(|&byte| byte == b',')?;
    let (before, after) = bytes.split_at_checked(comma)?;
    Some((before, after.strip_prefix(b",")?))
}

#[cfg(test)]
mod tests;
