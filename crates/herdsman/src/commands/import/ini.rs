//! The notation of `pgbouncer.ini`: sections, `key = value`, `%include`, and the pairs in values. Pure but for `load`.

/// Files that include each other deeper than this are a mistake.
const DEEPEST: usize = 10;

/// One `key = value`.
pub(super) struct Setting {
    /// `file:line`.
    pub(super) place: String,
    /// Without its brackets.
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// The settings of a file and of those that it includes, in their order. `load` gives the text of a file by the name that
/// stands behind `%include`.
///
/// # Errors
/// One line for each mistake, with its place. Says nothing of what stands there.
pub(super) fn read(
    name: &str,
    text: &str,
    load: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Setting>, Vec<String>> {
    let mut reading =
        Reading { settings: Vec::new(), section: String::new(), problems: Vec::new() };
    reading.file(name, text, load, 0);
    if reading.problems.is_empty() { Ok(reading.settings) } else { Err(reading.problems) }
}

struct Reading {
    settings: Vec<Setting>,
    section: String,
    problems: Vec<String>,
}

impl Reading {
    fn file(
        &mut self,
        name: &str,
        text: &str,
        load: &mut dyn FnMut(&str) -> Result<String, String>,
        depth: usize,
    ) {
        for (number, line) in (1..).zip(text.lines()) {
            let place = format!("{name}:{number}");
            let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(included) = line.strip_prefix("%include") {
                let included = included.trim();
                if depth == DEEPEST {
                    self.problems.push(format!("{place}: files include each other too deep"));
                    continue;
                }
                match load(included) {
                    Ok(text) => self.file(included, &text, load, depth + 1),
                    Err(problem) => self.problems.push(format!("{place}: {problem}")),
                }
            } else if let Some(section) = line.strip_prefix('[') {
                match section.strip_suffix(']') {
                    Some(section) => section.trim().clone_into(&mut self.section),
                    None => {
                        self.problems
                            .push(format!("{place}: expected `]` at the end of a section"));
                    }
                }
            } else {
                match setting(line) {
                    Some((key, value)) if !self.section.is_empty() => {
                        let value = value.trim().to_owned();
                        let section = self.section.clone();
                        self.settings.push(Setting { place, section, key, value });
                    }
                    Some(_) => {
                        self.problems
                            .push(format!("{place}: expected a section such as [pgbouncer] first"));
                    }
                    None => self.problems.push(format!("{place}: expected `key = value`")),
                }
            }
        }
    }
}

/// A key, without its quotes, and what stands behind its `=`.
fn setting(line: &str) -> Option<(String, &str)> {
    let Some(mut rest) = line.strip_prefix('"') else {
        let (key, value) = line.split_once('=')?;
        let key = key.trim();
        return (!key.is_empty()).then(|| (key.to_owned(), value));
    };
    let mut key = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        key.push_str(before);
        match after.strip_prefix('"') {
            // Two of them are one that belongs to the name.
            Some(more) => {
                key.push('"');
                rest = more;
            }
            None => return Some((key, after.trim_start().strip_prefix('=')?)),
        }
    }
}

/// The pairs of a value: `key=value`, `key='it''s a value'`. `None` where it is not that.
pub(super) fn pairs(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(pairs);
        }
        let (key, behind) = rest.split_once('=')?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return None;
        }
        let behind = behind.trim_start();
        let (value, next) = match behind.strip_prefix('\'') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, next) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
                (value.to_owned(), next)
            }
        };
        pairs.push((key.to_owned(), value));
        rest = next;
    }
}

fn unquoted(mut rest: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Vec<[String; 4]>, Vec<String>> {
        let mut load = |name: &str| match name {
            "more.ini" => Ok("b = 2\n[users]\nx = y\n".to_owned()),
            "again.ini" => Ok("%include again.ini".to_owned()),
            _ => Err(format!("cannot read {name}")),
        };
        let settings = read("p.ini", text, &mut load)?;
        Ok(settings.into_iter().map(|s| [s.place, s.section, s.key, s.value]).collect())
    }

    #[test]
    fn what_pgbouncer_reads_is_read_with_its_place() {
        let text = "; x\r\n[pgbouncer]\r\na = 1 ; 2\r\n%include more.ini\n\n[databases]\n\"a \"\"b\" = host=h\n* =\n";
        let expected = [
            ["p.ini:3", "pgbouncer", "a", "1 ; 2"],
            ["more.ini:1", "pgbouncer", "b", "2"],
            ["more.ini:3", "users", "x", "y"],
            ["p.ini:7", "databases", "a \"b", "host=h"],
            ["p.ini:8", "databases", "*", ""],
        ];
        assert_eq!(table(text).unwrap(), expected.map(|row| row.map(ToOwned::to_owned)));
    }

    #[test]
    fn every_mistake_is_told_by_its_place_and_not_shown() {
        let text = "early = secret\n[pgbouncer\n[databases]\nsecret\n\"secret = 1\n%include none.ini\n%include again.ini\n";
        let problems = table(text).unwrap_err();
        let places: Vec<_> =
            problems.iter().filter_map(|p| p.split_once(": ")).map(|p| p.0).collect();
        assert_eq!(places, ["p.ini:1", "p.ini:2", "p.ini:4", "p.ini:5", "p.ini:6", "again.ini:1"]);
        assert!(!problems.concat().contains("secret"), "{problems:?}");
    }

    #[test]
    fn pairs_have_quotes_where_they_need_them() {
        let table = [
            ("", Some(vec![])),
            ("host=a port = 5432", Some(vec![("host", "a"), ("port", "5432")])),
            ("password='it''s = it'  user=x", Some(vec![("password", "it's = it"), ("user", "x")])),
            ("connect_query=''", Some(vec![("connect_query", "")])),
            ("password='open", None),
            ("host", None),
            ("a b=c", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|pairs| {
                pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(pairs(text), expected, "{text}");
        }
    }
}
