//! JSON's smallest parts, written without allocation.

use herdsman_node::Lsn;

use crate::Timestamp;
use crate::value::Moment;

/// A comma before every item but the first.
#[inline]
pub(super) fn comma(first: &mut bool, out: &mut Vec<u8>) {
    if *first {
        *first = false;
    } else {
        out.push(b',');
    }
}

/// A member's name with its colon.
#[inline]
pub(super) fn name(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(name.as_bytes(), out);
    out.extend_from_slice(b"\":");
}

/// A text as a string; what is not UTF-8 becomes U+FFFD.
pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if std::str::from_utf8(text).is_ok() {
        escaped(text, out);
    } else {
        for chunk in text.utf8_chunks() {
            escaped(chunk.valid().as_bytes(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{FFFD}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

/// UTF-8 text without the quotes around it.
pub(super) fn escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let (plain, behind) = rest.split_at_checked(plain_bytes(rest)).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = behind.split_first() else { return };
        rest = behind;
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => {
                out.extend_from_slice(b"\\u00");
                hex(&[byte], out);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

/// How many bytes there are before the first that has to be escaped. Looks at eight at a time.
#[inline]
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The lowest high bit that is set marks the first byte below `than`; higher ones may be wrong.
    let below = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & HIGH;
    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5C));
        let found = below(word, 0x20) | below(quote, 1) | below(backslash, 1);
        if found != 0 {
            return index * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    words.len() * 8 + tail.iter().position(special).unwrap_or(tail.len())
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn digit(value: u64) -> u8 {
    let index = (value & 0xF) as usize;
    DIGITS.get(index).copied().unwrap_or(b'0')
}

/// A whole number.
pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    padded(value, 1, out);
}

/// A whole number that may be negative.
pub(super) fn signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    number(value.unsigned_abs(), out);
}

/// A whole number with zeros before it.
fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; 20];
    let mut left = value;
    let mut from = buffer.len();
    for (at, place) in buffer.iter_mut().enumerate().rev() {
        if left == 0 && buffer_len(at) > width {
            break;
        }
        *place = digit(left % 10);
        left /= 10;
        from = at;
    }
    out.extend_from_slice(buffer.get(from..).unwrap_or_default());
}

/// How many digits a buffer holds that begins at this place.
const fn buffer_len(at: usize) -> usize {
    20 - at
}

/// A log position as PostgreSQL writes it, without quotes.
pub(super) fn lsn(lsn: Lsn, out: &mut Vec<u8>) {
    let half = |value: u64, out: &mut Vec<u8>| {
        let digits = (16 - value.leading_zeros() / 4).max(1);
        for place in (0..digits).rev() {
            out.push(digit(value >> (place * 4)).to_ascii_uppercase());
        }
    };
    half(lsn.0 >> 32, out);
    out.push(b'/');
    half(lsn.0 & 0xFFFF_FFFF, out);
}

/// Bytes as hexadecimal digits, without quotes.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 2);
    for &byte in bytes {
        out.push(digit(u64::from(byte >> 4)));
        out.push(digit(u64::from(byte)));
    }
}

/// Bytes in base64, without quotes.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| LETTERS.get((bits & 63) as usize).copied().unwrap_or(b'=');
    for chunk in bytes.chunks(3) {
        let mut three = [0_u8; 3];
        three.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        let [a, b, c] = three.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        let four = [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)];
        let (told, _) = four.split_at_checked(chunk.len() + 1).unwrap_or((&four, &[]));
        out.extend_from_slice(told);
        out.extend(std::iter::repeat_n(b'=', 3 - chunk.len()));
    }
}

/// How a moment is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// `2026-01-02T03:04:05.678901Z`
    Rfc3339,
    /// `2026-01-02 03:04:05.678901+00`
    Postgres,
}

/// A moment, without quotes.
pub(super) fn moment(timestamp: Timestamp, clock: Clock, out: &mut Vec<u8>) {
    let Moment { year, month, day, hour, minute, second, micros } = Moment::of(timestamp);
    let (between, end): (u8, &[u8]) = match clock {
        Clock::Rfc3339 => (b'T', b"Z"),
        Clock::Postgres => (b' ', b"+00"),
    };
    if year < 0 {
        out.push(b'-');
    }
    padded(year.unsigned_abs(), 4, out);
    for (before, part) in
        [(b'-', month), (b'-', day), (between, hour), (b':', minute), (b':', second)]
    {
        out.push(before);
        padded(part.unsigned_abs(), 2, out);
    }
    out.push(b'.');
    padded(micros.unsigned_abs(), 6, out);
    out.extend_from_slice(end);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_is_the_same_behind_a_json_reader(text in any::<String>()) {
            let json = written(|out| string(text.as_bytes(), out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn control_characters_are_found_wherever_they_are(text in "[\u{0}-\u{80}\u{fe}é]{0,40}") {
            let json = written(|out| string(text.as_bytes(), out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_make_a_valid_string(bytes: Vec<u8>) {
            let json = written(|out| string(&bytes, out));
            let read = serde_json::from_str::<String>(&json).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn numbers_and_positions_are_written_as_rust_writes_them(value: u64) {
            prop_assert_eq!(written(|out| number(value, out)), value.to_string());
            prop_assert_eq!(written(|out| lsn(Lsn(value), out)), Lsn(value).to_string());
            let small = value & 0xFFF;
            prop_assert_eq!(written(|out| lsn(Lsn(small), out)), Lsn(small).to_string());
            prop_assert_eq!(written(|out| padded(small, 6, out)), format!("{small:06}"));
        }

        #[test]
        fn moments_are_written_as_they_are_displayed(micros in -60_000_000_000_000_000..9_000_000_000_000_000_000_i64) {
            let timestamp = Timestamp(micros);
            prop_assert_eq!(written(|out| moment(timestamp, Clock::Rfc3339, out)), timestamp.to_string());
        }
    }

    #[test]
    fn base64_is_padded() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(written(|out| base64(plain.as_bytes(), out)), encoded);
        }
        assert_eq!(written(|out| number(0, out)), "0");
        assert_eq!(written(|out| signed(i64::MIN, out)), i64::MIN.to_string());
    }
}
