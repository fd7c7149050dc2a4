//! The configuration that is being written: keys in their order, each with what is to be said beside it.

use std::fmt::Write as _;

/// Longest line of a map that is written in one.
const ONE_LINE: usize = 120;
/// Where comments are broken.
const COMMENT: usize = 100;

/// A key, its value, and the comments above it. May hold a secret, so it cannot be printed for debugging.
pub(super) struct Entry {
    key: String,
    value: Value,
    notes: Vec<String>,
}

/// What stands behind a key.
pub(super) enum Value {
    /// YAML as it is to stand there.
    Plain(String),
    Map(Vec<Entry>),
}

/// Whether passwords may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Into a file that only its owner reads.
    Written,
    /// Only where they come from: variables of this name and the owner's.
    Named,
}

/// Everything that comes of one file.
pub(super) struct Draft {
    secrets: Secrets,
    pub(super) nodes: Vec<Entry>,
    pub(super) groups: Vec<Entry>,
    pub(super) gateway: Vec<Entry>,
    /// What has no equal, with its place and the reason.
    pub(super) left: Vec<String>,
    /// What a person should know before using it.
    pub(super) warnings: Vec<String>,
    /// How many passwords were in the source in clear.
    pub(super) passwords: usize,
    /// Variables that must be set before the configuration can be used.
    pub(super) variables: Vec<String>,
}

impl Entry {
    /// A key with YAML behind it.
    pub(super) fn new(key: &str, value: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: Value::Plain(value.into()), notes: Vec::new() }
    }

    /// A key with a text behind it.
    pub(super) fn text(key: &str, text: &str) -> Self {
        Self::new(key, scalar(text))
    }

    /// A key with texts behind it.
    pub(super) fn list<T: AsRef<str>>(key: &str, texts: &[T]) -> Self {
        Self::new(key, list(texts))
    }

    /// A key with keys below it.
    pub(super) fn map(key: &str, entries: Vec<Self>) -> Self {
        Self { key: key.to_owned(), value: Value::Map(entries), notes: Vec::new() }
    }

    /// With a comment above it.
    pub(super) fn noted(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// With these comments above it.
    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    fn has_notes(&self) -> bool {
        !self.notes.is_empty()
            || matches!(&self.value, Value::Map(entries) if entries.iter().any(Self::has_notes))
    }

    fn inline(&self) -> String {
        let key = scalar(&self.key);
        match &self.value {
            Value::Plain(text) => format!("{key}: {text}"),
            Value::Map(entries) => format!("{key}: {}", inline(entries)),
        }
    }

    fn write(&self, depth: usize, sheet: &mut String) {
        let margin = "  ".repeat(depth);
        for note in &self.notes {
            comment(note, depth, sheet);
        }
        let below =
            matches!(&self.value, Value::Map(entries) if entries.iter().any(Self::has_notes));
        let line = self.inline();
        match &self.value {
            Value::Map(entries) if below || line.len() + margin.len() > ONE_LINE => {
                line_of(&format!("{margin}{}:", scalar(&self.key)), sheet);
                for entry in entries {
                    entry.write(depth + 1, sheet);
                }
            }
            Value::Map(_) | Value::Plain(_) => line_of(&format!("{margin}{line}"), sheet),
        }
    }
}

impl Draft {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            nodes: Vec::new(),
            groups: Vec::new(),
            gateway: Vec::new(),
            left: Vec::new(),
            warnings: Vec::new(),
            passwords: 0,
            variables: Vec::new(),
        }
    }

    /// `password` or `server_password` of `owner`: the text itself, or the variable that is to hold it.
    pub(super) fn password(&mut self, key: &str, owner: &str, text: &str) -> Entry {
        self.passwords += 1;
        match self.secrets {
            Secrets::Written => Entry::new(key, quoted(text)),
            Secrets::Named => self.variable(key, owner),
        }
    }

    /// A password that the source does not have: the variable that is to hold it.
    pub(super) fn variable(&mut self, key: &str, owner: &str) -> Entry {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let variable: String = format!("{owner}_{key}").chars().map(word).collect();
        if !self.variables.contains(&variable) {
            self.variables.push(variable.clone());
        }
        Entry::text(&format!("{key}_env"), &variable)
    }

    /// Whether the gateway's section has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.gateway.iter().any(|entry| entry.key == key)
    }

    /// Notes what has no equal.
    pub(super) fn leave(&mut self, place: &str, what: &str, why: &str) {
        self.left.push(format!("{place}: {what}: {why}"));
    }

    /// The file.
    pub(super) fn yaml(&self, source: &str) -> String {
        let mut sheet = String::new();
        comment(&format!("Made by `herdsman import` from {source}."), 0, &mut sheet);
        sheet.push('\n');
        for (key, entries) in
            [("hosts", &self.nodes), ("groups", &self.groups), ("gateway", &self.gateway)]
        {
            if entries.is_empty() {
                continue;
            }
            line_of(&format!("{key}:"), &mut sheet);
            for entry in entries {
                entry.write(1, &mut sheet);
            }
        }
        if !self.left.is_empty() {
            sheet.push('\n');
            comment("Without an equal here:", 0, &mut sheet);
            for left in &self.left {
                comment(left, 0, &mut sheet);
            }
        }
        sheet
    }
}

/// A text as a YAML value: as it is where that reads back as the same text, else in quotes.
pub(super) fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'));
    let rest =
        text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    if first && rest && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    // IP addresses have more than one dot: no number does.
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return text.to_owned();
    }
    quoted(text)
}

/// A text in quotes. What JSON escapes, YAML reads.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| scalar(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

fn inline(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "{}".to_owned();
    }
    let entries: Vec<_> = entries.iter().map(Entry::inline).collect();
    format!("{{ {} }}", entries.join(", "))
}

fn line_of(line: &str, sheet: &mut String) {
    sheet.push_str(line);
    sheet.push('\n');
}

/// A comment, broken between words. Control characters, which would end it, become blanks.
fn comment(text: &str, depth: usize, sheet: &mut String) {
    let margin = "  ".repeat(depth);
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !line.is_empty() && line.len() + word.len() >= COMMENT {
            line_of(&format!("{margin}# {line}"), sheet);
            line.clear();
            line.push(' ');
        }
        if word.is_empty() {
            continue;
        }
        let blank = if line.trim().is_empty() { "" } else { " " };
        let _never_fails = write!(line, "{blank}{word}");
    }
    if !line.trim().is_empty() {
        line_of(&format!("{margin}# {line}"), sheet);
    }
}
