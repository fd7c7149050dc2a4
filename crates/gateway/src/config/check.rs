//! What the `gateway:` section must have in common with the rest of the file, and with itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use herdsman::Secret;
use herdsman_config::{Depth, Groups, Host, Reading, any_of, quoted};
use herdsman_node::NodeName;

use super::address::Address;
use super::switchover::PLACEHOLDERS;
use super::{AuthMethod, AuthQuery, DEFAULT_LISTEN, GatewayConfig, Target, UserConfig};

/// The databases that are the console.
pub(crate) const CONSOLES: [&str; 2] = ["herdsman", "pgbouncer"];
/// What the system allows for the path of a unix socket, with the zero at its end.
const LONGEST_SOCKET: usize = 108;

impl GatewayConfig {
    /// Takes the section out of a file. What is wrong is noted in `reading`, with its place in the file. Without the
    /// section nothing is listened on, and there is no gateway.
    pub fn read(
        reading: &mut Reading<'_>,
        hosts: &BTreeMap<NodeName, Host>,
        groups: &Groups,
    ) -> Self {
        let Some(mut config) = reading.section::<Self>("gateway") else { return Self::default() };
        if config.listen.is_empty() && !reading.has_list(&["gateway", "listen"]) {
            config.listen.push(DEFAULT_LISTEN.to_owned());
        }
        config.check_listen(reading);
        // Those whose password the file has, or says where it is: at some depths it is not looked up.
        let mut given = BTreeSet::new();
        for (name, user) in &mut config.users {
            if user.resolve(reading, name) {
                given.insert(name.clone());
            }
        }
        if let Some(query) = &mut config.auth_query {
            query.resolve(reading);
        }
        config.check_users(reading, &given);
        config.check_databases(reading, hosts, groups);
        config.check_commands(reading);
        if config.guard_lease >= config.hold && config.write_guard != super::WriteGuard::Off {
            let message = format!(
                "`gateway.guard_lease` is {:?}, expected less than `gateway.hold`, which is {:?}",
                config.guard_lease, config.hold
            );
            reading.problem_at(&["gateway", "guard_lease"], message);
        }
        if reading.depth() == Depth::Full {
            config.check_files(reading);
        }
        config
    }

