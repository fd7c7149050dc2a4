//! A file on its way to a configuration.

use std::collections::BTreeMap;
use std::path::Path;

use herdsman_node::{NodeName, Tls, TlsError, environment};
use serde::de::Deserialize;

use crate::hosts::{self, Host, HostEntry};
use crate::places::{At, Kind, Place, Places, Tree};
use crate::problem::{Page, Problem, looks_secret, quoted};
use crate::{Groups, groups, password, yaml};

/// How much of what a configuration refers to is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything: the files with passwords and certificates are read, the variables too.
    Full,
    /// The configuration file only, for programs that ask a running Herdsman and may not read its secrets.
    Outline,
}

/// A file on its way to a configuration, collecting what is wrong.
///
/// Every method goes on after a problem, with what could be read or a default; [`Reading::finish`] says whether there
/// was one.
pub struct Reading<'a> {
    text: &'a str,
    page: Page<'a>,
    places: Places,
    depth: Depth,
    problems: Vec<Problem>,
}

/// Every key at the top level, whoever reads it: a program takes what it needs, and a typing error is one everywhere.
const KEYS: [&str; 17] = [
    "hosts",
    "groups",
    "host_groups",
    "bind",
    "port",
    "ssl",
    "loglevel",
    "logfile",
    "watch",
    "availability",
    "api",
    "route",
    "stream",
    "gateway",
    "mesh",
    "ledger",
    "hooks",
];

/// Keeps every variable that the file names for a secret from the programs that are started, before the first of them is: it
/// may be the one that prints a password.
fn withhold_variables(places: &Places, page: &Page<'_>) {
    let scalars = places.iter().filter(|place| place.kind == Kind::Scalar);
    let named = scalars.filter(|place| place.path.last().is_some_and(|key| key.ends_with("_env")));
    for variable in named.filter_map(|place| page.scalar_at(place.value)) {
        environment::withhold(&variable);
    }
}

impl<'a> Reading<'a> {
    /// Begins to read `text`, which was found at `path`.
    ///
    /// # Errors
    /// The problem, where this is no map in YAML and so nothing more can be told.
    pub fn new(path: &'a Path, text: &'a str, depth: Depth) -> Result<Self, Vec<Problem>> {
        let mut page = Page::new(path, text);
        let outline = match yaml::tree(text) {
            Ok(tree) => tree.value,
            Err(error) => return Err(vec![yaml::problem(&error, &page, &Places::default())]),
        };
        let places = Places::new(&outline, text);
        page.learn_secrets(&places);
        withhold_variables(&places, &page);
        match outline {
            Tree::Map(_) => {}
            Tree::Empty => {
                return Err(vec![page.of_file("the file is empty, expected at least `hosts`")]);
            }
            Tree::Scalar | Tree::List(_) => {
                let message = "the file is not a map of keys and values, expected at least `hosts`";
                return Err(vec![page.problem(At { line: 1, column: 1 }, message)]);
            }
        }
        let mut reading = Self { text, page, places, depth, problems: Vec::new() };
        reading.unknown_keys();
        Ok(reading)
    }

    /// How much is looked at.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// One top-level section as its type reads it; `None` where it is not there, is empty, or has a problem.
    pub fn section<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Option<T> {
        match yaml::section(self.text, name) {
            Ok(found) => found,
            Err(error) => {
                self.problems.push(yaml::problem(&error, &self.page, &self.places));
                None
            }
        }
    }

    /// The `hosts:` section. Only a ledger, which may be of other servers, does without.
    pub fn hosts(&mut self) -> BTreeMap<NodeName, Host> {
        let misshapen = hosts::misshapen(&self.places, &self.page);
        if !misshapen.is_empty() {
            self.problems.extend(misshapen);
            return BTreeMap::new();
        }
        let problems_before = self.problems.len();
        let entries = self.section::<BTreeMap<String, HostEntry>>("hosts").unwrap_or_default();
        if entries.is_empty() {
            let needed = !self.has(&["ledger"]) || self.has(&["hosts"]);
            if needed && self.problems.len() == problems_before {
                let at = "`hosts` lists no node, expected at least one";
                let missing = "`hosts` is missing, expected at least one node below it";
                let there = self.places.find(&["hosts"]).is_some();
                self.problem_at(&["hosts"], if there { at } else { missing });
            }
            return BTreeMap::new();
        }
        let (hosts, problems) = hosts::build(entries, &self.places, &self.page, self.depth);
        self.problems.extend(problems);
        if self.depth == Depth::Full {
            self.host_certificates(&hosts);
        }
        hosts
    }

    /// The `groups:` and `host_groups:` sections.
    pub fn groups(&mut self) -> Groups {
        let (groups, problems) = groups::build(&self.places, &self.page, self.text);
        self.problems.extend(problems);
        groups
    }

    /// The password that the keys at `path` give (`password`, `b64password`, `password_file`, `password_env`,
    /// `password_command`, `password_encoding`); they are taken out of `pairs`. `None` where they give none, or have a problem.
    pub fn password(
        &mut self,
        path: &[&str],
        pairs: &mut BTreeMap<String, String>,
    ) -> Option<String> {
        self.password_named(path, "", pairs)
    }

    /// As [`Reading::password`], where the file's keys begin with `prefix` (and those of `pairs` do not).
    pub fn password_named(
        &mut self,
        path: &[&str],
        prefix: &str,
        pairs: &mut BTreeMap<String, String>,
    ) -> Option<String> {
        match password::take(pairs, prefix, self.depth) {
            Ok(password) => password,
            Err(wrong) => {
                let key = format!("{prefix}{}", wrong.key);
                let path = [path, &[key.as_str()]].concat();
                self.problem_at(&path, format!("`{}`: {}", path.join("."), wrong.message));
                None
            }
        }
    }

