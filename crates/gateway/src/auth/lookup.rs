//! `auth_query`: users that the servers know, and for how long an answer is good.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::User;
use super::link::{Link, Places, Row};
use super::verifier::Verifier;
use crate::config::AuthQuery;
use crate::wire::Problem;
use crate::wire::error::code;

/// How long an answer is good. So long may somebody get in whose password has been changed or has run out, at most; and
/// so often each user costs a server a query, at most.
const FRESH: Duration = Duration::from_secs(10);
/// A wrong password has the servers asked again after this, in case it is us who have the old one.
const DOUBTFUL: Duration = Duration::from_secs(1);
/// A failure is repeated to whoever asks for the same user meanwhile.
const FAILED: Duration = Duration::from_secs(1);
/// While no server can be asked, an answer is good for so much longer: logging in then does nobody harm, because it takes
/// a server to do anything, which checks the password itself.
const STALE: Duration = Duration::from_secs(300);
/// Names known at once, also those that nobody has.
const MOST: usize = 10_000;

/// Users that the servers know.
pub(super) struct Lookup {
    link: Link,
    names: Mutex<HashMap<String, Arc<Name>>>,
}

/// One name. Whoever holds `asking` asks for it; the others wait for the answer.
#[derive(Default)]
struct Name {
    asking: tokio::sync::Mutex<()>,
    answer: Mutex<Answer>,
}

#[derive(Clone, Default)]
struct Answer {
    /// What the servers said last, and when.
    said: Option<(Option<Arc<User>>, Instant)>,
    failed: Option<Instant>,
    /// The configuration has changed since.
    outdated: bool,
}

impl Lookup {
    pub(super) fn new(places: Places) -> Self {
        Self { link: Link::new(places), names: Mutex::default() }
    }

    /// Asks for one user, or repeats what was said shortly before. `user` makes one of its verifier.
    pub(super) async fn find(
        &self,
        name: &str,
        query: &AuthQuery,
        password: Option<SecretString>,
        user: impl Fn(Option<Verifier>) -> User,
    ) -> Result<Option<Arc<User>>, Problem> {
        let entry = self.entry(name);
        if let Some(answer) = entry.read().usable(Instant::now()) {
            return answer;
        }
        let _turn = entry.asking.lock().await;
        let before = entry.read();
        if let Some(answer) = before.usable(Instant::now()) {
            return answer;
        }
        if !self.link.has_places() {
            // Not a failure of theirs: as soon as there is a node, it is asked.
            return before.stale(Instant::now()).ok_or_else(unavailable);
        }
        let asked = self.link.ask(name, query, password).await;
        let now = Instant::now();
        let row = match asked {
            Ok(row) => row,
            Err(problem) => {
                tracing::warn!(user = name, %problem, "a user cannot be looked up");
                entry.write(|answer| answer.failed = Some(now));
                return before.stale(now).ok_or_else(unavailable);
            }
        };
        let found = row.and_then(|row| verified(name, row)).map(|verifier| {
            let user = user(verifier);
            if let Some((Some(old), _)) = &before.said {
                user.inherit(old);
            }
            Arc::new(user)
        });
        let said = Some((found.clone(), now));
        entry.write(|answer| *answer = Answer { said, failed: None, outdated: false });
        Ok(found)
    }

    /// Whether there is anybody to ask.
    pub(super) fn has_places(&self) -> bool {
        self.link.has_places()
    }

    /// A user as the servers said last.
    pub(super) fn known(&self, name: &str) -> Option<Arc<User>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name)?.read().said?.0
    }

    /// Has everything asked again.
    pub(super) fn outdate(&self) {
        self.link.close();
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names.values() {
            name.write(|answer| answer.outdated = true);
        }
    }

    fn entry(&self, name: &str) -> Arc<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = names.get(name) {
            return Arc::clone(entry);
        }
        if names.len() >= MOST {
            make_room(&mut names, Instant::now());
        }
        let entry = Arc::<Name>::default();
        names.insert(name.to_owned(), Arc::clone(&entry));
        entry
    }
}

/// Forgets names that nobody has and old answers first, then any, until an eighth is free: so it is done rarely.
fn make_room(names: &mut HashMap<String, Arc<Name>>, now: Instant) {
    names.retain(|_, name| {
        let said = name.read().said;
        Arc::strong_count(name) > 1
            || said.is_some_and(|(user, at)| user.is_some() && now.duration_since(at) < STALE)
    });
    let mut surplus = names.len().saturating_sub(MOST - MOST / 8);
    names.retain(|_, _| {
        let keep = surplus == 0;
        surplus = surplus.saturating_sub(1);
        keep
    });
}

impl Name {
    fn read(&self) -> Answer {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Answer {
    /// What needs no asking.
    fn usable(&self, now: Instant) -> Option<Result<Option<Arc<User>>, Problem>> {
        if self.failed.is_some_and(|at| now.duration_since(at) < FAILED) {
            return Some(self.stale(now).ok_or_else(unavailable));
        }
        let (user, at) = self.said.as_ref()?;
        let doubted = user.as_ref().is_some_and(|user| user.is_doubted());
        let good = if doubted { DOUBTFUL } else { FRESH };
        (now.duration_since(*at) < good && !self.outdated).then(|| Ok(user.clone()))
    }

    /// What is better than nothing while nobody can be asked.
    fn stale(&self, now: Instant) -> Option<Option<Arc<User>>> {
        let (user, at) = self.said.as_ref()?;
        (now.duration_since(*at) < STALE && !self.outdated).then(|| user.clone())
    }
}

/// What a row says of `name`: `None` for nobody, and a user without a verifier where there is none to be had.
fn verified(name: &str, row: Row) -> Option<Option<Verifier>> {
    if row.name != name {
        tracing::warn!(
            user = name,
            "the auth_query answered with another user: let it compare the name with `=`"
        );
        return None;
    }
    Some(row.verifier.and_then(|text| match Verifier::read(&text) {
        Ok(verifier) => Some(verifier),
        Err(problem) => {
            tracing::warn!(user = name, problem, "the auth_query answered with no password");
            None
        }
    }))
}

fn unavailable() -> Problem {
    Problem::new(code::CANNOT_CONNECT_NOW, "users cannot be looked up now")
        .hint("try again; the gateway's log says why")
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

#[cfg(test)]
mod tests;
