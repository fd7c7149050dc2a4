//! `[databases]`: which servers there are, and which database is on which.

use super::super::draft::{Draft, Entry};
use super::super::span::{self, Span, Zero};
use super::super::{Watcher, node};

/// The keys of a database that have no equal.
const LEFT: [(&[&str], &str); 7] = [
    (&["min_pool_size"], "connections are made when they are needed"),
    (&["reserve_pool", "reserve_pool_size"], "`pool.size` is the whole bound"),
    (&["max_db_connections"], "`pool.size` bounds each database, user and node"),
    (&["load_balance_hosts"], "of two nodes drawn the less busy one is taken"),
    (&["server_lifetime"], "`gateway.pool.server_lifetime` holds for all"),
    (&["connect_query"], "set what it sets for the role or the database: `ALTER ROLE … SET …`"),
    (
        &["client_encoding", "datestyle", "timezone", "application_name"],
        "set it for the database itself: `ALTER DATABASE … SET …`",
    ),
];

/// One line of the section.
pub(super) struct Database {
    pub(super) name: String,
    pub(super) place: String,
    pairs: Vec<(String, String)>,
    port: u16,
}

/// All servers, and the sets of several of them that databases have.
pub(super) struct Herd {
    servers: Vec<(String, u16)>,
    /// Which a database without `host` is on.
    socket: String,
    groups: Vec<Vec<usize>>,
}

impl Database {
    pub(super) fn new(
        name: &str,
        place: &str,
        pairs: Vec<(String, String)>,
    ) -> Result<Self, String> {
        let mut database =
            Self { name: name.to_owned(), place: place.to_owned(), pairs, port: 5432 };
        if let Some(port) = database.get("port") {
            let port = port.parse().ok().filter(|port| *port != 0);
            database.port = port
                .ok_or_else(|| format!("{place}: the port of `{name}` is not from 1 to 65535"))?;
        }
        Ok(database)
    }

    /// A key's value; the last one of several counts.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn hosts(&self, socket: &str) -> Vec<(String, u16)> {
        let hosts = self.get("host").unwrap_or(socket).split(',').map(str::trim);
        hosts.filter(|host| !host.is_empty()).map(|host| (host.to_owned(), self.port)).collect()
    }

    /// Its keys here. Nothing for a name that is taken.
    pub(super) fn entry(&self, herd: &Herd, draft: &mut Draft) -> Option<Entry> {
        if self.name == "herdsman" {
            let warning =
                "the database `herdsman` is left out: it is the console here; give it another name";
            draft.warnings.push(warning.to_owned());
            draft.leave(&self.place, "the database `herdsman`", "it is the console here");
            return None;
        }
        let mut entries = Vec::new();
        if let Some(dbname) = self.get("dbname").filter(|dbname| *dbname != self.name) {
            entries.push(Entry::text("dbname", dbname));
        }
        entries.extend(herd.target(self));
        entries.extend(rules_of(|key| self.get(key), "max_db_client_connections"));
        for (keys, why) in LEFT {
            for key in keys.iter().filter(|key| self.get(key).is_some()) {
                draft.leave(&self.place, &format!("`{key}` of the database `{}`", self.name), why);
            }
        }
        self.leave_unknown(draft);
        Some(Entry::map(&self.name, entries))
    }

    fn leave_unknown(&self, draft: &mut Draft) {
        const TAKEN: [&str; 12] = [
            "dbname",
            "host",
            "port",
            "user",
            "password",
            "auth_user",
            "auth_query",
            "auth_dbname",
            "pool_size",
            "pool_mode",
            "query_wait_timeout",
            "max_db_client_connections",
        ];
        for (key, _) in &self.pairs {
            let known = TAKEN.contains(&key.as_str())
                || LEFT.iter().any(|(keys, _)| keys.contains(&key.as_str()));
            if !known {
                let what = format!("`{key}` of the database `{}`", self.name);
                draft.leave(&self.place, &what, "not known to this import");
            }
        }
    }
}

