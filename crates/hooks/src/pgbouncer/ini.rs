//! PgBouncer's configuration: the addresses in its section `[databases]`, read and written anew. Pure.
//!
//! A line there is `name = key=value key=value …`. Of the named databases only `host` and `port` change; everything else,
//! comments and blanks included, stays as it is.

use std::collections::BTreeMap;

/// Where a database goes: the value of `host`, which may be a list, and `port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A setting of a database in its line.
struct Setting<'a> {
    key: &'a str,
    /// Everything of it, as it stands there.
    text: &'a str,
}

/// Puts these addresses into the text.
///
/// # Errors
/// A database is not there, or its line cannot be read.
pub(crate) fn rewrite(text: &str, addresses: &BTreeMap<String, Address>) -> Result<String, String> {
    let mut written = String::with_capacity(text.len() + 64);
    let mut missing: Vec<_> = addresses.keys().map(String::as_str).collect();
    let mut section = Section::default();
    for line in text.split_inclusive('\n') {
        let found = section.database(line).and_then(|(name, _)| addresses.get_key_value(&name));
        let Some((name, address)) = found else {
            written.push_str(line);
            continue;
        };
        missing.retain(|other| other != name);
        written.push_str(&rewritten(line, address).ok_or_else(|| unreadable(name))?);
    }
    match missing.first() {
        None => Ok(written),
        Some(name) => Err(format!(
            "there is no database `{name}` in its section [databases]; add a line `{name} = host=… port=…` there"
        )),
    }
}

/// The address that each of these databases has in the text.
pub(crate) fn addresses<'n>(
    text: &str,
    databases: impl IntoIterator<Item = &'n str>,
) -> BTreeMap<String, Address> {
    let wanted: Vec<_> = databases.into_iter().collect();
    let mut section = Section::default();
    let lines = text.lines().filter_map(|line| {
        let (name, settings) = section.database(line)?;
        wanted.contains(&name.as_str()).then(|| address(settings).map(|address| (name, address)))?
    });
    lines.collect()
}

/// Which section a line is in.
#[derive(Default)]
struct Section {
    databases: bool,
}

impl Section {
    /// Name and settings, where the next line of the file is a database's.
    fn database<'l>(&mut self, line: &'l str) -> Option<(String, &'l str)> {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[') {
            self.databases = name.strip_suffix(']').is_some_and(|name| name.trim() == "databases");
            return None;
        }
        if !self.databases || trimmed.is_empty() || trimmed.starts_with([';', '#', '%']) {
            return None;
        }
        let (name, settings) = split(line)?;
        Some((name, settings))
    }
}

/// A line's name, without its quotes, and what stands behind its `=`.
fn split(line: &str) -> Option<(String, &str)> {
    let line = line.trim_start();
    if let Some(quoted) = line.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (piece, behind) = rest.split_once('"')?;
            name.push_str(piece);
            match behind.strip_prefix('"') {
                // Two of them are one that belongs to the name.
                Some(more) => {
                    name.push('"');
                    rest = more;
                }
                None => return Some((name, behind.trim_start().strip_prefix('=')?)),
            }
        }
    }
    let (name, settings) = line.split_once('=')?;
    Some((name.trim_end().to_owned(), settings))
}

/// The settings of a line; `None` where it cannot be read.
fn settings(mut rest: &str) -> Option<Vec<Setting<'_>>> {
    let mut settings = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(settings);
        }
        let (key, behind) = rest.split_once('=')?;
        let value = behind.trim_start();
        let end = match value.strip_prefix('\'') {
            Some(quoted) => value.len() - quoted.len() + closing(quoted)?,
            None => value.find(char::is_whitespace).unwrap_or(value.len()),
        };
        let length = rest.len() - value.len() + end;
        let (text, next) = rest.split_at_checked(length)?;
        settings.push(Setting { key: key.trim_end(), text });
        rest = next;
    }
}

/// Behind the quote that ends a value; two of them belong to it.
fn closing(quoted: &str) -> Option<usize> {
    let mut bytes = quoted.bytes().enumerate().peekable();
    while let Some((place, byte)) = bytes.next() {
        if byte != b'\'' {
            continue;
        }
        if bytes.next_if(|(_, next)| *next == b'\'').is_none() {
            return Some(place + 1);
        }
    }
    None
}

fn value(setting: &Setting<'_>) -> Option<String> {
    let value = setting.text.split_once('=')?.1.trim_start();
    match value.strip_prefix('\'') {
        Some(quoted) => Some(quoted.strip_suffix('\'')?.replace("''", "'")),
        None => Some(value.to_owned()),
    }
}

