//! The sink's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_config::SecretSources;
use herdsman_node::{Conninfo, units};
use serde::{Deserialize, Deserializer};

use crate::sinks::Secret;

/// Settings of the PostgreSQL sink.
///
/// ```
/// use herdsman_stream::sinks::postgres::PostgresConfig;
/// let config: PostgresConfig = serde_json::from_str(
///     r#"{"url": "postgres://copy@db2/shop", "password_env": "COPY_PASSWORD", "create_tables": true}"#,
/// )?;
/// assert!(config.create_tables);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// Connection string, as URI or as keywords. The keys below go before what it says.
    pub url: Option<Secret>,
    /// Host of the target.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Role to log in as.
    pub user: Option<String>,
    /// Database there.
    pub dbname: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Program and arguments that print the password.
    pub password_command: Option<String>,
    /// libpq's `sslmode`.
    pub sslmode: Option<String>,
    /// File with the certificates to trust.
    pub sslrootcert: Option<PathBuf>,
    /// File with our certificate.
    pub sslcert: Option<PathBuf>,
    /// File with its key.
    pub sslkey: Option<PathBuf>,
    /// Where tables go, as `schema.table: schema.table`; `schema.*: schema.*` moves all others of a schema. A table that is
    /// not named keeps its name.
    pub tables: BTreeMap<String, String>,
    /// Whether tables that the target lacks are created.
    pub create_tables: bool,
    /// Whether rows are kept as they are, or every change is added to a list.
    pub mode: Mode,
    /// What to do about a column that the target lacks.
    pub on_schema_change: OnSchemaChange,
    /// Schema at the target for the sink's own tables.
    pub schema: String,
    /// Whether rows are written as a replica writes them: triggers and foreign keys do not fire.
    pub replica_role: Attempt,
    /// Whether rows are marked as replicated, so that a stream that reads the target can leave them out.
    pub origin: Attempt,
    /// Bound on each statement at the target.
    #[serde(deserialize_with = "bound")]
    pub statement_timeout: Duration,
    /// Bound on connecting, with everything that belongs to it.
    #[serde(deserialize_with = "bound")]
    pub connect_timeout: Duration,
}

/// What the target shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The same rows as the source.
    #[default]
    Upsert,
    /// Every change as a row of its own in `changes`, in the sink's own schema; nothing is ever updated there.
    Append,
}

/// What to do about a column that the target lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Stop until somebody adds it.
    #[default]
    Error,
    /// Add it.
    AddColumns,
    /// Leave its values out.
    Ignore,
}