impl Herd {
    pub(super) fn of(databases: &[Database], socket: &str) -> Self {
        let mut herd = Self { servers: Vec::new(), socket: socket.to_owned(), groups: Vec::new() };
        for database in databases {
            for server in database.hosts(socket) {
                if !herd.servers.contains(&server) {
                    herd.servers.push(server);
                }
            }
        }
        for database in databases {
            let members = herd.members(database);
            let some = members.len() > 1 && members.len() < herd.servers.len();
            if some && !herd.groups.contains(&members) {
                herd.groups.push(members);
            }
        }
        herd
    }

    fn members(&self, database: &Database) -> Vec<usize> {
        let hosts = database.hosts(&self.socket);
        let mut members: Vec<_> = hosts
            .iter()
            .filter_map(|host| self.servers.iter().position(|server| server == host))
            .collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// `hosts:`.
    pub(super) fn nodes(&self, watcher: &Watcher, tls: &[(String, String)]) -> Vec<Entry> {
        (1..)
            .zip(&self.servers)
            .map(|(number, (host, port))| node(&name(number), host, *port, watcher, tls))
            .collect()
    }

    /// `groups:`.
    pub(super) fn groups(&self) -> Vec<Entry> {
        (1..)
            .zip(&self.groups)
            .map(|(number, members)| {
                let members: Vec<_> = members.iter().map(|index| name(index + 1)).collect();
                Entry::list(&group(number), &members)
            })
            .collect()
    }

    /// Where a database's statements go. Where there is one server, there is nothing to say.
    fn target(&self, database: &Database) -> Option<Entry> {
        let members = self.members(database);
        match members.as_slice() {
            _ if self.servers.len() == 1 => None,
            [only] => Some(Entry::text("target", &name(only + 1))),
            _ => {
                let number = self.groups.iter().position(|group| *group == members)? + 1;
                Some(Entry::text("group", &group(number)))
            }
        }
    }

    pub(super) fn warn(&self, draft: &mut Draft) {
        if self.servers.len() > 1 {
            draft.warnings.push(format!(
                "the {} servers are taken for nodes of one cluster, of which one is the primary; of servers that have nothing \
                 to do with each other, each needs a configuration of its own",
                self.servers.len()
            ));
            if self.servers.len() > self.groups.len() {
                draft.warnings.push(
                    "a database keeps to its own server, as it did (`target`); without `target` its reads go to standbys and \
                     its writes to whoever is primary"
                        .to_owned(),
                );
            }
        }
    }
}

/// `max_clients` and `pool:` of a database or a user, as far as there is something to say. `clients` is the name of the first
/// there.
pub(super) fn rules_of<'v>(get: impl Fn(&str) -> Option<&'v str>, clients: &str) -> Vec<Entry> {
    let count = |key: &str| get(key)?.parse::<u64>().ok();
    let wait = Span { key: "queue_timeout", least: 10, most: span::HOUR, zero: Zero::Longest };
    let limit = Span { key: "query_timeout", least: 10, most: span::MONTH, zero: Zero::Never };
    let time = |span: Span, key: &str| Some(span.entry(span::seconds(get(key)?)?));
    let pool: Vec<_> = [
        get("pool_mode").and_then(mode),
        count("pool_size").map(|size| span::number("size", size, 1, 10_000)),
        time(wait, "query_wait_timeout"),
        time(limit, "query_timeout"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let most = count(clients).map(|most| span::number("max_clients", most, 0, 1_000_000));
    most.into_iter().chain((!pool.is_empty()).then(|| Entry::map("pool", pool))).collect()
}

/// `mode:`.
pub(super) fn mode(mode: &str) -> Option<Entry> {
    ["session", "transaction", "statement"].contains(&mode).then(|| Entry::text("mode", mode))
}

fn name(number: usize) -> String {
    format!("pg{number}")
}

fn group(number: usize) -> String {
    format!("servers{number}")
}