    /// The token that the keys at `path` give: `token`, `token_file` (its first line), `token_env` or
    /// `token_command` (the first line it prints). `None` where they give none, or have a problem.
    pub fn token(&mut self, path: &[&str], given: &[(&str, String)]) -> Option<String> {
        match password::token(given, self.depth) {
            Ok(token) => token,
            Err(wrong) => {
                let path = [path, &[wrong.key.as_str()]].concat();
                self.problem_at(&path, format!("`{}`: {}", path.join("."), wrong.message));
                None
            }
        }
    }

    /// Whether a single value, and not an empty one, stands at this path.
    #[must_use]
    pub fn has_value(&self, path: &[&str]) -> bool {
        self.places.find(path).is_some_and(|place| place.kind == Kind::Scalar)
    }

    /// Whether a list stands at this path, if an empty one.
    #[must_use]
    pub fn has_list(&self, path: &[&str]) -> bool {
        self.places.find(path).is_some_and(|place| place.kind == Kind::List)
    }

    /// Whether a value stands anywhere below this path that is a secret: by its key, or as a URL with a password.
    #[must_use]
    pub fn has_secret_below(&self, path: &[&str]) -> bool {
        let below = |place: &&Place| {
            place.path.len() > path.len() && place.path.iter().zip(path).all(|(a, b)| a == b)
        };
        // There, the keys name what files hold.
        let names_files = |place: &Place| place.path.iter().any(|key| key == "property_files");
        let by_key = |place: &Place| {
            place.path.last().is_some_and(|key| looks_secret(key)) && !names_files(place)
        };
        let line = |place: &Place| {
            let number = usize::try_from(place.value.line).ok()?.checked_sub(1)?;
            self.text.lines().nth(number)
        };
        let values = self.places.iter().filter(|place| place.kind == Kind::Scalar);
        values.filter(below).any(|place| by_key(place) || line(place).is_some_and(has_password))
    }

    /// Notes a problem with what stands at this path, or with the nearest that is there of what is above it.
    pub fn problem_at(&mut self, path: &[&str], message: impl Into<String>) {
        let above = (1..=path.len()).rev().filter_map(|length| path.get(..length));
        let at = above
            .filter_map(|path| self.places.find(path))
            .map(Place::spot)
            .next()
            .unwrap_or(At { line: 1, column: 1 });
        self.problems.push(self.page.problem(at, message));
    }

    /// Notes a problem unless `node` is one of `hosts`. `path` is where it is named: a value, or a key of a map.
    pub fn expect_host(&mut self, path: &[&str], node: &str) {
        if self.places.find(&["hosts", node]).is_some() {
            return;
        }
        let place = self.places.find(path);
        let is_key = place.and_then(|place| place.path.last()).is_some_and(|last| last == node);
        let Some(at) = place.map(|place| if is_key { place.key } else { place.value }) else {
            return;
        };
        let message = format!(
            "`{}` names {}, expected a node of `hosts`: {}",
            path.join("."),
            quoted(node),
            groups::known(&self.places)
        );
        self.problems.push(self.page.problem(at, message));
    }

    /// Notes a problem for each node in the list at `path` that is not one of `hosts`, or is there twice.
    pub fn expect_hosts<'n>(
        &mut self,
        path: &[&str],
        nodes: impl IntoIterator<Item = &'n NodeName>,
    ) {
        let Some(place) = self.places.find(path) else { return };
        let nodes: Vec<_> = nodes.into_iter().map(|node| node.as_str().to_owned()).collect();
        let mut problems = Vec::new();
        groups::nodes(place, &nodes, &self.places, &self.page, &mut problems);
        self.problems.extend(problems);
    }

    /// The end: `value`, if nothing was wrong.
    ///
    /// # Errors
    /// Every problem, in the order of the file.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        let mut problems = self.problems;
        if let (Some(value), true) = (value, problems.is_empty()) {
            return Ok(value);
        }
        problems.sort_by_key(Problem::position);
        problems.dedup();
        Err(problems)
    }

    /// Whether something stands at this path.
    pub(crate) fn has(&self, path: &[&str]) -> bool {
        self.places.find(path).is_some()
    }

    fn unknown_keys(&mut self) {
        for place in self.places.below(&[]) {
            let key = place.path.first().map_or("", String::as_str);
            if !KEYS.contains(&key) {
                let message =
                    format!("unknown key {}, expected {}", quoted(key), yaml::any_of(&KEYS));
                self.problems.push(self.page.problem(place.key, message));
            }
        }
    }

    /// Reads every node's certificates once, so that a missing file is found before anything is started.
    fn host_certificates(&mut self, hosts: &BTreeMap<NodeName, Host>) {
        for (name, host) in hosts {
            let Err(error) = Tls::new(&host.conninfo) else { continue };
            let key = match &error {
                TlsError::File { what, .. } => what,
                TlsError::NoRoots { .. } => "sslmode",
                TlsError::Unusable(_) => "sslcert",
            };
            let path = ["hosts", name.as_str(), key];
            let path = if self.has(&path) { &path[..] } else { &path[..2] };
            self.problem_at(path, format!("`{}`: {error}", path.join(".")));
        }
    }
}

/// Whether there is a URL with a password in it.
fn has_password(line: &str) -> bool {
    let login = line.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    login.is_some_and(|(login, _)| login.contains(':') && !login.contains('/'))
}
