//! The request target: path and query, decoded.

use hyper::Uri;

use crate::problem::{self, Problem};

/// Longest path and query looked at: a node's name of 255 bytes, percent-encoded, fits several times.
pub(crate) const MAX_URI_BYTES: usize = 4096;

/// A decoded query string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    /// The first piece that is not percent-encoded UTF-8.
    pub(crate) broken: Option<String>,
}

impl Query {
    /// Reads a query as Go does: broken pieces are left out (and remembered), `+` is a blank.
    pub(crate) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for piece in text.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let field = |text: &str| decode(&text.replace('+', " "));
            match (piece.contains(';'), field(name), field(value)) {
                (false, Some(name), Some(value)) => query.pairs.push((name, value)),
                _ => {
                    query.broken.get_or_insert_with(|| piece.to_owned());
                }
            }
        }
        query
    }

    /// The first value given for a name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values given for a name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.pairs.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Every name with its value, in their order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a name that may be given once.
    pub(crate) fn single(&self, name: &str) -> Result<Option<&str>, Problem> {
        if let Some(broken) = &self.broken {
            let broken = problem::echo(broken);
            return Err(Problem::BadQuery(format!(
                "`{broken}` in the query is not percent-encoded UTF-8; write every special byte as `%` and two hex digits"
            )));
        }
        if self.is_repeated(name) {
            return Err(Problem::BadQuery(format!(
                "`{name}` is given more than once; give it once"
            )));
        }
        Ok(self.first(name))
    }

    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.pairs.iter().filter(|(key, _)| key == name).count() > 1
    }
}

/// How many bytes of path and query there are.
pub(crate) fn length(uri: &Uri) -> usize {
    uri.path().len() + uri.query().map_or(0, str::len)
}

/// Undoes percent-encoding; none when it is broken or does not make UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let (&[high, low], tail) = tail.split_first_chunk::<2>()?;
        bytes.push(hex_digit(high)? << 4 | hex_digit(low)?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes a path the way Go does when it writes a `Location`.
pub(crate) fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 0x0f] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    encoded
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(decode("a%20b%c3%A9"), Some("a bé".to_owned()));
        for broken in ["%", "%2", "%zz", "a%", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn encoding_and_decoding_agree() {
        let path = "/v1/db primary/été%?#<>\u{7f}";
        assert_eq!(decode(&encode_path(path)).as_deref(), Some(path));
    }

    #[test]
    fn a_query_keeps_its_good_pieces_and_remembers_the_broken_one() {
        let query = Query::parse("group=a+b&&x=%zz&limit=1&limit=2&flag");
        assert_eq!(query.first("group"), Some("a b"));
        assert_eq!(query.first("limit"), Some("1"));
        assert_eq!(query.first("flag"), Some(""));
        assert_eq!(query.first("x"), None);
        assert_eq!(query.broken.as_deref(), Some("x=%zz"));
        assert!(query.is_repeated("limit") && !query.is_repeated("group"));
    }
}
