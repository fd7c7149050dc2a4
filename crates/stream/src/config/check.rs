//! What the `stream:` section must have in common with the rest of the file, and with itself.

use std::collections::{BTreeMap, BTreeSet};

use herdsman_config::{Depth, Host, Reading, quoted};
use herdsman_node::{Conninfo, NodeName};
use herdsman_wal::{Glob, SlotName};

use super::{GuardAction, Koyo, StreamConfig, TransformConfig};

impl StreamConfig {
    /// Takes the section out of a file. What is wrong is noted in `reading`, with its place in the file; what
    /// [`Koyo`]'s variables say fills in what the file leaves out.
    pub fn read(reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>, koyo: &Koyo) -> Self {
        let mut config = reading.section::<Self>("stream").unwrap_or_default();
        config.fill_in(reading, koyo);
        config.login.resolve(reading, &["stream", "login"], hosts);
        if let Some(node) = &config.node {
            reading.expect_host(&["stream", "node"], node.as_str());
        }
        config.check_tables(reading);
        for (pattern, transform) in &config.transform {
            check_transform(reading, pattern, transform);
        }
        config.check_bounds(reading);
        config.check_sinks(reading);
        if reading.depth() == Depth::Full && config.state.is_file() {
            let state = quoted(&config.state.display().to_string());
            let message = format!("`stream.state`: {state} is a file, expected a folder");
            reading.problem_at(&["stream", "state"], message);
        }
        config
    }

    /// How the stream reaches each node.
    #[must_use]
    pub fn nodes(&self, hosts: &BTreeMap<NodeName, Conninfo>) -> BTreeMap<NodeName, Conninfo> {
        hosts.iter().map(|(name, info)| (name.clone(), self.login.apply(info))).collect()
    }

    fn fill_in(&mut self, reading: &mut Reading<'_>, koyo: &Koyo) {
        if let Some(slot) = &koyo.slot
            && !reading.has_value(&["stream", "slot"])
        {
            match SlotName::new(slot) {
                Ok(slot) => self.slot = slot,
                Err(error) => {
                    let message = format!("the variable `{}`: {error}", koyo.name("SLOT"));
                    reading.problem_at(&["stream", "slot"], message);
                }
            }
        }
        if let Some(create) = koyo.create
            && !reading.has_value(&["stream", "create"])
        {
            self.create = create;
        }
        if let Some(database) = &koyo.database
            && self.login.dbname.is_none()
        {
            self.login.dbname = Some(database.clone());
        }
    }

    fn check_tables(&self, reading: &mut Reading<'_>) {
        if self.tables.is_empty() {
            let message =
                "`stream.tables` is empty, expected at least one pattern such as public.*";
            reading.problem_at(&["stream", "tables"], message);
        }
        for (key, patterns) in [("tables", &self.tables), ("exclude", &self.exclude)] {
            for (number, pattern) in (1..).zip(patterns) {
                if let Err(error) = Glob::new(pattern) {
                    let number = number.to_string();
                    let message = format!("`stream.{key}`: {error}");
                    reading.problem_at(&["stream", key, &number], message);
                }
            }
        }
    }

    fn check_bounds(&self, reading: &mut Reading<'_>) {
        let mut wrong = |path: &[&str], message: String| {
            let path = [&["stream"], path].concat();
            reading.problem_at(&path, format!("`{}` {message}", path.join(".")));
        };
        let batch = &self.batch;
        for (key, value) in [("changes", batch.changes), ("bytes", batch.bytes)] {
            if value == 0 {
                wrong(&["batch", key], "is `0`, expected 1 or more".to_owned());
            }
        }
        if batch.queue_bytes < batch.bytes {
            let bytes = batch.bytes;
            let message = format!(
                "is `{}`, expected at least `stream.batch.bytes`, which is {bytes}",
                batch.queue_bytes
            );
            wrong(&["batch", "queue_bytes"], message);
        }
        let retry = &self.retry;
        if retry.attempts == 0 {
            wrong(&["retry", "attempts"], "is `0`, expected 1 or more".to_owned());
        }
        if retry.pause > retry.longest_pause {
            let message = format!(
                "is {:?}, expected at most `stream.retry.longest_pause`, which is {:?}",
                retry.pause, retry.longest_pause
            );
            wrong(&["retry", "pause"], message);
        }
        let guard = &self.lag_guard;
        if guard.action != GuardAction::Warn && guard.limit_bytes == 0 {
            let message = "takes action, expected `limit_bytes` beside it, to say when".to_owned();
            wrong(&["lag_guard", "action"], message);
        }
        if guard.limit_bytes > 0 && guard.limit_bytes < guard.warn_bytes {
            let message = format!(
                "is `{}`, expected at least `stream.lag_guard.warn_bytes`, which is {}",
                guard.limit_bytes, guard.warn_bytes
            );
            wrong(&["lag_guard", "limit_bytes"], message);
        }
    }

    fn check_sinks(&self, reading: &mut Reading<'_>) {
        for (name, sink) in &self.sinks {
            let path = ["stream", "sinks", name];
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            // It becomes part of file names and of keys in databases.
            if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
                let message = format!(
                    "`stream.sinks` names a sink {}, expected 1 to 40 letters, digits, `-` and `_`",
                    quoted(name)
                );
                reading.problem_at(&path, message);
            } else if reading.depth() == Depth::Full
                && let Err(error) = sink.build(name, self.shape)
            {
                reading.problem_at(&path, format!("`{}`: {error}", path.join(".")));
            }
        }
    }
}

fn check_transform(reading: &mut Reading<'_>, pattern: &str, transform: &TransformConfig) {
    let mut wrong = |below: &[&str], message: String| {
        let path = [&["stream", "transform", pattern], below].concat();
        reading.problem_at(&path, format!("`{}` {message}", path.join(".")));
    };
    let glob = Glob::new(pattern);
    match &glob {
        Ok(_) => {}
        Err(_) => wrong(
            &[],
            "is no pattern for tables, expected schema.table, such as public.orders or public.*"
                .to_owned(),
        ),
    }
    for (number, column) in (1..).zip(&transform.drop) {
        if transform.columns.contains(column) {
            let message = format!(
                "lists {}, which `columns` lists as well, expected one of the two",
                quoted(column)
            );
            wrong(&["drop", &i32::to_string(&number)], message);
        }
    }
    for column in transform.mask.keys() {
        let left_out = !transform.columns.is_empty() && !transform.columns.contains(column);
        if transform.drop.contains(column) || left_out {
            wrong(
                &["mask", column],
                "is left out of the rows, expected a column that is delivered".to_owned(),
            );
        }
    }
    let mut names = BTreeSet::new();
    for (column, name) in &transform.rename {
        if name.is_empty() {
            wrong(&["rename", column], "is empty, expected a column's name".to_owned());
        } else if !names.insert(name) || transform.columns.contains(name) {
            let message = format!(
                "is {}, as another column is called, expected a name of its own",
                quoted(name)
            );
            wrong(&["rename", column], message);
        }
    }
    if let Some(table) = &transform.table {
        match (Glob::new(table), glob) {
            (Ok(new), Ok(old)) if new.is_exact() && old.is_exact() => {}
            (Ok(new), Ok(_)) if new.is_exact() => wrong(
                &["table"],
                "gives one name to every table of a pattern, expected it below one table's name"
                    .to_owned(),
            ),
            _ => wrong(&["table"], format!("is {}, expected schema.table", quoted(table))),
        }
    }
    if transform.condition.as_ref().is_some_and(|condition| condition.trim().is_empty()) {
        wrong(&["where"], "is empty, expected an SQL condition such as amount > 0".to_owned());
    }
}