/// What to do about a right that the role at the target may not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// Try, and go on without it where it is not granted.
    #[default]
    Auto,
    /// Do without it.
    Never,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: None,
            host: None,
            port: None,
            user: None,
            dbname: None,
            password: None,
            password_env: None,
            password_file: None,
            password_command: None,
            sslmode: None,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            tables: BTreeMap::new(),
            create_tables: false,
            mode: Mode::default(),
            on_schema_change: OnSchemaChange::default(),
            schema: "herdsman_stream".to_owned(),
            replica_role: Attempt::default(),
            origin: Attempt::default(),
            // A batch is at most a few MiB: longer than this, somebody holds a lock.
            statement_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl PostgresConfig {
    /// How the target is reached, with the password from wherever it is.
    pub(super) fn conninfo(&self) -> Result<Conninfo, String> {
        let mut pairs = BTreeMap::new();
        if let Some(url) = &self.url {
            // Parsed once for its errors, which show no values: a piece of a password can end up as any of them.
            url.expose().parse::<Conninfo>().map_err(|error| format!("`url`: {error}"))?;
            pairs = Conninfo::pairs(url.expose()).map_err(|_| "`url` is not valid".to_owned())?;
        } else if self.host.is_none() {
            return Err("there is neither `url` nor `host`".to_owned());
        }
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        for (key, value) in [
            ("host", self.host.clone()),
            ("port", self.port.map(|port| port.to_string())),
            ("user", self.user.clone()),
            ("dbname", self.dbname.clone()),
            ("sslmode", self.sslmode.clone()),
            ("sslrootcert", self.sslrootcert.as_ref().map(path)),
            ("sslcert", self.sslcert.as_ref().map(path)),
            ("sslkey", self.sslkey.as_ref().map(path)),
        ] {
            if let Some(value) = value {
                pairs.insert(key.to_owned(), value);
            }
        }
        let sources = SecretSources {
            key: "password",
            value: self.password.as_ref(),
            environment: self.password_env.as_deref(),
            file: self.password_file.as_ref(),
            command: self.password_command.as_deref(),
        };
        let password = sources.read().map_err(|problem| format!("the password: {problem}"))?;
        if let Some(password) = password {
            pairs.insert("password".to_owned(), password.expose().to_owned());
        }
        pairs.entry("application_name".to_owned()).or_insert_with(|| "herdsman stream".to_owned());
        Conninfo::from_pairs(pairs).map_err(|error| match error.key.as_str() {
            // Our own keys cannot hold a piece of the password.
            "port" | "sslmode" => error.to_string(),
            key => format!("connection parameter `{key}` is not valid"),
        })
    }

    /// Checks the mapping of tables.
    pub(super) fn check_tables(&self) -> Result<(), String> {
        for (from, to) in &self.tables {
            let both = split(from).zip(split(to));
            let Some(((_, from_table), (_, to_table))) = both else {
                return Err(format!(
                    "`tables`: `{from}: {to}` is not `schema.table: schema.table`"
                ));
            };
            if (from_table == "*") != (to_table == "*") {
                return Err(format!(
                    "`tables`: `{from}: {to}` would put several tables into one; expected `*` on both sides or on none"
                ));
            }
        }
        if self.schema.is_empty() || self.schema.contains('\0') {
            return Err("`schema` is no name".to_owned());
        }
        Ok(())
    }

    /// Where a table's rows go.
    pub(super) fn target_of(&self, schema: &str, table: &str) -> (String, String) {
        let exact = self.tables.get(&format!("{schema}.{table}"));
        if let Some((schema, table)) = exact.and_then(|to| split(to)) {
            return (schema.to_owned(), table.to_owned());
        }
        let whole = self.tables.get(&format!("{schema}.*")).and_then(|to| split(to));
        let schema = whole.map_or(schema, |(schema, _)| schema);
        (schema.to_owned(), table.to_owned())
    }
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('.').filter(|(schema, table)| !schema.is_empty() && !table.is_empty())
}

fn bound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(100)..=Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> PostgresConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn keys_go_before_the_connection_string() {
        let config = config(serde_json::json!({
            "url": "postgres://u:old@h:5433/d", "user": "copy", "password": "hunter2"
        }));
        let info = config.conninfo().unwrap();
        assert_eq!((info.host.as_str(), info.port, info.user.as_str()), ("h", 5433, "copy"));
        assert!(!format!("{config:?} {info:?}").contains("hunter2"));
        assert!(!format!("{config:?}").contains("old@"));
    }

    #[test]
    fn what_does_not_go_together_is_refused_without_the_secret() {
        for json in [
            serde_json::json!({}),
            serde_json::json!({"url": "postgres://u:hunter2@h:port/d"}),
            serde_json::json!({"host": "h", "password": "hunter2", "password_env": "X"}),
            serde_json::json!({"host": "h", "sslmode": "maybe"}),
        ] {
            let problem = config(json.clone()).conninfo().unwrap_err();
            assert!(!problem.contains("hunter2"), "{json}: {problem}");
        }
    }

    #[test]
    fn tables_go_where_the_mapping_says() {
        let mapped = config(serde_json::json!({
            "host": "h", "tables": {"a.b": "c.d", "a.*": "e.*", "x.y": "z.w"}
        }));
        mapped.check_tables().unwrap();
        let target = |schema, table| mapped.target_of(schema, table);
        assert_eq!(target("a", "b"), ("c".to_owned(), "d".to_owned()));
        assert_eq!(target("a", "z"), ("e".to_owned(), "z".to_owned()));
        assert_eq!(target("x", "b"), ("x".to_owned(), "b".to_owned()));
        for wrong in [("a.*", "b.c"), ("a", "b.c"), ("a.b", ".c"), ("a.b", "c.*")] {
            let wrong = config(serde_json::json!({"host": "h", "tables": {wrong.0: wrong.1}}));
            assert!(wrong.check_tables().is_err());
        }
    }
}
