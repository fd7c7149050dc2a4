//! What a `pgcat.toml` means here. Pure: files are asked of [`Files`].

mod pools;

use std::collections::BTreeSet;

use toml_edit::{Document, Item, TableLike};

use self::pools::Pool;
use super::draft::{Draft, Entry};
use super::span::{self, HOUR, MONTH, Span, Zero};
use super::{Files, Watcher, node};

/// What of `[general]` has no equal, and why none is needed or what does it.
const LEFT: [(&[&str], &str); 8] = [
    (&["enable_prometheus_exporter", "prometheus_exporter_port"], "/metrics of the API"),
    (&["healthcheck_timeout", "ban_time"], "the watcher finds out who is well: `watch`"),
    (&["log_client_connections", "log_client_disconnections"], "`loglevel`"),
    (&["autoreload"], "SIGHUP, or `RELOAD` in the console"),
    (&["dns_cache_enabled", "dns_max_ttl"], "a name is looked up at each connection"),
    (
        &[
            "tcp_keepalives_idle",
            "tcp_keepalives_count",
            "tcp_keepalives_interval",
            "tcp_user_timeout",
        ],
        "as libpq has them, in `hosts`",
    ),
    (
        &["server_round_robin"],
        "the connection used last is taken first, of two nodes drawn the less busy one",
    ),
    (&["validate_config", "admin_auth_type"], "there is none"),
];

/// A table, from which keys are taken; what is left in the end has no equal.
struct Keys<'t> {
    table: Option<&'t dyn TableLike>,
    /// Such as `pools.shop`.
    place: String,
    taken: BTreeSet<&'static str>,
}

impl<'t> Keys<'t> {
    fn new(item: Option<&'t Item>, place: &str) -> Self {
        let table = item.and_then(Item::as_table_like);
        Self { table, place: place.to_owned(), taken: BTreeSet::new() }
    }

