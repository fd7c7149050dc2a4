//! The settings in a start-up packet.

use super::value::{is_name, literal};

/// Names and values, in the order in which they are made: `options` first, as PostgreSQL does, so that a parameter of its
/// own counts for more.
pub(super) fn settings(parameters: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for (_, options) in parameters.iter().filter(|(name, _)| name == "options") {
        all.extend(take_apart(options)?);
    }
    let special = ["user", "database", "replication", "options"];
    let own = parameters.iter().filter(|(name, _)| !special.contains(&name.as_str()));
    all.extend(own.cloned());
    let mut made = Vec::new();
    for (name, value) in all {
        let name = name.to_ascii_lowercase();
        if name.starts_with("_pq_.") || name.starts_with("herdsman.") {
            continue;
        }
        if !is_name(&name) {
            return Err(format!("{name:?} in the start-up packet cannot be the name of a setting"));
        }
        let value = literal(&name, &value)
            .ok_or_else(|| format!("the value of {name} in the start-up packet cannot be one"))?;
        if name == "search_path" && crate::effects::names_temporary_schema(&value) {
            return Err(
                "search_path in the start-up packet names pg_temp, which belongs to one server session: create temporary \
                 tables with CREATE TEMP TABLE"
                    .to_owned(),
            );
        }
        made.push((name, value));
    }
    Ok(made)
}

/// Whether an encoding's name, quoted or not, is UTF-8's: PostgreSQL looks at letters and digits only.
pub(super) fn is_utf8(encoding: &str) -> bool {
    let letters = encoding.chars().filter(char::is_ascii_alphanumeric);
    let name = letters.map(|letter| letter.to_ascii_lowercase()).collect::<String>();
    matches!(name.as_str(), "utf8" | "unicode")
}

/// `-c name=value --name=value`, where a backslash takes the meaning off a blank or a backslash.
pub(crate) fn take_apart(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some("")) => words.next().ok_or("-c in options is followed by nothing")?,
            (None, Some(setting)) => setting.to_owned(),
            (None, None) => {
                return Err(format!(
                    "{word:?} in options: only -c name=value and --name=value are known"
                ));
            }
        };
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("{setting:?} in options has no value: write {setting}=…"))?;
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

fn words(options: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut letters = options.chars();
    while let Some(letter) = letters.next() {
        // As isspace() in C.
        if letter.is_ascii_whitespace() || letter == '\x0b' {
            words.extend(word.take());
        } else {
            let letter = if letter == '\\' { letters.next() } else { Some(letter) };
            word.get_or_insert_default().extend(letter);
        }
    }
    words.extend(word);
    words
}