fn address(line: &str) -> Option<Address> {
    let settings = settings(line)?;
    let find = |key: &str| settings.iter().find(|setting| setting.key == key).and_then(value);
    // PgBouncer's own default.
    let port = find("port").map_or(Some(5432), |port| port.parse().ok())?;
    Some(Address { host: find("host")?, port })
}

/// A line with another address: where its own stood, or first.
fn rewritten(line: &str, address: &Address) -> Option<String> {
    let (_, behind) = split(line)?;
    let head = line.get(..line.len() - behind.len())?;
    let tail_at = behind.trim_end().len();
    let (body, end) = behind.split_at_checked(tail_at)?;
    let blank = body.get(..body.len() - body.trim_start().len()).filter(|blank| !blank.is_empty());
    let settings = settings(body)?;
    let has = |key: &str| settings.iter().any(|setting| setting.key == key);
    let host = format!("host={}", quoted(&address.host));
    let port = format!("port={}", address.port);
    let mut pieces: Vec<&str> = Vec::new();
    if !has("host") {
        pieces.push(&host);
    }
    if !has("port") {
        pieces.push(&port);
    }
    pieces.extend(settings.iter().map(|setting| match setting.key {
        "host" => host.as_str(),
        "port" => port.as_str(),
        _ => setting.text,
    }));
    Some(format!("{head}{}{}{end}", blank.unwrap_or(" "), pieces.join(" ")))
}

fn quoted(value: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | ',' | '/');
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

fn unreadable(name: &str) -> String {
    format!("the line of the database `{name}` is not `{name} = key=value key=value …`; correct it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(addresses: &[(&str, &str, u16)]) -> BTreeMap<String, Address> {
        let address = |host: &str, port| Address { host: host.to_owned(), port };
        addresses
            .iter()
            .map(|(name, host, port)| ((*name).to_owned(), address(host, *port)))
            .collect()
    }

    const FILE: &str = "\
;; ours
shop = host=old port=1
[databases]
; shop = host=old port=1
shop = host=old port=1 dbname='the ''shop'' x' pool_size=20
\"odd \"\"name\" =host = 'old'   connect_query='select 1'
bare=dbname=bare
*  =  port=5 host=old
[pgbouncer]
shop = host=old port=1
";

    #[test]
    fn only_the_addresses_of_the_named_databases_change() {
        let wanted = to(&[
            ("shop", "10.0.0.2,10.0.0.3", 5433),
            ("odd \"name", "db 2", 5432),
            ("bare", "/run/postgresql", 5434),
            ("*", "::1", 5435),
        ]);
        let expected = "\
;; ours
shop = host=old port=1
[databases]
; shop = host=old port=1
shop = host=10.0.0.2,10.0.0.3 port=5433 dbname='the ''shop'' x' pool_size=20
\"odd \"\"name\" = port=5432 host='db 2' connect_query='select 1'
bare= host=/run/postgresql port=5434 dbname=bare
*  =  port=5435 host=::1
[pgbouncer]
shop = host=old port=1
";
        let found = rewrite(FILE, &wanted).unwrap();
        assert_eq!(found, expected);
        assert_eq!(rewrite(&found, &wanted).unwrap(), found, "twice is once");
        assert_eq!(addresses(&found, wanted.keys().map(String::as_str)), wanted);
        assert_eq!(rewrite(FILE, &BTreeMap::new()).unwrap(), FILE);
    }

    #[test]
    fn addresses_are_found_where_they_are() {
        let found = addresses(FILE, ["shop", "odd \"name", "bare", "*", "none"]);
        assert_eq!(found, to(&[("shop", "old", 1), ("odd \"name", "old", 5432), ("*", "old", 5)]));
    }

    #[test]
    fn what_is_not_there_or_cannot_be_read_is_told_and_nothing_is_written() {
        let address = to(&[("shop", "db2", 5432)]);
        for (text, expected) in [
            ("", "there is no database `shop`"),
            ("[databases]\nshopping = host=a\n", "there is no database `shop`"),
            ("[databases]\nshop = host\n", "the line of the database `shop` is not"),
            ("[databases]\nshop = host='a\n", "the line of the database `shop` is not"),
        ] {
            let problem = rewrite(text, &address).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        let without_end = rewrite("[databases]\r\nshop = host=a", &address).unwrap();
        assert_eq!(without_end, "[databases]\r\nshop = port=5432 host=db2");
    }
}
