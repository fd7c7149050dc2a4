//! The two written forms of a connection string: keywords with optional quotes, and URIs.

use std::collections::BTreeMap;

use super::{ConninfoError, wrong};

/// Reads either form into keyword pairs.
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => uri(rest),
        None => keywords(text),
    }
}

/// `key=value key='quoted value' …` with `\` escaping the next character, as libpq reads it.
fn keywords(text: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
    let mut pairs = BTreeMap::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|&c| c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            // Not shown: an unquoted blank in a password makes its second half look like a keyword.
            let problem = format!(
                "word {} has no `=` and value; values with blanks need quotes",
                pairs.len() + 1
            );
            return Err(wrong("connection string", &problem));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err(wrong(&key, "has a quote that is never closed")),
                None => break,
            }
        }
        pairs.insert(key, value);
    }
}

/// What follows `postgres://`.
fn uri(rest: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
    let mut pairs = BTreeMap::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (userinfo, address) = match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, authority),
    };
    if let Some(userinfo) = userinfo {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        pairs.insert("user".to_owned(), decode("user", user)?);
        pairs.insert("password".to_owned(), decode("password", password)?);
    }
    let (hosts, ports) = addresses(address)?;
    pairs.insert("host".to_owned(), decode("host", &hosts)?);
    pairs.insert("port".to_owned(), decode("port", &ports)?);
    pairs.insert("dbname".to_owned(), decode("dbname", path)?);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            wrong("connection string", "has a part after `?` without `=` and value")
        })?;
        let key = decode(key, key)?;
        let value = decode(&key, value)?;
        match key.as_str() {
            "ssl" if value == "true" => pairs.insert("sslmode".to_owned(), "require".to_owned()),
            _ => pairs.insert(key, value),
        };
    }
    Ok(pairs)
}

/// `host:port,host:port,…` as two lists, still percent-encoded, with an empty place where one of them has nothing.
fn addresses(mut rest: &str) -> Result<(String, String), ConninfoError> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        let (host, behind) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, behind) =
                    v6.split_once(']').ok_or_else(|| wrong("host", "has a `[` without its `]`"))?;
                if !(behind.is_empty() || behind.starts_with([':', ','])) {
                    return Err(wrong("host", "has something other than a port behind its `]`"));
                }
                (host, behind)
            }
            None => rest.split_at(rest.find([':', ',']).unwrap_or(rest.len())),
        };
        let (port, next) = match behind.split_once(',') {
            Some((port, next)) => (port, Some(next)),
            None => (behind, None),
        };
        hosts.push_str(host);
        ports.push_str(port.strip_prefix(':').unwrap_or(port));
        let Some(next) = next else { break };
        hosts.push(',');
        ports.push(',');
        rest = next;
    }
    Ok((hosts, ports))
}

/// Percent-decoding; the error names the parameter, never its value.
fn decode(key: &str, text: &str) -> Result<String, ConninfoError> {
    let bad =
        || wrong(key, "has a `%` that is not followed by two hexadecimal digits of UTF-8 text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(bad);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = pairs(text).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .filter(|(_, v)| !v.is_empty())
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn both_forms_are_read_as_libpq_reads_them() {
        check("", &[]);
        check("host=a port = 5433", &[("host", "a"), ("port", "5433")]);
        check("dbname='' user='it s'", &[("user", "it s")]);
        check(r"user=a\ b", &[("user", "a b")]);
        check("postgres://", &[]);
        check("postgresql://h", &[("host", "h")]);
        check(
            "postgres://u:p@h:1/d?sslmode=require",
            &[
                ("dbname", "d"),
                ("host", "h"),
                ("password", "p"),
                ("port", "1"),
                ("sslmode", "require"),
                ("user", "u"),
            ],
        );
        check("postgres://[::1]:7/d", &[("dbname", "d"), ("host", "::1"), ("port", "7")]);
        check("postgres://[::1]/d", &[("dbname", "d"), ("host", "::1")]);
        check("postgres://a:1,b,[::1]:3", &[("host", "a,b,::1"), ("port", "1,,3")]);
        check("postgres://a,b/d", &[("dbname", "d"), ("host", "a,b"), ("port", ",")]);
        check("postgres://a,b?port=7", &[("host", "a,b"), ("port", "7")]);
        check("postgres://a:1,", &[("host", "a,"), ("port", "1,")]);
        check("postgres://%2Frun%2Fpg,b:2", &[("host", "/run/pg,b"), ("port", ",2")]);
        check("postgres://%2Frun%2Fpg/d", &[("dbname", "d"), ("host", "/run/pg")]);
        check("postgres:///d?host=/run", &[("dbname", "d"), ("host", "/run")]);
        check("postgres://h/d?ssl=true", &[("dbname", "d"), ("host", "h"), ("sslmode", "require")]);
    }

    #[test]
    fn broken_text_is_refused_without_showing_its_values() {
        for text in [
            "host",
            "host=a port",
            "user='it''s'",
            "password='secret",
            "postgres://u:secret%zz@h",
            "postgres://[::1/d",
            "postgres://[::1]secret/d",
            "postgres://a,[::1/d",
            "postgres://h/d?x",
        ] {
            let error = pairs(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_but_never_panics(text in ".{0,80}") {
            let _read_or_refused = pairs(&text);
            let _read_or_refused = pairs(&format!("postgres://{text}"));
        }
    }
}
