//! Who clients are, and how they prove it.

use super::super::Files;
use super::super::draft::{Draft, Entry};
use super::databases::{Database, rules_of};
use super::{Keys, User};

/// What of a user has no equal, or one for all only.
const USER_LEFT: [(&[&str], &str); 5] = [
    (&["reserve_pool_size"], "`pool.size` is the whole bound"),
    (&["max_user_connections"], "`pool.size` bounds each database, user and node"),
    (&["client_idle_timeout"], "`gateway.pool.client_idle_timeout` holds for all"),
    (&["idle_transaction_timeout"], "`gateway.pool.transaction_idle_timeout` holds for all"),
    (
        &["transaction_timeout"],
        "set PostgreSQL's own for the role: `ALTER ROLE … SET transaction_timeout`",
    ),
];

/// Whom the gateway will know by their names.
pub(super) struct Known {
    /// Those of `auth_file`.
    listed: Vec<String>,
    has_file: bool,
}

/// `auth`, `trust_loopback`, `auth_file` and `auth_query`.
pub(super) fn method(
    keys: &mut Keys,
    files: &dyn Files,
    databases: &[Database],
    draft: &mut Draft,
    problems: &mut Vec<String>,
) -> Known {
    let method = keys.value("auth_type").unwrap_or_else(|| "md5".to_owned());
    match method.as_str() {
        "scram-sha-256" => {}
        "cert" => draft.gateway.push(Entry::text("auth", "cert")),
        "trust" | "any" => {
            draft.gateway.push(Entry::new("trust_loopback", "true").noted(format!(
                "`{method}` there: nobody needs a password. Here, only on the loopback interface and the unix socket."
            )));
            draft.warnings.push(format!(
                "`auth_type = {method}` let everybody in; from other machines a password is asked for now"
            ));
        }
        "md5" => draft.gateway.push(
            Entry::text("auth", "md5").noted("Once every password is known in clear or as a SCRAM verifier: scram."),
        ),
        "plain" => draft.warnings.push("`auth_type = plain` is `scram` now, which no password crosses the wire with".to_owned()),
        "hba" => draft.warnings.push(
            "`auth_type = hba`: the rules of auth_hba_file are not taken over; every user proves itself by SCRAM, and \
             addresses are for a firewall"
                .to_owned(),
        ),
        other => draft.warnings.push(format!("`auth_type = {other}` has no equal; every user proves itself by SCRAM")),
    }
    let mut known = Known { listed: Vec::new(), has_file: false };
    if let Some((place, file)) = keys.take("auth_file") {
        let path = files.absolute(&file);
        match files.users(&path) {
            Ok(listed) => known = Known { listed, has_file: true },
            Err(problem) => problems.push(format!("{place}: `auth_file`: {problem}")),
        }
        draft.gateway.push(Entry::text("auth_file", &path));
    }
    let query = auth_query(keys, databases);
    let nobody = query.is_none() && !known.has_file && problems.is_empty();
    draft.gateway.extend(query);
    if nobody && !["cert", "trust", "any"].contains(&method.as_str()) {
        problems.push(format!(
            "`auth_type = {method}` without `auth_file` and `auth_query`: the gateway would know nobody; add an `auth_file` \
             with the users and import again"
        ));
    }
    known
}

/// `auth_query:`, from `[pgbouncer]` or else the first database that has one.
fn auth_query(keys: &mut Keys, databases: &[Database]) -> Option<Entry> {
    let general = keys.value("auth_user");
    let first = databases.iter().find(|database| database.get("auth_user").is_some());
    let user = general.clone().or_else(|| first?.get("auth_user").map(ToOwned::to_owned));
    let mut either = |key: &str| {
        let own = keys.value(key);
        own.or_else(|| first.filter(|_| general.is_none())?.get(key).map(ToOwned::to_owned))
    };
    let (query, dbname) = (either("auth_query"), either("auth_dbname"));
    let mut entries = vec![Entry::text("user", &user?)];
    let mut notes =
        vec!["The password of this user is taken from `users` or `auth_file`.".to_owned()];
    match dbname {
        Some(dbname) => entries.push(Entry::text("database", &dbname)),
        None => notes.push(
            "There it asks in the database of the client, here in `postgres`: a function must be there.".to_owned(),
        ),
    }
    entries.extend(query.map(|query| Entry::text("query", &query)));
    if general.is_none() {
        notes.push("There it is a matter of each database, here of all.".to_owned());
    }
    Some(Entry::map("auth_query", entries).with_notes(notes))
}

