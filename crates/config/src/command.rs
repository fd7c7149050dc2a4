//! Secrets that a program prints, such as the client of a vault.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use herdsman_node::environment;

use crate::problem::quoted;

/// How long the program may take, which the start of ours waits for: vaults answer in a second or two.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether the program has ended.
const GLANCE: Duration = Duration::from_millis(5);
/// Longest secret taken.
const LONGEST: usize = 4096;

/// The first line that a program prints. `command` is its name and its arguments, as `words` takes them apart; no shell is
/// between. What it writes to standard error is not shown.
///
/// ```
/// let secret = herdsman_config::of_command("printf 'hunter2\\n'", "password");
/// assert_eq!(secret.as_deref(), Ok("hunter2"));
/// ```
///
/// # Errors
/// What is wrong with it, without anything that it printed; after 10 s it is ended.
pub fn of_command(command: &str, what: &str) -> Result<String, String> {
    of_command_within(command, what, LIMIT)
}

fn of_command_within(command: &str, what: &str, limit: Duration) -> Result<String, String> {
    let words = words(command)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err("there is no program in it, expected its name and its arguments".to_owned());
    };
    let named = quoted(program);
    let mut start = Command::new(program);
    start.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for secret in environment::withheld() {
        start.env_remove(secret);
    }
    let mut child =
        start.spawn().map_err(|error| format!("the program {named} cannot be started: {error}"))?;
    let outcome = printed(&mut child, limit);
    if outcome.is_err() {
        // One that has ended meanwhile is as good as ended.
        let _ended = child.kill();
        let _reaped = child.wait();
    }
    let bytes = outcome.map_err(|problem| {
        format!("the program {named} {problem}, expected it to print the {what}; run it as this account to see why")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("the program {named} prints no UTF-8 text, expected a {what}"))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > LONGEST {
        return Err(format!(
            "the first line that {named} prints is empty or too long, expected a {what}"
        ));
    }
    Ok(line.to_owned())
}

/// What it prints until it ends well, within a limit.
fn printed(child: &mut Child, limit: Duration) -> Result<Vec<u8>, String> {
    let late = || format!("has not ended within {} s", limit.as_secs());
    let (tell, told) = mpsc::channel();
    let output = child.stdout.take();
    // A thread of its own: whoever inherited the pipe may keep it open for ever.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read =
            output.map_or(Ok(0), |output| output.take(LONGEST as u64 + 2).read_to_end(&mut bytes));
        // Nobody listens any more where the limit has passed.
        let _nobody = tell.send(read.map(|_| bytes));
    });
    let bytes = match told.recv_timeout(limit) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(format!("cannot be read: {error}")),
        Err(_) => return Err(late()),
    };
    let mut waited = Duration::ZERO;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(bytes),
            Ok(Some(status)) => return Err(format!("failed ({status})")),
            Ok(None) if waited >= limit => return Err(late()),
            Ok(None) => {
                std::thread::sleep(GLANCE);
                waited += GLANCE;
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}

/// The words of a command: blanks part them, `'…'` and `"…"` hold together what has blanks in it. Nothing else has a
/// meaning: there are no variables and no backslashes.
fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed, expected a second one".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_by_blanks_and_held_together_by_quotes() {
        for (command, expected) in [
            ("vault kv  get\tsecret/x", &["vault", "kv", "get", "secret/x"][..]),
            ("a 'b c' \"d 'e\" f'g h'i", &["a", "b c", "d 'e", "fg hi"]),
            ("a '' $HOME \\n", &["a", "", "$HOME", "\\n"]),
            (" ", &[]),
        ] {
            assert_eq!(words(command).unwrap(), expected, "{command}");
        }
        assert!(words("a 'b").unwrap_err().contains("not closed"));
    }

    #[test]
    fn the_first_line_that_a_program_prints_is_the_secret() {
        let told = of_command("printf 'hunter2\nmore\n'", "password");
        assert_eq!(told.as_deref(), Ok("hunter2"));
    }

    #[test]
    fn a_program_that_fails_is_named_and_what_it_printed_is_not_shown() {
        for (command, expected) in [
            ("/no/such/program hunter2", "cannot be started"),
            ("sh -c 'echo hunter2; echo hunter2 >&2; exit 3'", "failed (exit status: 3)"),
            ("true", "empty or too long"),
            ("  ", "there is no program"),
            ("printf '\\377hunter2'", "no UTF-8"),
            ("head -c 5000 /dev/zero", "empty or too long"),
        ] {
            let error = of_command(command, "password").unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{command}: {error}");
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        for command in ["sleep 600", "sh -c 'echo hunter2; exec >&-; sleep 600'"] {
            let error = of_command_within(command, "token", Duration::from_millis(300));
            assert!(error.unwrap_err().contains("has not ended"), "{command}");
        }
    }
}