    fn item(&mut self, key: &'static str) -> Option<&'t Item> {
        self.taken.insert(key);
        self.table?.get(key)
    }

    fn text(&mut self, key: &'static str) -> Option<&'t str> {
        self.item(key)?.as_str().filter(|text| !text.is_empty())
    }

    fn number(&mut self, key: &'static str) -> Option<u64> {
        self.item(key)?.as_integer().and_then(|number| u64::try_from(number).ok())
    }

    fn flag(&mut self, key: &'static str) -> bool {
        self.item(key).and_then(Item::as_bool).unwrap_or(false)
    }

    fn time(&mut self, key: &'static str, span: Span) -> Option<Entry> {
        self.number(key).map(|millis| span.entry(millis))
    }

    /// Notes everything that was not taken.
    fn leave(self, reasons: &[(&[&str], &str)], draft: &mut Draft) {
        for (key, _) in self.table.iter().flat_map(|table| table.iter()) {
            if !self.taken.contains(key) {
                let known = reasons.iter().find(|(keys, _)| keys.contains(&key));
                let why = known.map_or("not known to this import", |(_, why)| why);
                draft.leave(&self.place, &format!("`{key}`"), why);
            }
        }
    }
}

/// Puts into `draft` what the text means.
///
/// # Errors
/// What cannot be imported, a line for each, without what stands there.
pub(super) fn translate(
    name: &str,
    text: &str,
    files: &dyn Files,
    watcher: &Watcher,
    draft: &mut Draft,
) -> Result<(), Vec<String>> {
    let document = Document::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        // The message of the notation, which shows nothing of the line.
        vec![format!(
            "{name}:{line}: {}",
            error.message().lines().next().unwrap_or("it is not TOML")
        )]
    })?;
    let mut problems = Vec::new();
    let mut general = Keys::new(document.as_table().get("general"), "general");
    let pools = Pool::all(document.as_table().get("pools"), draft, &mut problems);
    if pools.is_empty() && problems.is_empty() {
        problems.push(format!(
            "{name}: there is no pool in [pools] that could be imported; expected at least one"
        ));
    }
    let servers = pools::servers(&pools);
    let tls = server_tls(&mut general);
    draft.nodes = (1..)
        .zip(&servers)
        .map(|(number, (host, port))| node(&format!("pg{number}"), host, *port, watcher, &tls))
        .collect();
    listen(&mut general, files, draft, &mut problems);
    let query = auth_query(&mut general, &pools, draft);
    draft.gateway.extend(query);
    let mut users = pools::users(&pools, draft);
    admin(&mut general, &mut users, draft);
    let users: Vec<_> =
        users.into_iter().map(|(name, entries)| Entry::map(&name, entries)).collect();
    if !users.is_empty() {
        draft.gateway.push(Entry::map("users", users));
    } else if !draft.has("auth_query") {
        problems.push(format!(
            "{name}: no pool has a user; expected [pools.<name>.users.0] or an auth_query"
        ));
    }
    let (databases, groups) = pools::databases(&pools, &servers, draft);
    draft.gateway.push(Entry::map("databases", databases));
    draft.groups = groups;
    draft.gateway.push(Entry::map("pool", pool(&mut general)));
    if let Some(threads) = general.number("worker_threads") {
        draft.gateway.push(span::number("workers", threads, 1, 256));
    }
    let drain = Span { key: "drain_timeout", least: 0, most: HOUR, zero: Zero::Allowed };
    draft.gateway.extend(general.time("shutdown_timeout", drain));
    general.leave(&LEFT, draft);
    if document.as_table().get("plugins").is_some() {
        draft.leave("plugins", "all of them", "there are no plugins");
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn listen(
    general: &mut Keys<'_>,
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Vec<String>,
) {
    let host = general.text("host").unwrap_or("0.0.0.0");
    let port = general.number("port").unwrap_or(5432);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    draft.gateway.push(Entry::text("listen", &format!("{host}:{port}")));
    let (cert, key) = (general.text("tls_certificate"), general.text("tls_private_key"));
    if let (Some(cert), Some(key)) = (cert, key) {
        let paths = [("cert", files.absolute(cert)), ("key", files.absolute(key))];
        for (_, path) in &paths {
            problems
                .extend(files.readable(path).err().map(|problem| format!("general: {problem}")));
        }
        let entries = paths.iter().map(|(key, path)| Entry::text(key, path)).collect();
        draft.gateway.push(Entry::map("tls", entries));
    }
    draft.warnings.push(
        "PgCat has its clients prove themselves by md5; here it is SCRAM, which every driver of today has (`auth: md5` is there)"
            .to_owned(),
    );
}

fn server_tls(general: &mut Keys<'_>) -> Vec<(String, String)> {
    let (tls, verify) = (general.flag("server_tls"), general.flag("verify_server_certificate"));
    let mode = match (tls, verify) {
        (false, _) => "disable",
        (true, false) => "require",
        (true, true) => "verify-full",
    };
    vec![("sslmode".to_owned(), mode.to_owned())]
}

/// From `[general]`, or else from the first pool that has one.
fn auth_query(general: &mut Keys<'_>, pools: &[Pool<'_>], draft: &mut Draft) -> Option<Entry> {
    let own = ["auth_query", "auth_query_user", "auth_query_password"].map(|key| general.text(key));
    let [query, user, password] = if own[0].is_some() {
        own
    } else {
        pools.iter().map(|pool| pool.auth_query).find(|query| query[0].is_some())?
    };
    let user = user?;
    let mut entries = vec![Entry::text("user", user)];
    entries.extend(password.map(|password| draft.password("password", user, password)));
    // There it is put into the text, here it is a parameter.
    let query = query?.replace("'$1'", "$1");
    let entry = Entry::map("auth_query", {
        entries.push(Entry::text("query", &query));
        entries
    });
    Some(entry.noted("There it asks in the database of the pool, here in `postgres` unless `database` says otherwise."))
}

/// The user of the console.
fn admin(general: &mut Keys<'_>, users: &mut Vec<(String, Vec<Entry>)>, draft: &mut Draft) {
    let (Some(name), Some(password)) =
        (general.text("admin_username"), general.text("admin_password"))
    else {
        return;
    };
    if users.iter().any(|(known, _)| known == name) {
        draft
            .warnings
            .push(format!("`{name}` uses the console with the password it has in its pool"));
    } else {
        let password = draft.password("password", name, password);
        users.push((name.to_owned(), vec![password]));
    }
    draft.gateway.push(Entry::list("admins", &[name]));
}

/// `pool:`, what holds for all.
fn pool(general: &mut Keys<'_>) -> Vec<Entry> {
    let mut pool = Vec::new();
    let connect = general.number("connect_timeout").unwrap_or(1000);
    for key in ["connect_timeout", "queue_timeout"] {
        pool.push(Span { key, least: 10, most: HOUR, zero: Zero::Longest }.entry(connect));
    }
    for (theirs, key, least, most, zero) in [
        ("idle_timeout", "server_idle_timeout", 1000, MONTH, Zero::Longest),
        ("server_lifetime", "server_lifetime", 1000, MONTH, Zero::Longest),
        ("healthcheck_delay", "server_check_delay", 0, HOUR, Zero::Allowed),
        ("idle_client_in_transaction_timeout", "transaction_idle_timeout", 10, MONTH, Zero::Never),
    ] {
        pool.extend(general.time(theirs, Span { key, least, most, zero }));
    }
    pool
}

#[cfg(test)]
mod tests;