/// `users:`: what `[users]` says, and who is somebody else on the servers.
pub(super) fn users(
    lines: &[User],
    databases: &[Database],
    known: &Known,
    draft: &mut Draft,
) -> Vec<Entry> {
    let mut users: Vec<(String, Vec<Entry>)> = Vec::new();
    if let Some((role, password)) = forced(databases, draft) {
        if known.listed.is_empty() {
            draft.warnings.push(format!(
                "every client was `{role}` on the server; name the clients in `gateway.users`, each with `server_user: {role}`"
            ));
        }
        for name in known.listed.iter().filter(|name| *name != role) {
            let password = match password {
                Some(password) => draft.password("server_password", role, password),
                None => draft.variable("server_password", role),
            };
            users.push((name.clone(), vec![Entry::text("server_user", role), password]));
        }
    }
    for User { name, place, pairs } in lines {
        let get = |key: &str| {
            pairs.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
        };
        let rules = rules_of(get, "max_user_client_connections");
        for (keys, why) in USER_LEFT {
            for key in keys.iter().filter(|key| get(key).is_some()) {
                draft.leave(place, &format!("`{key}` of the user `{name}`"), why);
            }
        }
        if rules.is_empty() {
            continue;
        }
        if !known.has_file && !draft.has("auth_query") && !draft.has("auth") {
            draft.leave(
                place,
                &format!("the user `{name}`"),
                "the gateway would not know a password for it",
            );
            continue;
        }
        match users.iter_mut().find(|(other, _)| other == name) {
            Some((_, entries)) => entries.extend(rules),
            None => users.push((name.clone(), rules)),
        }
    }
    users.into_iter().map(|(name, entries)| Entry::map(&name, entries)).collect()
}

/// Who everybody is on the servers, where that is the same for all databases.
fn forced<'d>(databases: &'d [Database], draft: &mut Draft) -> Option<(&'d str, Option<&'d str>)> {
    let of = |database: &'d Database| Some((database.get("user")?, database.get("password")));
    let first = databases.iter().find_map(of)?;
    if databases.iter().all(|database| of(database) == Some(first)) {
        return Some(first);
    }
    for database in databases.iter().filter(|database| database.get("user").is_some()) {
        let what = format!("`user` of the database `{}`", database.name);
        draft.leave(
            &database.place,
            &what,
            "here, who somebody is on the servers is a matter of the user (`users.<name>.server_user`), not of the database",
        );
    }
    draft.warnings.push(
        "databases have different `user`s: here clients are themselves on the servers, or what `users.<name>.server_user` says"
            .to_owned(),
    );
    None
}

/// `admins` and `stats_users`.
pub(super) fn admins(keys: &mut Keys, known: &Known, draft: &mut Draft) {
    for (theirs, ours) in [("admin_users", "admins"), ("stats_users", "stats_users")] {
        let Some((place, names)) = keys.take(theirs) else { continue };
        let names: Vec<_> =
            names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if known.has_file {
            draft.gateway.push(Entry::list(ours, &names));
            for name in
                names.iter().filter(|name| !known.listed.iter().any(|listed| listed == *name))
            {
                draft.warnings.push(format!(
                    "`{name}` of `{theirs}` is not in `auth_file` and cannot use the console"
                ));
            }
        } else {
            let why = format!(
                "the console's users need a password in `users` or `auth_file`; then name them in `{ours}`"
            );
            draft.leave(&place, &format!("`{theirs}`"), &why);
        }
    }
}
