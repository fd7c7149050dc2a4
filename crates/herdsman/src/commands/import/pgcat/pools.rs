//! `[pools.<name>]`: databases with their servers and users.

use toml_edit::Item;

use super::super::draft::{Draft, Entry};
use super::super::span::{self, MONTH, Span, Zero};
use super::Keys;

/// What of a pool has no equal, and why none is needed or what does it.
const LEFT: [(&[&str], &str); 8] = [
    (&["load_balancing_mode"], "of two nodes drawn the less busy one is taken"),
    (&["query_parser_max_length"], "a statement of any length is looked at"),
    (
        &[
            "sharding_function",
            "automatic_sharding_key",
            "sharding_key_regex",
            "shard_id_regex",
            "regex_search_limit",
            "default_shard",
        ],
        "there are no shards",
    ),
    (
        &["cleanup_server_connections"],
        "what a client does to its session follows it, and never reaches another one",
    ),
    (&["log_client_parameter_status_changes", "plugins"], "there is none"),
    (&["prepared_statements_cache_size"], "`gateway.prepared_statements` holds for all, and is on"),
    (
        &["idle_timeout", "connect_timeout", "server_lifetime", "checkout_failure_limit"],
        "`gateway.pool` holds for all",
    ),
    (
        &[
            "db_activity_based_routing",
            "db_activity_init_delay",
            "db_activity_ttl",
            "table_mutation_cache_ms_ttl",
        ],
        "a client reads from a standby only what has got there",
    ),
];

const USER_LEFT: [(&[&str], &str); 2] = [
    (&["min_pool_size"], "connections are made when they are needed"),
    (&["server_lifetime", "connect_timeout", "idle_timeout"], "`gateway.pool` holds for all"),
];

/// A host and a port.
pub(super) type Server = (String, u16);

/// One pool with one shard.
pub(super) struct Pool<'t> {
    name: String,
    servers: Vec<Server>,
    dbname: String,
    target: Option<(&'static str, Option<&'static str>)>,
    mode: Option<&'t str>,
    users: Vec<User<'t>>,
    pub(super) auth_query: [Option<&'t str>; 3],
}

struct User<'t> {
    name: &'t str,
    password: Option<&'t str>,
    server: Option<(&'t str, Option<&'t str>)>,
    trusted: bool,
    size: Option<u64>,
    mode: Option<&'t str>,
    timeout: Option<u64>,
}

