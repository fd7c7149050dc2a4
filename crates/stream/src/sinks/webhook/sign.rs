//! Signatures of requests.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, hmac};

/// Whether a `herdsman-signature` header is that of this body, made with this secret at most `tolerance` from `now`.
/// Takes the same time wherever a wrong signature differs.
#[must_use]
pub fn verified(
    secret: &[u8],
    header: &str,
    body: &[u8],
    now: SystemTime,
    tolerance: Duration,
) -> bool {
    let part = |name: &str| header.split(',').find_map(|part| part.trim().strip_prefix(name));
    let (Some(time), Some(signature)) = (part("t="), part("v1=")) else { return false };
    let (Ok(seconds), Some(signature)) = (time.parse::<u64>(), unhex(signature)) else {
        return false;
    };
    let apart = unix(now).abs_diff(seconds);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signed = [time.as_bytes(), b".", body].concat();
    hmac::verify(&key, &signed, &signature).is_ok() && apart <= tolerance.as_secs()
}

/// The header of a body that is sent now.
pub(super) fn header(secret: &[u8], body: &[u8], now: SystemTime) -> String {
    let time = unix(now);
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(time.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    format!("t={time},v1={}", hex(context.sign().as_ref()))
}

/// A short name for these bytes.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    // Half of it is enough that no two are ever the same.
    hex(digest.as_ref().get(..16).unwrap_or_default())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_its_time_secret_and_body() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let minutes = Duration::from_secs(300);
        // As `printf '1767225600.{}' | openssl dgst -sha256 -hmac hunter2` has it.
        let expected =
            "t=1767225600,v1=246a5e00d17bc3755945e9acd1ac91b91ca24075d7e1a1d753ebd7b6b97586b7";
        let header = header(b"hunter2", b"{}", now);
        assert_eq!(header, expected);
        let check = |secret: &[u8], header: &str, body: &[u8], now| {
            verified(secret, header, body, now, minutes)
        };
        assert!(check(b"hunter2", &header, b"{}", now + minutes));
        assert!(check(b"hunter2", &header, b"{}", now - minutes));
        assert!(!check(b"hunter2", &header, b"{}", now + minutes + Duration::from_secs(1)));
        assert!(!check(b"hunter3", &header, b"{}", now));
        assert!(!check(b"hunter2", &header, b"{ }", now));
        assert!(!check(b"hunter2", &header.replace("t=1767225600", "t=1767225601"), b"{}", now));
        for broken in ["", "t=1", "v1=00", "t=x,v1=00", "t=1767225600,v1=zz", "t=1767225600,v1=c"] {
            assert!(!check(b"hunter2", broken, b"{}", now), "{broken}");
        }
    }
}
