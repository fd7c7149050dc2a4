//! Variables of this process that are no business of the programs it starts: those with secrets in them.
//!
//! A program that is started inherits every variable, and hands them on; any process of the same account reads them in
//! `/proc`. So who reads a secret from a variable says so here, and who starts a program takes those away from it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Withheld in any case: what this program reads by itself, and what is between it and its service manager.
const ALWAYS: [&str; 8] = [
    "PGPASSWORD",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    // Who has this one can tell the service manager anything in our name.
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

static SECRET: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on, no program that is started gets this variable.
///
/// ```
/// herdsman_node::environment::withhold("APP_PASSWORD");
/// assert!(herdsman_node::environment::withheld().contains(&"APP_PASSWORD".to_owned()));
/// ```
pub fn withhold(name: &str) {
    // What cannot be a name cannot be set either, and would be a mistake to whoever takes it away.
    if !name.is_empty() && !name.contains(['=', '\0']) {
        SECRET.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }
}

/// The variables to take away from a program that is about to be started, whether they are set or not.
#[must_use]
pub fn withheld() -> Vec<String> {
    let learnt = SECRET.lock().unwrap_or_else(PoisonError::into_inner);
    ALWAYS.iter().map(|name| (*name).to_owned()).chain(learnt.iter().cloned()).collect()
}

/// The value of a variable that holds a secret, which no program is given from then on.
///
/// # Errors
/// It is not set, or is not UTF-8.
pub fn secret(name: &str) -> Result<String, std::env::VarError> {
    withhold(name);
    std::env::var(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_as_a_secret_is_withheld_and_what_is_no_name_is_not() {
        assert_eq!(secret("HERDSMAN_NO_SUCH_VARIABLE"), Err(std::env::VarError::NotPresent));
        for name in ["", "a=b", "a\0b"] {
            withhold(name);
        }
        let names = withheld();
        assert!(names.contains(&"HERDSMAN_NO_SUCH_VARIABLE".to_owned()), "{names:?}");
        assert!(names.contains(&"PGPASSWORD".to_owned()), "{names:?}");
        assert!(names.iter().all(|name| !name.is_empty() && !name.contains(['=', '\0'])));
    }
}
