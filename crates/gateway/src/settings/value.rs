//! Names and values of settings as they may stand in a `SET`.

use herdsman::classify::{Token, TokenKind, Tokens};

/// What a value of `SET TIME ZONE` begins with that no other setting takes.
pub(super) const INTERVAL: &str = "INTERVAL ";
/// Longer values are not remembered, in bytes.
pub(crate) const LONGEST: usize = 8192;
/// Settings whose text is a list of names, each of which `SET` takes as a value of its own.
const LISTS: [&str; 2] = ["search_path", "temp_tablespaces"];

/// Whether a lower-case text can name a setting: `work_mem`, `app.user_id`.
pub(crate) fn is_name(name: &str) -> bool {
    let starts = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let continues = |byte: u8| starts(byte) || byte.is_ascii_digit() || byte == b'$';
    name.len() <= 255
        && name
            .split('.')
            .all(|part| part.bytes().next().is_some_and(starts) && part.bytes().all(continues))
}

/// A string constant that means the same whatever `standard_conforming_strings` says.
pub(crate) fn quote(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// What `SET name TO` takes for the text that `SHOW name` would give. `None`: such a text is no value of it.
pub(crate) fn literal(name: &str, text: &str) -> Option<String> {
    if text.len() > LONGEST || text.contains('\0') {
        return None;
    }
    if !LISTS.contains(&name) {
        return Some(quote(text));
    }
    let names = names(text)?;
    if names.is_empty() {
        return Some(quote(""));
    }
    Some(names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", "))
}

/// A list of names, folded and unquoted as PostgreSQL does.
fn names(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim_ascii();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let after = if let Some(mut quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            loop {
                let (part, after) = quoted.split_once('"')?;
                name.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => quoted = more,
                    None => {
                        names.push(name);
                        break after;
                    }
                }
                name.push('"');
            }
        } else {
            let ends = |letter: char| letter == ',' || letter.is_ascii_whitespace();
            let (name, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
            if name.is_empty() {
                return None;
            }
            names.push(name.to_ascii_lowercase());
            after
        };
        rest = match after.trim_ascii_start() {
            "" => return Some(names),
            more => more.strip_prefix(',')?.trim_ascii_start(),
        };
    }
}

/// Whether SQL is a value or a list of them, and nothing that could end a `SET`: constants, or an interval.
pub(super) fn is_value(sql: &str) -> bool {
    if sql.len() > 2 * LONGEST || sql.contains('\0') {
        return false;
    }
    let interval = sql.starts_with(INTERVAL);
    let fits = |token: &Token<'_>| match token.kind {
        TokenKind::Text | TokenKind::Number => true,
        TokenKind::Comma => !interval,
        TokenKind::Other => !interval && matches!(token.text, "-" | "+"),
        TokenKind::Word | TokenKind::Open | TokenKind::Close => interval,
        _ => false,
    };
    let mut end = 0;
    for token in Tokens::of(sql) {
        // Between two of them a comment could hide what follows.
        let blank = sql.get(end..token.start).is_some_and(|gap| gap.trim_ascii().is_empty());
        if !blank || !fits(&token) {
            return false;
        }
        end = token.end();
    }
    end > 0 && end == sql.len()
}
