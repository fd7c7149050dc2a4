//! The reference of all settings and the schema for editors are what the code says: both are made from the types that read
//! the sections, their documentation and their defaults.
//!
//! `HERDSMAN_WRITE=1` writes both files anew: look at what has changed.

mod page;
mod schema;
mod source;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use self::source::{Sources, Words};
use crate::docs::configurations;
use crate::program::Folder;

/// What a key at the top leads to.
pub enum Section {
    /// A type that reads it, by the crate it is in.
    Type { krate: &'static str, name: &'static str },
    /// A list of what such a type reads.
    List { krate: &'static str, name: &'static str },
    /// Something that no type of ours says whole: how it is shown, what it does, and its schema.
    Other { shown: &'static str, what: &'static str, schema: Value },
}

/// The keys at the top, in the order in which they are shown.
fn sections() -> Vec<(&'static str, Section)> {
    let of = |krate, name| Section::Type { krate, name };
    let other = |shown, what, schema: &str| Section::Other {
        shown,
        what,
        schema: serde_json::from_str(schema).unwrap(),
    };
    let groups = r#"{"type": ["object", "null"], "additionalProperties": {"type": ["array", "null"], "items": {"type": "string"}}}"#;
    let host = r#"{"type": "object", "additionalProperties": {"anyOf": [
        {"type": "string"},
        {"type": "object", "additionalProperties": {"type": ["string", "integer", "number", "boolean", "null"]}}]}}"#;
    let level = r#"{"type": "string", "enum": ["trace", "debug", "info", "warn", "error"]}"#;
    vec![
        (
            "hosts",
            other(
                "name → connection",
                "The nodes: connection parameters with libpq's names, or a connection string, or a URI. Beside libpq's keys: `b64password`, `password_file`, `password_env`, `password_command`, `password_encoding`.",
                host,
            ),
        ),
        ("groups", other("name → list of names", "Groups of nodes; `all` is every host.", groups)),
        (
            "host_groups",
            other("name → list of names", "As `groups`, under pgroute66's name for it.", groups),
        ),
        (
            "bind",
            other(
                "text",
                "Address the API listens on, without a port. Default `localhost`.",
                r#"{"type": "string"}"#,
            ),
        ),
        (
            "port",
            other(
                "number",
                "Its port. Default 8080; with `ssl` 8443.",
                r#"{"type": "integer", "minimum": 0, "maximum": 65535}"#,
            ),
        ),
        (
            "loglevel",
            other(
                "`trace` \\| `debug` \\| `info` \\| `warn` \\| `error`",
                "What is logged. Default `info`.",
                level,
            ),
        ),
        (
            "logfile",
            other(
                "file",
                "Log file, beside standard error. Default: none.",
                r#"{"type": ["string", "null"]}"#,
            ),
        ),
        ("ssl", of("api", "Ssl")),
        ("api", of("api", "ApiConfig")),
        ("availability", of("watch", "AvailabilityConfig")),
        ("watch", of("watch", "WatchConfig")),
        ("route", of("route", "RouteConfig")),
        ("gateway", of("gateway", "GatewayConfig")),
        ("stream", of("stream", "StreamConfig")),
        ("mesh", of("mesh", "MeshConfig")),
        ("ledger", of("ledger", "LedgerConfig")),
        ("hooks", Section::List { krate: "hooks", name: "HookConfig" }),
    ]
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| Sources::read(&root()));

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// That the file holds just this, or writes it.
fn is_kept(file: &str, made: &str) {
    let path = root().join(file);
    if std::env::var_os("HERDSMAN_WRITE").is_some() {
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(made.lines()).find(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "{file} is not what the code says (HERDSMAN_WRITE=1 writes it); first: {differs:?}"
    );
}

#[test]
fn the_reference_and_the_schema_are_what_the_code_says() {
    let schema = schema::whole(&SOURCES, &sections());
    is_kept(
        "crates/herdsman/src/config/schema.json",
        &(serde_json::to_string_pretty(&schema).unwrap() + "\n"),
    );
    is_kept("docs/reference.md", &page::whole(&SOURCES, &sections()));
}

#[test]
fn every_section_there_is_is_in_them() {
    let folder = Folder::new();
    let file = folder.file("herdsman.yml", "hosts: {a: {host: 127.0.0.1}}\nno_such_section: 1\n");
    let told = folder.herdsman(&["check", &file]).stderr;
    let expected = told.split("expected ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let mut known: Vec<&str> = expected.split(", ").flat_map(|some| some.split(" or ")).collect();
    let mut ours: Vec<&str> = sections().into_iter().map(|(name, _)| name).collect();
    known.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, known);
}

#[test]
fn every_configuration_in_the_documentation_fits_the_schema_and_a_wrong_one_does_not() {
    let schema = schema::whole(&SOURCES, &sections());
    let shown = configurations();
    assert!(shown.len() > 15, "only {} were found", shown.len());
    for (place, text) in shown {
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(schema::misfits(&schema, &value, ""), Vec::<String>::new(), "{place}");
    }
    for (text, where_it_is) in [
        ("watch: {intervall: 1s}", "watch.intervall"),
        ("watch: {max_lag: {bytes: many}}", "watch.max_lag.bytes"),
        ("gateway: {pool: {mode: often}}", "gateway.pool.mode"),
        ("gateway: {users: {u: {pool: {size: x}}}}", "gateway.users.u.pool.size"),
        ("stream: {sinks: {s: {carrier_pigeon: {}}}}", "stream.sinks.s.carrier_pigeon"),
        ("mesh: {nodes: n1}", "mesh.nodes"),
        ("ledger: {nodes: {a: {oracle: {}}}}", "ledger.nodes.a.oracle"),
        ("hooks: [{name: a, hosts: {files: x}}]", "hooks.hosts.files"),
    ] {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        let misfits = schema::misfits(&schema, &value, "");
        assert!(misfits.iter().any(|misfit| misfit == where_it_is), "{text}: {misfits:?}");
    }
}

#[test]
fn check_prints_the_schema() {
    let printed = Folder::new().herdsman(&["check", "--schema"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
    // Neither of them is shown: they fill pages. The test before this one says where they differ.
    assert!(
        printed == schema::whole(&SOURCES, &sections()),
        "`check --schema` prints another schema than the code's"
    );
}

#[test]
fn defaults_are_shown_as_they_are_written_in_the_file() {
    let default = |krate: &str, item: &str, field: &str| {
        let item = SOURCES.named(krate, item).unwrap();
        let field = item.fields().iter().find(|known| known.name == field).unwrap();
        field.default.clone()
    };
    assert_eq!(default("watch", "WatchConfig", "interval").as_deref(), Some("500ms"));
    assert_eq!(default("gateway", "GatewayConfig", "hold").as_deref(), Some("10s"));
    assert_eq!(default("gateway", "PoolConfig", "mode").as_deref(), Some("transaction"));
    assert_eq!(default("gateway", "PoolConfig", "size").as_deref(), Some("20"));
    assert_eq!(default("stream", "BatchConfig", "bytes").as_deref(), Some("1048576"));
    assert_eq!(default("stream", "KafkaConfig", "timeout").as_deref(), Some("30s"));
    assert_eq!(default("mesh", "MeshConfig", "tables").as_deref(), Some("[public.*]"));
    assert_eq!(default("mesh", "MeshConfig", "mode").as_deref(), Some("columns"));
    assert_eq!(default("watch", "WatchConfig", "pin"), None);
    let Words(words) = SOURCES.named("watch", "Quorum").and_then(|item| item.words()).unwrap();
    assert_eq!(words.first().map(|(word, _)| word.as_str()), Some("auto"));
}
