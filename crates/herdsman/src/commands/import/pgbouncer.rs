//! What a `pgbouncer.ini` means here. Pure: files are asked of [`Files`].

mod auth;
mod databases;
mod settings;

use std::collections::BTreeMap;

use self::databases::{Database, Herd};
use super::draft::{Draft, Entry};
use super::ini::{self, Setting};
use super::{Files, Watcher};

/// The keys of a section, each with its place and value; the last one of several counts.
struct Keys(BTreeMap<String, (String, String)>);

/// Everything the file says, by its sections.
struct Source {
    keys: Keys,
    databases: Vec<Database>,
    users: Vec<User>,
    peers: usize,
}

/// One line of `[users]`.
struct User {
    name: String,
    place: String,
    pairs: Vec<(String, String)>,
}

impl Keys {
    /// Takes a key out; what is left in the end has no equal. One that is empty says nothing.
    fn take(&mut self, key: &str) -> Option<(String, String)> {
        self.0.remove(key).filter(|(_, value)| !value.is_empty())
    }

    fn value(&mut self, key: &str) -> Option<String> {
        self.take(key).map(|(_, value)| value)
    }
}

/// Puts into `draft` what the settings mean.
///
/// # Errors
/// What cannot be imported, a line for each.
pub(super) fn translate(
    settings: Vec<Setting>,
    files: &dyn Files,
    watcher: &Watcher,
    draft: &mut Draft,
) -> Result<(), Vec<String>> {
    let Source { mut keys, databases, users, peers } = sorted(settings, draft)?;
    let mut problems = Vec::new();
    if databases.is_empty() {
        problems.push(
            "[databases] has no database, so PgBouncer serves none; expected at least one"
                .to_owned(),
        );
    }
    let socket_folder = keys.0.get("unix_socket_dir").map(|(_, folder)| folder.clone());
    let herd = Herd::of(
        &databases,
        socket_folder.as_deref().filter(|folder| !folder.is_empty()).unwrap_or("/tmp"),
    );
    let server_tls = settings::server_tls(&mut keys, files, draft);
    draft.nodes = herd.nodes(watcher, &server_tls);
    draft.groups = herd.groups();
    herd.warn(draft);

    settings::listen(&mut keys, files, draft);
    settings::client_tls(&mut keys, files, draft, &mut problems);
    let known = auth::method(&mut keys, files, &databases, draft, &mut problems);
    let users = auth::users(&users, &databases, &known, draft);
    if !users.is_empty() {
        draft.gateway.push(Entry::map("users", users));
    }
    auth::admins(&mut keys, &known, draft);
    let databases = databases.iter().filter_map(|database| database.entry(&herd, draft)).collect();
    draft.gateway.push(Entry::map("databases", databases));
    settings::limits(&mut keys, draft, &mut problems);
    settings::pool(&mut keys, draft, &mut problems);
    settings::leave(keys, draft);
    if peers > 0 {
        draft.left.push(format!(
            "[peers], {peers} of them: a cancel request must reach the gateway whose client it is of; no gateway asks another"
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn sorted(settings: Vec<Setting>, draft: &mut Draft) -> Result<Source, Vec<String>> {
    let mut source =
        Source { keys: Keys(BTreeMap::new()), databases: Vec::new(), users: Vec::new(), peers: 0 };
    let mut problems = Vec::new();
    for Setting { place, section, key, value } in settings {
        let pairs = |value: &str| {
            ini::pairs(value)
                .ok_or_else(|| format!("{place}: `{key}` is not `{key} = key=value key=value …`"))
        };
        match section.as_str() {
            "pgbouncer" => {
                source.keys.0.insert(key, (place, value));
            }
            "databases" => match pairs(&value).and_then(|pairs| Database::new(&key, &place, pairs))
            {
                Ok(database) => {
                    source.databases.retain(|other| other.name != database.name);
                    source.databases.push(database);
                }
                Err(problem) => problems.push(problem),
            },
            "users" => match pairs(&value) {
                Ok(pairs) => {
                    source.users.retain(|user| user.name != key);
                    source.users.push(User { name: key, place, pairs });
                }
                Err(problem) => problems.push(problem),
            },
            "peers" => source.peers += 1,
            other => draft.leave(
                &place,
                &format!("`{key}` of [{other}]"),
                "PgBouncer has no such section",
            ),
        }
    }
    if problems.is_empty() { Ok(source) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