impl<'t> Pool<'t> {
    /// All that can be imported.
    pub(super) fn all(
        pools: Option<&'t Item>,
        draft: &mut Draft,
        problems: &mut Vec<String>,
    ) -> Vec<Self> {
        let tables = pools.and_then(Item::as_table_like);
        let mut all: Vec<_> = tables
            .iter()
            .flat_map(|table| table.iter())
            .filter_map(|(name, item)| Self::read(name, item, draft, problems))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read(
        name: &str,
        item: &'t Item,
        draft: &mut Draft,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let place = format!("pools.{name}");
        let mut keys = Keys::new(Some(item), &place);
        let shards: Vec<_> = keys.item("shards").and_then(Item::as_table_like)?.iter().collect();
        let [(number, shard)] = shards.as_slice() else {
            draft.leave(&place, "the whole pool", "it has several shards, and there are none here");
            draft.warnings.push(format!("the pool `{name}` is left out: it has several shards"));
            return None;
        };
        let shard_place = format!("{place}.shards.{number}");
        let mut shard = Keys::new(Some(shard), &shard_place);
        let servers = shard.item("servers").and_then(servers_of);
        let dbname = shard.text("database");
        shard.leave(&[(&["mirrors"], "there is none")], draft);
        let (Some(servers), Some(dbname)) = (servers, dbname) else {
            problems.push(format!(
                "{shard_place}: expected `database` and `servers = [[\"host\", port, \"role\"], …]`"
            ));
            return None;
        };
        let splits =
            keys.flag("query_parser_enabled") && keys.flag("query_parser_read_write_splitting");
        let _both_are_read = keys.flag("query_parser_read_write_splitting");
        let _standbys_first = keys.flag("primary_reads_enabled");
        let target = match keys.text("default_role").unwrap_or("any") {
            _ if splits => None,
            "primary" => Some(("writer", None)),
            "replica" => Some(("reader", None)),
            _ => Some((
                "split",
                Some(
                    "`any` there, without a look at the statement: here what is not proven to read goes to the primary.",
                ),
            )),
        };
        let mut pool = Self {
            name: name.to_owned(),
            servers,
            dbname: dbname.to_owned(),
            target,
            mode: keys.text("pool_mode"),
            users: Vec::new(),
            auth_query: ["auth_query", "auth_query_user", "auth_query_password"]
                .map(|key| keys.text(key)),
        };
        let users = keys.item("users").and_then(Item::as_table_like);
        for (number, user) in users.iter().flat_map(|users| users.iter()) {
            pool.users.extend(User::read(
                &format!("{place}.users.{number}"),
                user,
                draft,
                problems,
            ));
        }
        keys.leave(&LEFT, draft);
        Some(pool)
    }
}

impl<'t> User<'t> {
    fn read(
        place: &str,
        item: &'t Item,
        draft: &mut Draft,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let mut keys = Keys::new(Some(item), place);
        let Some(name) = keys.text("username") else {
            problems.push(format!("{place}: expected `username`"));
            return None;
        };
        let server_password = keys.text("server_password");
        let server = keys.text("server_username").map(|user| (user, server_password));
        let user = Self {
            name,
            password: keys.text("password"),
            server: server.or_else(|| server_password.map(|password| (name, Some(password)))),
            trusted: keys
                .text("auth_type")
                .is_some_and(|method| method.eq_ignore_ascii_case("trust")),
            size: keys.number("pool_size"),
            mode: keys.text("pool_mode"),
            timeout: keys.number("statement_timeout").filter(|millis| *millis > 0),
        };
        keys.leave(&USER_LEFT, draft);
        Some(user)
    }
}

/// `[["host", port, "role"], …]`. Who is what, is found out.
fn servers_of(item: &Item) -> Option<Vec<Server>> {
    let mut servers = Vec::new();
    for server in item.as_array()? {
        let (host, port) = match (server.as_array(), server.as_inline_table()) {
            (Some(server), _) => (server.get(0)?.as_str()?, server.get(1)?.as_integer()?),
            (_, Some(server)) => (server.get("host")?.as_str()?, server.get("port")?.as_integer()?),
            _ => return None,
        };
        servers.push((host.to_owned(), u16::try_from(port).ok().filter(|port| *port != 0)?));
    }
    (!servers.is_empty()).then_some(servers)
}

/// Every server once.
pub(super) fn servers(pools: &[Pool<'_>]) -> Vec<Server> {
    let mut servers = Vec::new();
    for server in pools.iter().flat_map(|pool| &pool.servers) {
        if !servers.contains(server) {
            servers.push(server.clone());
        }
    }
    servers
}

/// `users:`, everybody once. A password belongs to the user here, not to the user of a pool.
pub(super) fn users(pools: &[Pool<'_>], draft: &mut Draft) -> Vec<(String, Vec<Entry>)> {
    let mut users: Vec<(&User<'_>, Vec<Entry>)> = Vec::new();
    for user in pools.iter().flat_map(|pool| &pool.users) {
        if let Some((first, _)) = users.iter().find(|(known, _)| known.name == user.name) {
            let same = first.password == user.password && first.server == user.server;
            if !same
                || first.size != user.size
                || first.timeout != user.timeout
                || first.mode != user.mode
            {
                draft.warnings.push(format!(
                    "`{}` is in several pools with different settings; those of the first are taken, for all",
                    user.name
                ));
            }
            continue;
        }
        let mut entries = Vec::new();
        entries
            .extend(user.password.map(|password| draft.password("password", user.name, password)));
        if user.trusted {
            entries.push(
                Entry::text("auth", "trust")
                    .noted("Here for the loopback interface and the unix socket only."),
            );
        }
        if let Some((role, password)) = user.server {
            entries.push(Entry::text("server_user", role));
            entries
                .extend(password.map(|password| draft.password("server_password", role, password)));
        }
        let limit = Span { key: "query_timeout", least: 10, most: MONTH, zero: Zero::Never };
        let pool: Vec<_> = [
            user.mode.map(|mode| Entry::text("mode", &mode.to_ascii_lowercase())),
            user.size.map(|size| span::number("size", size, 1, 10_000)),
            user.timeout.map(|millis| limit.entry(millis)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !pool.is_empty() {
            entries.push(Entry::map("pool", pool));
        }
        users.push((user, entries));
    }
    users.into_iter().map(|(user, entries)| (user.name.to_owned(), entries)).collect()
}

/// `databases:` and `groups:`.
pub(super) fn databases(
    pools: &[Pool<'_>],
    servers: &[Server],
    draft: &mut Draft,
) -> (Vec<Entry>, Vec<Entry>) {
    let (mut databases, mut groups) = (Vec::new(), Vec::new());
    for pool in pools {
        if pool.name == "herdsman" || pool.name == "pgbouncer" {
            draft
                .warnings
                .push(format!("the pool `{}` is left out: it is the console here", pool.name));
            continue;
        }
        let mut entries = Vec::new();
        if pool.dbname != pool.name {
            entries.push(Entry::text("dbname", &pool.dbname));
        }
        let on_all = servers.iter().all(|server| pool.servers.contains(server));
        if !on_all {
            let members: Vec<_> = (1..)
                .zip(servers)
                .filter(|(_, server)| pool.servers.contains(server))
                .map(|(number, _)| format!("pg{number}"))
                .collect();
            groups.push(Entry::list(&pool.name, &members));
            entries.push(Entry::text("group", &pool.name));
        }
        if let Some((target, note)) = pool.target {
            entries.push(
                Entry::text("target", target)
                    .with_notes(note.map(ToOwned::to_owned).into_iter().collect()),
            );
        }
        if let Some(mode) = pool.mode {
            entries.push(Entry::map("pool", vec![Entry::text("mode", &mode.to_ascii_lowercase())]));
        }
        databases.push(Entry::map(&pool.name, entries));
    }
    if !groups.is_empty() {
        draft.warnings.push(
            "all servers are taken for nodes of one cluster, of which one is the primary; pools of clusters that have nothing \
             to do with each other need a configuration each"
                .to_owned(),
        );
    }
    (databases, groups)
}
