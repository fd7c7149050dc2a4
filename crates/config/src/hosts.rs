//! The `hosts:` section: what each node's keys become.

use std::collections::BTreeMap;
use std::fmt;

use herdsman_node::{Conninfo, ConninfoError, NodeName};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::places::{At, Kind, Place, Places};
use crate::problem::{Page, Problem};
use crate::{Depth, password};

/// One host as it is written.
pub(crate) enum HostEntry {
    /// Keyword pairs, as in pgroute66.
    Keys(BTreeMap<String, Option<String>>),
    /// A keyword string or a URI.
    Text(String),
}

/// What a host's keys became.
#[derive(Clone, Debug)]
pub struct Host {
    /// How it is reached.
    pub conninfo: Conninfo,
    /// Whether the file itself holds the password.
    pub inline_password: bool,
}

/// Parameters of connection strings whose names may be repeated in an error: anything else that stands where a name
/// is expected may be a piece of a password.
const NAMES: [&str; 14] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "application_name",
    "options",
];

/// Finds entries of the wrong shape, so that all of them are told at once.
pub(crate) fn misshapen(places: &Places, page: &Page<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for host in places.below(&["hosts"]) {
        let name = host.path.last().map_or("", String::as_str);
        match host.kind {
            Kind::Map => {}
            Kind::Scalar => continue,
            Kind::Empty | Kind::List => {
                let found = if host.kind == Kind::List { "a list" } else { "empty" };
                problems.push(page.problem(
                    host.value,
                    format!("`hosts.{name}` is {found}, expected a map of connection keys or a connection string"),
                ));
            }
        }
        for key in places.below(&["hosts", name]) {
            if matches!(key.kind, Kind::List | Kind::Map) {
                let found = if key.kind == Kind::List { "a list" } else { "a map" };
                problems.push(page.problem(
                    key.value,
                    format!("`{}` is {found}, expected a single value", key.name()),
                ));
            }
        }
    }
    problems
}

/// Builds every host that can be built, and a problem for each of the others.
pub(crate) fn build(
    entries: BTreeMap<String, HostEntry>,
    places: &Places,
    page: &Page<'_>,
    depth: Depth,
) -> (BTreeMap<NodeName, Host>, Vec<Problem>) {
    let mut hosts = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, entry) in entries {
        let spot = Spot { host: &name, places, page };
        let node = NodeName::new(&name).map_err(|error| spot.at_name(&error.to_string()));
        match node.and_then(|node| Ok((node, host(entry, &spot, depth)?))) {
            Ok((node, host)) => {
                hosts.insert(node, host);
            }
            Err(problem) => problems.push(problem),
        }
    }
    (hosts, problems)
}

fn host(entry: HostEntry, spot: &Spot<'_>, depth: Depth) -> Result<Host, Problem> {
    match entry {
        HostEntry::Text(text) => {
            let conninfo = text.parse().map_err(|error| spot.of_text(&error))?;
            Ok(Host { conninfo, inline_password: text.contains("password") || text.contains('@') })
        }
        HostEntry::Keys(keys) => {
            let mut pairs: BTreeMap<String, String> =
                keys.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
            let inline_password =
                ["password", "b64password"].iter().any(|&key| pairs.contains_key(key));
            let password = password::take(&mut pairs, "", depth)
                .map_err(|wrong| spot.at_key(&wrong.key, &wrong.message))?;
            pairs.extend(password.map(|password| ("password".to_owned(), password)));
            let conninfo = Conninfo::from_pairs(&pairs).map_err(|error| spot.of_key(&error))?;
            Ok(Host { conninfo, inline_password })
        }
    }
}

/// A message with the values in it left out; what is quoted of the notation itself stays.
fn without_values(message: &str) -> String {
    let mut told = String::new();
    for (number, piece) in message.split('`').enumerate() {
        match piece {
            _ if number % 2 == 0 => told.push_str(piece),
            "%" | "=" | "[" | "]" => told.push_str(&format!("`{piece}`")),
            _ => told.push_str("the value"),
        }
    }
    told
}

/// Where the problems of one host are.
struct Spot<'a> {
    host: &'a str,
    places: &'a Places,
    page: &'a Page<'a>,
}

impl Spot<'_> {
    fn at_name(&self, message: &str) -> Problem {
        let at = self.places.find(&["hosts", self.host]).map(|place| place.key);
        self.page.problem(at.unwrap_or(At { line: 1, column: 1 }), message)
    }

    fn at_key(&self, key: &str, message: &str) -> Problem {
        let at = self.key(key).map_or_else(|| self.begin(), |place| place.value);
        self.page.problem(at, format!("`hosts.{}.{key}`: {message}", self.host))
    }

    /// A key's value is wrong. Where the key is not in the file, the value came from the environment.
    fn of_key(&self, error: &ConninfoError) -> Problem {
        if self.key(&error.key).is_some() {
            return self.at_key(&error.key, &error.problem);
        }
        self.page.problem(
            self.begin(),
            format!(
                "`hosts.{}`: `{}`, which comes from the environment: {}",
                self.host, error.key, error.problem
            ),
        )
    }

    /// A connection string is wrong. Its pieces are not repeated: a password with unescaped characters makes a piece
    /// of itself look like a port or a name.
    fn of_text(&self, error: &ConninfoError) -> Problem {
        let message = if NAMES.contains(&error.key.as_str()) {
            let problem = without_values(&error.problem);
            format!("`hosts.{}`: `{}` in this connection string: {problem}", self.host, error.key)
        } else {
            format!(
                "`hosts.{}`: this connection string has something that is not KEY=VALUE, expected `host=… port=…` with blanks in values quoted, or postgres://…",
                self.host
            )
        };
        self.page.problem(self.begin(), message)
    }

    fn key(&self, key: &str) -> Option<&Place> {
        self.places.find(&["hosts", self.host, key])
    }

    fn begin(&self) -> At {
        let place = self.places.find(&["hosts", self.host]);
        place.map_or(At { line: 1, column: 1 }, Place::spot)
    }
}

impl<'de> Deserialize<'de> for HostEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = HostEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of connection keys or a connection string")
    }

    fn visit_str<E>(self, text: &str) -> Result<HostEntry, E> {
        Ok(HostEntry::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<HostEntry, E> {
        Ok(HostEntry::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<HostEntry, E> {
        Ok(HostEntry::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<HostEntry, E> {
        Ok(HostEntry::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<HostEntry, E> {
        Ok(HostEntry::Text(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<HostEntry, A::Error> {
        let mut keys = BTreeMap::new();
        while let Some((key, value)) = access.next_entry()? {
            keys.insert(key, value);
        }
        Ok(HostEntry::Keys(keys))
    }
}
