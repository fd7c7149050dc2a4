//! The keys that say where a password comes from.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use herdsman_node::environment;

use crate::Depth;
use crate::command::of_command;
use crate::problem::quoted;

/// Where passwords come from besides `password`; none of these reaches the server.
const PASSWORD_SOURCES: [&str; 5] =
    ["password", "b64password", "password_file", "password_env", "password_command"];

/// Longest password taken from a file.
const MAX_PASSWORD: usize = 4096;

/// Fewer signs can be tried out.
const SHORTEST_TOKEN: usize = 8;

/// A key about the password is wrong.
pub(crate) struct Wrong {
    pub(crate) key: String,
    pub(crate) message: String,
}

/// Takes the keys about passwords out of `pairs` and returns the password they give.
///
/// In the file, all of them begin with `prefix`.
pub(crate) fn take(
    pairs: &mut BTreeMap<String, String>,
    prefix: &str,
    depth: Depth,
) -> Result<Option<String>, Wrong> {
    let mut given: Vec<(&str, String)> = PASSWORD_SOURCES
        .iter()
        .filter_map(|&key| pairs.remove(key).map(|value| (key, value)))
        .collect();
    let encoding = pairs.remove("password_encoding");
    if let [(first, _), (second, _), ..] = given.as_slice() {
        return Err(wrong(
            second,
            &format!(
                "the password is given twice, expected either `{prefix}{first}` or `{prefix}{second}`"
            ),
        ));
    }
    let Some((key, value)) = given.pop() else {
        return match encoding {
            Some(_) => {
                Err(wrong("password_encoding", "there is no `password` to decode, expected one"))
            }
            None => Ok(None),
        };
    };
    let encoded = match encoding.as_deref() {
        None | Some("plain") => key == "b64password",
        Some("base64") if key != "b64password" => true,
        Some("base64") => {
            return Err(wrong(
                "password_encoding",
                "`b64password` is base64 anyway, expected `password_encoding` with `password` only",
            ));
        }
        Some(other) => {
            return Err(wrong(
                "password_encoding",
                &format!("{} is not an encoding, expected plain or base64", quoted(other)),
            ));
        }
    };
    let value = match key {
        "password_file" | "password_env" | "password_command" if depth == Depth::Outline => {
            return Ok(None);
        }
        "password_file" => first_line(Path::new(&value), "password").map_err(|e| wrong(key, &e))?,
        "password_env" => variable(&value, "password").map_err(|e| wrong(key, &e))?,
        "password_command" => of_command(&value, "password").map_err(|e| wrong(key, &e))?,
        _ => value,
    };
    if encoded { decoded(&value).map(Some).map_err(|e| wrong(key, e)) } else { Ok(Some(value)) }
}

/// The token that one of the keys `token`, `token_file`, `token_env` and `token_command` gives.
pub(crate) fn token(given: &[(&str, String)], depth: Depth) -> Result<Option<String>, Wrong> {
    let (key, value) = match given {
        [] => return Ok(None),
        [one] => one,
        [(first, _), (second, _), ..] => {
            let message =
                format!("the token is given twice, expected either `{first}` or `{second}`");
            return Err(wrong(second, &message));
        }
    };
    let token = match *key {
        "token_file" | "token_env" | "token_command" if depth == Depth::Outline => return Ok(None),
        "token_file" => first_line(Path::new(value), "token").map_err(|e| wrong(key, &e))?,
        "token_env" => variable(value, "token").map_err(|e| wrong(key, &e))?,
        "token_command" => of_command(value, "token").map_err(|e| wrong(key, &e))?,
        _ => value.clone(),
    };
    // It travels in a header.
    if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!(
            "this is no token, expected {SHORTEST_TOKEN} or more letters, digits and signs without blanks"
        );
        return Err(wrong(key, &message));
    }
    Ok(Some(token))
}

fn variable(name: &str, what: &str) -> Result<String, String> {
    environment::secret(name).map_err(|_| {
        format!("the variable {} is not set, expected it to hold the {what}", quoted(name))
    })
}

fn decoded(value: &str) -> Result<String, &'static str> {
    // Line ends and blanks come from wrapped `base64` output.
    let compact: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = STANDARD
        .decode(compact)
        .map_err(|_| "this is not base64, expected what `base64` prints")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| "this decodes to something that is not UTF-8 text, expected a password")?;
    // `echo secret | base64` encodes the line end as well.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn first_line(path: &Path, what: &str) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_PASSWORD as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            format!("the file {} cannot be read: {error}", quoted(&path.display().to_string()))
        })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        format!(
            "the file {} is not UTF-8 text, expected a {what}",
            quoted(&path.display().to_string())
        )
    })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > MAX_PASSWORD {
        return Err(format!(
            "the first line of {} is empty or too long, expected a {what}",
            quoted(&path.display().to_string())
        ));
    }
    Ok(line.to_owned())
}

fn wrong(key: &str, message: &str) -> Wrong {
    Wrong { key: key.to_owned(), message: message.to_owned() }
}
