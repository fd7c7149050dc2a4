//! What the `mesh:` section must have in common with the rest of the file, and with itself.

use std::collections::{BTreeMap, BTreeSet};

use herdsman_config::{Host, Reading, Secret, quoted};
use herdsman_node::{Conninfo, NodeName};
use herdsman_wal::Glob;

use super::{BatchConfig, ConflictPolicy, MeshConfig, Mode, PolicyConfig};
use crate::setup::Setup;

/// Longest name of a mesh: it is part of the names of slots and origins, which hold 63 bytes.
const LONGEST_NAME: usize = 30;
/// Most rows in a batch: their values are in memory, twice.
const MOST_ROWS: usize = 100_000;
/// Most lanes: each is a session and a replication origin on every member.
const MOST_LANES: usize = 16;
/// Most members: each reads from every other one, and the gateway looks at so many.
const MOST_NODES: usize = 32;

impl MeshConfig {
    /// Takes the section out of a file. What is wrong is noted in `reading`, with its place in the file. Without the
    /// section there is no mesh.
    pub fn read(reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>) -> Self {
        let Some(mut config) = reading.section::<Self>("mesh") else { return Self::default() };
        config.login.resolve(reading, &["mesh", "login"], hosts);
        config.resolve_token(reading);
        config.check_name(reading);
        config.check_nodes(reading);
        config.check_tables(reading);
        for (pattern, policy) in &config.policies {
            config.check_policy(reading, pattern, policy);
        }
        let BatchConfig { rows } = config.batch;
        if !(1..=MOST_ROWS).contains(&rows) {
            let message = format!("`mesh.batch.rows` is `{rows}`, expected 1 to {MOST_ROWS}");
            reading.problem_at(&["mesh", "batch", "rows"], message);
        }
        if !(1..=MOST_LANES).contains(&config.lanes) {
            let message = format!("`mesh.lanes` is `{}`, expected 1 to {MOST_LANES}", config.lanes);
            reading.problem_at(&["mesh", "lanes"], message);
        }
        config
    }

    /// What every part of the mesh works from. `hosts` are the nodes as the configuration has them.
    #[must_use]
    pub fn setup(&self, hosts: &BTreeMap<NodeName, Conninfo>) -> Setup {
        let nodes = hosts.iter().map(|(name, info)| (name.clone(), self.login.apply(info)));
        Setup { config: self.clone(), nodes: nodes.collect() }
    }

    fn resolve_token(&mut self, reading: &mut Reading<'_>) {
        let control = &mut self.control;
        let keys = [
            ("token", control.token.take().map(|secret| secret.expose().to_owned())),
            ("token_file", control.token_file.take().map(|file| file.display().to_string())),
            ("token_env", control.token_env.take()),
            ("token_command", control.token_command.take()),
        ];
        let given: Vec<_> =
            keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        control.token = reading.token(&["mesh", "control"], &given).map(Secret::from);
    }

    fn check_name(&self, reading: &mut Reading<'_>) {
        let name = &self.name;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
            let message = format!(
                "`mesh.name` is {}, expected 1 to {LONGEST_NAME} lower-case letters, digits and `_`: slots are named after it",
                quoted(name)
            );
            reading.problem_at(&["mesh", "name"], message);
        }
    }

    fn check_nodes(&self, reading: &mut Reading<'_>) {
        reading.expect_hosts(&["mesh", "nodes"], &self.nodes);
        let message = match self.nodes.len() {
            2..=MOST_NODES => return,
            0 | 1 if !reading.has_list(&["mesh", "nodes"]) => {
                "`mesh.nodes` is missing, expected at least two nodes of `hosts`".to_owned()
            }
            0 => "`mesh.nodes` is empty, expected at least two nodes of `hosts`".to_owned(),
            1 => "`mesh.nodes` lists one node, expected at least two".to_owned(),
            many => format!("`mesh.nodes` lists {many} nodes, expected at most {MOST_NODES}"),
        };
        reading.problem_at(&["mesh", "nodes"], message);
    }

    fn check_tables(&self, reading: &mut Reading<'_>) {
        if self.tables.is_empty() {
            let message = "`mesh.tables` is empty, expected at least one pattern such as public.*";
            reading.problem_at(&["mesh", "tables"], message);
        }
        for (key, patterns) in [("tables", &self.tables), ("exclude", &self.exclude)] {
            for (number, pattern) in (1..).zip(patterns) {
                if let Err(error) = Glob::new(pattern) {
                    let number = i32::to_string(&number);
                    let message = format!("`mesh.{key}`: {error}");
                    reading.problem_at(&["mesh", key, &number], message);
                }
            }
        }
    }

    fn check_policy(&self, reading: &mut Reading<'_>, pattern: &str, policy: &PolicyConfig) {
        let mut wrong = |below: &[&str], message: String| {
            let path = [&["mesh", "policies", pattern], below].concat();
            reading.problem_at(&path, format!("`{}` {message}", path.join(".")));
        };
        if Glob::new(pattern).is_err() {
            let message = "is no pattern for tables, expected schema.table, such as public.orders or public.*";
            wrong(&[], message.to_owned());
        }
        let kind = policy.conflict;
        let plain = kind == ConflictPolicy::LastUpdateWins && policy.delta.is_empty();
        if self.mode == Mode::Untouched && !plain {
            let message =
                "asks for more than `last_update_wins`, expected `mesh.mode` to be `columns` then";
            wrong(&[], message.to_owned());
        }
        match (kind, policy.priority.as_slice()) {
            (ConflictPolicy::NodePriority, []) => {
                wrong(
                    &["conflict"],
                    "is `node_priority`, expected `priority` beside it".to_owned(),
                );
            }
            (ConflictPolicy::NodePriority, _) | (_, []) => {}
            _ => wrong(&["priority"], "is for `conflict: node_priority` only".to_owned()),
        }
        match (kind, &policy.handler) {
            (ConflictPolicy::Handler, None) => {
                wrong(&["conflict"], "is `handler`, expected `handler` beside it".to_owned());
            }
            (ConflictPolicy::Handler, Some(name)) if !is_function(name) => {
                wrong(&["handler"], format!("is {}, expected schema.function", quoted(name)));
            }
            (ConflictPolicy::Handler, Some(_)) | (_, None) => {}
            (_, Some(_)) => wrong(&["handler"], "is for `conflict: handler` only".to_owned()),
        }
        let mut seen = BTreeSet::new();
        for (number, node) in (1..).zip(&policy.priority) {
            let number = i32::to_string(&number);
            let named = quoted(node.as_str());
            if !self.nodes.contains(node) {
                let message = format!("names {named}, expected a node of `mesh.nodes`");
                wrong(&["priority", &number], message);
            } else if !seen.insert(node) {
                wrong(&["priority", &number], format!("names {named} twice, expected it once"));
            }
        }
    }
}

/// Whether this looks like `schema.function`: two plain names, which need no quoting.
fn is_function(name: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    name.split_once('.').is_some_and(|(schema, function)| plain(schema) && plain(function))
}

#[cfg(test)]
mod tests;
