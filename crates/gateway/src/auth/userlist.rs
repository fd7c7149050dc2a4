//! PgBouncer's `userlist.txt`: `"user" "password"` on each line.

use secrecy::SecretString;

/// No name of a role is longer on a server.
pub(super) const LONGEST_NAME: usize = 63;
/// Ten times what libpq takes.
const LONGEST_PASSWORD: usize = 10_000;

/// One line.
pub(super) struct Entry {
    /// Its number, from 1.
    pub(super) line: usize,
    pub(super) name: String,
    /// A password, a verifier, or nothing.
    pub(super) secret: SecretString,
}

/// A line cannot be read. Says nothing of what stands in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

/// Reads the text of such a file. What follows the password on a line is passed over, as are empty lines and those that
/// begin with `;`. A quote inside quotes is written twice.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Broken> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let broken = |problem| Broken { line, problem };
        let text = text.trim_matches([' ', '\t', '\r', '\u{feff}']);
        if text.is_empty() || text.starts_with(';') {
            continue;
        }
        let (name, rest) = quoted(text).map_err(broken)?;
        let after = rest.trim_start_matches([' ', '\t']);
        if after.len() == rest.len() {
            return Err(broken("there is no space between name and password"));
        }
        let (secret, rest) = quoted(after).map_err(broken)?;
        if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
            return Err(broken("something follows the password's closing quote without a space"));
        }
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(broken("the name is empty or longer than 63 bytes"));
        }
        if secret.len() > LONGEST_PASSWORD {
            return Err(broken("the password is longer than 10,000 bytes"));
        }
        entries.push(Entry { line, name, secret: secret.into() });
    }
    Ok(entries)
}

/// A text in quotes at the start, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut rest =
        text.strip_prefix('"').ok_or("a name or password does not begin with a quote")?;
    let mut value = String::new();
    loop {
        let (before, after) =
            rest.split_once('"').ok_or("a name or password has no closing quote")?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None => return Ok((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn table(text: &str) -> Result<Vec<(usize, String, String)>, Broken> {
        let entries = read(text)?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.line, entry.name, entry.secret.expose_secret().to_owned()))
            .collect())
    }

    #[test]
    fn what_pgbouncer_reads_is_read() {
        let text = "; users\r\n\n\"app\" \"secret\"\r\n  \"a \"\"b\"\"\"\t\"\"\"\" and more\n\"none\" \"\"";
        let expected = [(3, "app", "secret"), (4, "a \"b\"", "\""), (5, "none", "")]
            .map(|(line, name, secret)| (line, name.to_owned(), secret.to_owned()));
        assert_eq!(table(text).unwrap(), expected);
    }

    #[test]
    fn a_broken_line_is_named_and_not_shown() {
        for line in [
            "app secret",
            "\"app\"",
            "\"app\" secret",
            "\"app\" \"secret",
            "\"app\"\"secret\"",
            "\"app\" \"secret\"x",
            "\"\" \"secret\"",
            &format!("\"{}\" \"secret\"", "a".repeat(64)),
            &format!("\"a\" \"{}\"", "secret".repeat(2000)),
        ] {
            let broken = table(&format!("; one\n{line}\n")).expect_err(line);
            assert_eq!(broken.line, 2, "{line}");
            assert!(!broken.problem.contains("secret"), "{broken:?}");
        }
    }
}