    /// What serves a ledger's database at an address: users, TLS and limits as here, and nothing else.
    #[must_use]
    pub fn for_ledger(&self, address: &str) -> Self {
        Self {
            listen: vec![address.to_owned()],
            unix_socket_dir: None,
            databases: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Notes what is wrong with serving a ledger at an address, as `ledger.serve` has it.
    pub fn check_ledger(&self, reading: &mut Reading<'_>, address: &str) {
        let path = ["ledger", "serve"];
        match address.parse::<Address>() {
            Err(expected) => {
                let message = format!("`ledger.serve` is {}, expected {expected}", quoted(address));
                reading.problem_at(&path, message);
            }
            Ok(address) => {
                let there = |text: &String| {
                    text.parse().is_ok_and(|other: Address| other.clashes(&address))
                };
                if address.port != 0 && self.listen.iter().any(there) {
                    let message =
                        "`ledger.serve` is where the gateway listens, expected another port";
                    reading.problem_at(&path, message);
                }
            }
        }
        let nobody = self.users.is_empty() && self.auth_file.is_none() && !self.trust_loopback;
        if nobody && self.auth != AuthMethod::Cert {
            let message = "`ledger.serve` lets nobody in: `gateway` knows no user, expected `gateway.users` or `gateway.auth_file`";
            reading.problem_at(&path, message);
        }
    }

    /// Notes a problem where the gateway would listen where something else does: `what` on `bind` and `port`.
    pub fn expect_no_clash(&self, reading: &mut Reading<'_>, what: &str, bind: &str, port: u16) {
        let other = Address { host: bind.to_owned(), port };
        let clash = self.listen.iter().position(|text| {
            port != 0 && text.parse().is_ok_and(|address: Address| address.clashes(&other))
        });
        if let Some(index) = clash {
            let number = (index + 1).to_string();
            let message =
                format!("`gateway.listen` has port {port}, where {what} listens, expected another");
            reading.problem_at(&["gateway", "listen", &number], message);
        }
    }

    fn check_listen(&self, reading: &mut Reading<'_>) {
        let path = |index: usize| (index + 1).to_string();
        if self.listen.is_empty() {
            let message = "`gateway.listen` is empty, expected at least one host:port";
            reading.problem_at(&["gateway", "listen"], message);
        }
        let mut known: Vec<Address> = Vec::new();
        for (index, text) in self.listen.iter().enumerate() {
            let at = path(index);
            let at = ["gateway", "listen", &at];
            match text.parse::<Address>() {
                Err(expected) => {
                    let message =
                        format!("`gateway.listen` has {}, expected {expected}", quoted(text));
                    reading.problem_at(&at, message);
                }
                Ok(address) if address.port != 0 && known.iter().any(|k| k.clashes(&address)) => {
                    let message = format!(
                        "`gateway.listen` has {} and another with the same port there, expected one",
                        quoted(text)
                    );
                    reading.problem_at(&at, message);
                }
                Ok(address) => known.push(address),
            }
        }
        let local = known.iter().all(Address::is_loopback);
        if self.auth == AuthMethod::Trust && !local {
            let message = "`gateway.auth` is `trust`, which would let everybody in from everywhere, expected scram, md5 or \
                cert; `trust_loopback: true` asks nothing of clients of this machine";
            reading.problem_at(&["gateway", "auth"], message);
        }
        for (name, user) in &self.users {
            let nowhere = self.unix_socket_dir.is_none() && !known.iter().any(Address::is_loopback);
            if user.auth == Some(AuthMethod::Trust) && nowhere {
                let message = format!(
                    "`gateway.users.{name}.auth` is `trust`, which is for the loopback interface and the unix socket, and \
                     `gateway.listen` has neither, expected scram, md5 or cert"
                );
                reading.problem_at(&["gateway", "users", name, "auth"], message);
            }
        }
        if let Some(folder) = &self.unix_socket_dir {
            let length = folder.as_os_str().len() + "/.s.PGSQL.65535".len();
            if length >= LONGEST_SOCKET {
                let message = format!(
                    "`gateway.unix_socket_dir` has {} bytes, expected a path short enough for a socket: {} at most",
                    folder.as_os_str().len(),
                    LONGEST_SOCKET - 1 - "/.s.PGSQL.65535".len()
                );
                reading.problem_at(&["gateway", "unix_socket_dir"], message);
            }
        }
    }

    fn check_users(&self, reading: &mut Reading<'_>, given: &BTreeSet<String>) {
        let elsewhere = self.auth_file.is_some() || self.auth_query.is_some();
        for (name, user) in &self.users {
            if let Some((key, message)) =
                self.wrong_user(name, user, elsewhere || given.contains(name))
            {
                let path = ["gateway", "users", name, key];
                let path = if key.is_empty() { &path[..3] } else { &path[..] };
                reading.problem_at(path, format!("`{}` {message}", path.join(".")));
            }
        }
        if let Some(tls) = &self.tls {
            for (key, file) in [("cert", &tls.cert), ("key", &tls.key)] {
                if file.as_os_str().is_empty() {
                    let message = format!("`gateway.tls` has no `{key}`, expected a file");
                    reading.problem_at(&["gateway", "tls", key], message);
                }
            }
        }
        if self.tls.as_ref().is_some_and(|tls| tls.client_crl.is_some() && tls.client_ca.is_none())
        {
            let message =
                "`gateway.tls.client_crl` takes certificates back, expected `client_ca` beside it";
            reading.problem_at(&["gateway", "tls", "client_crl"], message);
        }
        if self.auth == AuthMethod::Cert
            && self.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())
        {
            let message =
                "`gateway.auth` is `cert`, expected `gateway.tls` with `client_ca` beside it";
            reading.problem_at(&["gateway", "auth"], message);
        }
        let nobody = self.users.is_empty() && !elsewhere;
        if nobody
            && !self.trust_loopback
            && matches!(self.auth, AuthMethod::Scram | AuthMethod::Md5)
        {
            let message = "`gateway` knows no user, expected `users`, `auth_file`, `auth_query` or `trust_loopback`";
            reading.problem_at(&["gateway"], message);
        }
        for (key, names) in [("admins", &self.admins), ("stats_users", &self.stats_users)] {
            for (number, name) in (1..).zip(names) {
                if self.users.contains_key(name) || self.auth_file.is_some() {
                    continue;
                }
                let number = number.to_string();
                let message = format!(
                    "`gateway.{key}` has {}, expected one of `gateway.users` or of an `auth_file`",
                    quoted(name)
                );
                reading.problem_at(&["gateway", key, &number], message);
            }
        }
    }

    /// The key and what is wrong with it.
    fn wrong_user(
        &self,
        name: &str,
        user: &UserConfig,
        elsewhere: bool,
    ) -> Option<(&'static str, String)> {
        let method = user.auth.unwrap_or(self.auth);
        if name.is_empty() || name.contains('\0') {
            return Some(("", "has no name, expected one".to_owned()));
        }
        let client_ca = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if user.auth == Some(AuthMethod::Cert) && !client_ca {
            return Some(("auth", "is `cert`, expected `gateway.tls` with `client_ca`".to_owned()));
        }
        let password = user.password.as_ref().map(Secret::expose);
        let asks = matches!(method, AuthMethod::Scram | AuthMethod::Md5);
        match password {
            None if asks && !elsewhere && !self.trust_loopback => {
                Some(("", "has no password, expected one".to_owned()))
            }
            Some(text) if method == AuthMethod::Scram && is_md5(text) => Some((
                "password",
                "is an md5 hash, which SCRAM cannot use, expected a password, a SCRAM verifier, or `auth: md5`".to_owned(),
            )),
            _ => None,
        }
    }

    fn check_databases(
        &self,
        reading: &mut Reading<'_>,
        hosts: &BTreeMap<NodeName, Host>,
        groups: &Groups,
    ) {
        for (name, database) in &self.databases {
            let path = ["gateway", "databases", name.as_str()];
            let name = path.join(".");
            if CONSOLES.contains(&path[2]) {
                let message = format!("`{name}` is the admin database, expected another name");
                reading.problem_at(&path, message);
            }
            if database.dbname.as_deref() == Some("") {
                let message = format!("`{name}.dbname` is empty, expected a name");
                reading.problem_at(&[&path[..], &["dbname"]].concat(), message);
            }
            let group = database.group.as_deref().filter(|group| *group != "all");
            let members = group.and_then(|group| groups.get(group));
            if let (Some(group), None) = (group, members) {
                let mut known: Vec<_> = groups.keys().map(|group| quoted(group)).collect();
                known.push("`all`".to_owned());
                let message = format!(
                    "`{name}.group` names {}, expected a group of `groups`: {}",
                    quoted(group),
                    any_of(&known)
                );
                reading.problem_at(&[&path[..], &["group"]].concat(), message);
            }
            if let Target::Node(node) = &database.target {
                let at = [&path[..], &["target"]].concat();
                if !hosts.contains_key(node) {
                    let known: Vec<_> = hosts.keys().map(|node| quoted(node.as_str())).collect();
                    let message = format!(
                        "`{name}.target` is {}, expected split, writer, reader, writers or a node of `hosts`: {}",
                        quoted(node.as_str()),
                        any_of(&known)
                    );
                    reading.problem_at(&at, message);
                } else if members.is_some_and(|members| !members.contains(node)) {
                    let message = format!(
                        "`{name}.target` is {}, which is not in the group {}, expected a node of it",
                        quoted(node.as_str()),
                        quoted(group.unwrap_or_default())
                    );
                    reading.problem_at(&at, message);
                }
            }
            if database.target == Target::Writers && database.group.is_none() {
                let message = format!(
                    "`{name}.target` is `writers`, expected `group` beside it: a write may go to each of its nodes"
                );
                reading.problem_at(&[&path[..], &["target"]].concat(), message);
            }
        }
    }

    fn check_commands(&self, reading: &mut Reading<'_>) {
        let switchover = &self.switchover;
        for (key, command) in [
            ("demote", &switchover.demote),
            ("promote", &switchover.promote),
            ("follow", &switchover.follow),
        ] {
            for (number, argument) in (1_usize..).zip(command) {
                let mut rest = argument.clone();
                for known in PLACEHOLDERS {
                    rest = rest.replace(known, "");
                }
                let unknown = rest.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                let unknown = unknown.map(|(name, _)| name);
                let word =
                    |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
                if let Some(name) = unknown.filter(|name| word(name)) {
                    let number = number.to_string();
                    let message = format!(
                        "`gateway.switchover.{key}` has `{{{name}}}`, expected {}",
                        any_of(&PLACEHOLDERS)
                    );
                    reading.problem_at(&["gateway", "switchover", key, &number], message);
                }
            }
        }
    }
}

fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5")
        .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl UserConfig {
    /// Looks up where the passwords are, so that `password` and `server_password` hold them afterwards. Returns whether the
    /// file says anything of the first.
    fn resolve(&mut self, reading: &mut Reading<'_>, name: &str) -> bool {
        let path = ["gateway", "users", name];
        let mine = [
            taken(&mut self.password),
            taken(&mut self.b64password),
            shown(&mut self.password_file),
            self.password_env.take(),
            self.password_command.take(),
        ];
        let given = mine.iter().any(Option::is_some);
        self.password = password(reading, &path, "", mine);
        let servers = [
            taken(&mut self.server_password),
            taken(&mut self.server_b64password),
            shown(&mut self.server_password_file),
            self.server_password_env.take(),
            self.server_password_command.take(),
        ];
        self.server_password = password(reading, &path, "server_", servers);
        if self.server_user.as_deref() == Some("") {
            let message = format!("`{}.server_user` is empty, expected a role", path.join("."));
            reading.problem_at(&[&path[..], &["server_user"]].concat(), message);
        }
        given
    }
}

impl AuthQuery {
    fn resolve(&mut self, reading: &mut Reading<'_>) {
        let path = ["gateway", "auth_query"];
        let mine = [
            taken(&mut self.password),
            taken(&mut self.b64password),
            shown(&mut self.password_file),
            self.password_env.take(),
            self.password_command.take(),
        ];
        self.password = password(reading, &path, "", mine);
        if self.user.is_empty() {
            let message =
                "`gateway.auth_query` has no `user`, expected a role that may look up passwords";
            reading.problem_at(&[path[0], path[1], "user"], message);
        }
        if self.database.is_empty() {
            let message = "`gateway.auth_query.database` is empty, expected a name";
            reading.problem_at(&[path[0], path[1], "database"], message);
        }
        if !self.query.contains("$1") {
            let message =
                "`gateway.auth_query.query` has no `$1`, expected one, which stands for the user";
            reading.problem_at(&[path[0], path[1], "query"], message);
        }
    }
}

fn taken(secret: &mut Option<Secret>) -> Option<String> {
    secret.take().map(|secret| secret.expose().to_owned())
}

fn shown(file: &mut Option<PathBuf>) -> Option<String> {
    file.take().map(|file| file.display().to_string())
}

fn password(
    reading: &mut Reading<'_>,
    path: &[&str],
    prefix: &str,
    values: [Option<String>; 5],
) -> Option<Secret> {
    let keys = ["password", "b64password", "password_file", "password_env", "password_command"];
    let given =
        keys.iter().zip(values).filter_map(|(key, value)| Some(((*key).to_owned(), value?)));
    reading.password_named(path, prefix, &mut given.collect()).map(Secret::from)
}
