//! What the configuration says of one database and user: the general, the database's over it, the user's over that.

use std::sync::Arc;

use herdsman_config::Groups;

use crate::auth::ServerLogin;
use crate::config::{DatabaseConfig, GatewayConfig, Target};
use crate::pool::Rules;
use crate::wire::Problem;
use crate::wire::error::code;

/// Ends of a database's name that say which of its nodes.
const SUFFIXES: [(&str, Target); 2] = [("_rw", Target::Writer), ("_ro", Target::Reader)];
/// Stands for every database that is not named.
const ANY: &str = "*";

/// The rules of a database and user as clients name them, who are `login` on the servers.
///
/// # Errors
/// There is no such database.
pub(crate) fn rules(
    config: &GatewayConfig,
    groups: &Groups,
    database: &str,
    user: &str,
    login: ServerLogin,
) -> Result<Rules, Problem> {
    let found = find(config, database).ok_or_else(|| {
        Problem::new(code::NO_DATABASE, format!("there is no database \"{database}\" here"))
            .hint("add it below `gateway.databases`, or `*` for every database of the servers")
    })?;
    let entry = config.users.get(user);
    let mut pool = config.pool.clone();
    if let Some(database) = found.entry {
        pool = pool.with(&database.pool);
    }
    if let Some(user) = entry {
        pool = pool.with(&user.pool);
    }
    let group = found.entry.and_then(|entry| entry.group.as_deref());
    let group = group.filter(|group| *group != "all").map(|group| {
        // A group that a reload has taken away has no nodes.
        groups.get(group).map_or_else(|| Arc::from([]), |nodes| Arc::from(nodes.as_slice()))
    });
    Ok(Rules {
        pool,
        target: found.target,
        group,
        dbname: found.dbname.to_owned(),
        login,
        prepared_statements: config.prepared_statements,
        session_state: config.session_state,
        write_guard: config.write_guard,
        slow_query: config.slow_query,
    })
}

/// The most clients of a database and of a user as clients name them; 0 is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientBounds {
    pub(crate) database: usize,
    pub(crate) user: usize,
}

/// What the configuration says of one database and one user: their own bound, else the general one.
pub(crate) fn client_bounds(config: &GatewayConfig, database: &str, user: &str) -> ClientBounds {
    let entry = find(config, database).and_then(|found| found.entry);
    let of_database = entry.and_then(|entry| entry.max_clients);
    let of_user = config.users.get(user).and_then(|user| user.max_clients);
    ClientBounds {
        database: of_database.unwrap_or(config.max_database_clients),
        user: of_user.unwrap_or(config.max_user_clients),
    }
}

struct Found<'a> {
    entry: Option<&'a DatabaseConfig>,
    dbname: &'a str,
    target: Target,
}

fn find<'a>(config: &'a GatewayConfig, name: &'a str) -> Option<Found<'a>> {
    let databases = &config.databases;
    let found = |entry: &'a DatabaseConfig, name: &'a str| Found {
        entry: Some(entry),
        dbname: entry.dbname.as_deref().unwrap_or(name),
        target: entry.target.clone(),
    };
    if name.is_empty() {
        return None;
    }
    if let Some(entry) = databases.get(name).filter(|_| name != ANY) {
        return Some(found(entry, name));
    }
    let any = databases.get(ANY);
    for (suffix, target) in SUFFIXES {
        let Some(base) = name.strip_suffix(suffix).filter(|base| !base.is_empty()) else {
            continue;
        };
        let named = databases.get(base).filter(|_| base != ANY);
        // Of a database that is on one node, or on writers only, there are no such halves.
        let whole = |entry: &&DatabaseConfig| entry.target == Target::Split;
        match named.or(any) {
            Some(entry) if whole(&entry) => return Some(Found { target, ..found(entry, base) }),
            None if databases.is_empty() => {
                return Some(Found { entry: None, dbname: base, target });
            }
            _ => {}
        }
    }
    match any {
        Some(entry) => Some(found(entry, name)),
        None if databases.is_empty() => {
            Some(Found { entry: None, dbname: name, target: Target::default() })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests;
