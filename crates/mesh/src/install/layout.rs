//! The SQL of what the mesh adds to a node. Every text of a function is compared with what the node has, letter by letter:
//! one that differs is made anew.

pub(super) mod parts;
pub(super) mod untouched;

use herdsman_wal::{quote_identifier, quote_literal};

use super::found::{FoundColumn, FoundTable, FoundTrigger};
use crate::names::{self, KNEW, NODE, SEEN, SEEN_NODE, STAMP};
use crate::stamp::NodeId;
use crate::table::TableName;

/// The version of all this. A node with a greater one was prepared by a newer program.
pub const FORMAT: i32 = 1;

/// Microseconds that the stamp of a TRUNCATE is ahead of the clock: rows whose stamps ran ahead of it, since they were
/// changed more often than once in a microsecond, are older all the same.
const AHEAD: u32 = 1000;

/// 2024-01-01 in milliseconds: where `herdsman.id()` begins to count. 41 bits last until 2093.
const ID_EPOCH: u64 = 1_704_067_200_000;

/// The clock in microseconds. Neither numeric nor intervals: those would cost more than all the rest of a trigger.
const CLOCK: &str = "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint";

/// The greatest time ever seen here; NULL where there was none.
const FLOOR: &str = "'herdsman.floor'::pg_catalog.regclass";

/// `this_clock`, or, where that is behind what was seen here, one more than that: for each statement anew, so that what is
/// written later is later.
fn time() -> String {
    format!(
        "CASE WHEN this_clock OPERATOR(pg_catalog.<=) pg_catalog.pg_sequence_last_value({FLOOR}) THEN pg_catalog.nextval({FLOOR}) ELSE this_clock END"
    )
}

/// A function of the mesh's own.
pub(super) struct Function {
    /// `schema.name`, bare.
    pub(super) name: String,
    /// Its text as the catalogue keeps it.
    pub(super) body: String,
    /// What makes it.
    pub(super) sql: Vec<String>,
}

/// The relations of the mesh's schema, with what makes each.
pub(super) fn relations() -> [(&'static str, &'static str); 14] {
    [
        (
            "mesh",
            "CREATE TABLE herdsman.mesh (one boolean PRIMARY KEY DEFAULT true CHECK (one), name text NOT NULL, format int NOT NULL, node smallint NOT NULL, node_name text NOT NULL)",
        ),
        (
            "members",
            "CREATE TABLE herdsman.members (node smallint PRIMARY KEY, name text NOT NULL UNIQUE, state text NOT NULL, joined timestamptz NOT NULL DEFAULT now())",
        ),
        ("floor", "CREATE SEQUENCE herdsman.floor AS bigint"),
        ("ids", "CREATE SEQUENCE herdsman.ids AS bigint MINVALUE 0 MAXVALUE 4095 START 0 CYCLE"),
        (
            "tables",
            "CREATE TABLE herdsman.tables (rel text PRIMARY KEY, identity text NOT NULL, spread boolean NOT NULL)",
        ),
        (
            "progress",
            "CREATE TABLE herdsman.progress (source smallint PRIMARY KEY, lsn pg_lsn NOT NULL, commit_lsn pg_lsn, heartbeat bigint NOT NULL DEFAULT 0, committed timestamptz, applied timestamptz, rows bigint NOT NULL DEFAULT 0, transactions bigint NOT NULL DEFAULT 0)",
        ),
        (
            "lanes",
            "CREATE TABLE herdsman.lanes (lane smallint NOT NULL, source smallint NOT NULL, base pg_lsn NOT NULL, lsn pg_lsn NOT NULL, commit_lsn pg_lsn, heartbeat bigint NOT NULL, committed timestamptz, rows bigint NOT NULL, transactions bigint NOT NULL, PRIMARY KEY (lane, source))",
        ),
        (
            "truncates",
            "CREATE TABLE herdsman.truncates (rel text PRIMARY KEY, _herdsman_stamp bigint NOT NULL, _herdsman_node smallint NOT NULL, _herdsman_knew jsonb)",
        ),
        (
            "heartbeats",
            "CREATE TABLE herdsman.heartbeats (node smallint PRIMARY KEY, _herdsman_stamp bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())",
        ),
        (
            "conflicts",
            "CREATE TABLE herdsman.conflicts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), rel text NOT NULL, key jsonb, kind text NOT NULL, winner text NOT NULL, why text NOT NULL, held jsonb, held_stamp bigint, held_node smallint, arriving jsonb, arriving_stamp bigint, arriving_node smallint, arriving_seen bigint, arriving_seen_node smallint); CREATE INDEX ON herdsman.conflicts (rel, key)",
        ),
        (
            "answers",
            "CREATE TABLE herdsman.answers (one boolean PRIMARY KEY DEFAULT true CHECK (one), last bigint NOT NULL)",
        ),
        (
            "evicted",
            "CREATE TABLE herdsman.evicted (rel text NOT NULL, key jsonb NOT NULL, row jsonb NOT NULL, _herdsman_stamp bigint NOT NULL, _herdsman_node smallint NOT NULL, clash text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (rel, key))",
        ),
        (
            "ddl",
            "CREATE TABLE herdsman.ddl (id bigint PRIMARY KEY, statements text[] NOT NULL, role text, before text[] NOT NULL, after text[] NOT NULL, tables text[] NOT NULL, state text NOT NULL, round int NOT NULL DEFAULT 0, position pg_lsn, positions jsonb, problem text, begun timestamptz NOT NULL DEFAULT clock_timestamp(), until timestamptz NOT NULL)",
        ),
        (
            "lease",
            "CREATE TABLE herdsman.lease (one boolean PRIMARY KEY DEFAULT true CHECK (one), holder text NOT NULL, pid int NOT NULL, renewed timestamptz NOT NULL)",
        ),
    ]
}

/// The schemas, and who may see what: every trigger of an ordinary user reads the floor.
pub(super) fn schemas() -> Vec<String> {
    vec![
        "CREATE SCHEMA IF NOT EXISTS herdsman".to_owned(),
        "CREATE SCHEMA IF NOT EXISTS herdsman_gone".to_owned(),
        "GRANT USAGE ON SCHEMA herdsman TO PUBLIC".to_owned(),
    ]
}

/// What is granted once the relations are there.
pub(super) fn grants() -> Vec<String> {
    vec![
        "GRANT SELECT, USAGE ON SEQUENCE herdsman.floor TO PUBLIC".to_owned(),
        "GRANT USAGE ON SEQUENCE herdsman.ids TO PUBLIC".to_owned(),
    ]
}

/// Who the node is.
pub(super) fn identity(mesh: &str, node: NodeId, name: &str) -> String {
    format!(
        "INSERT INTO herdsman.mesh (name, format, node, node_name) VALUES ({}, {FORMAT}, {node}, {})",
        quote_literal(mesh),
        quote_literal(name)
    )
}

/// The functions of the mesh's own schema; `untouched`: without those that tables' triggers need.
pub(super) fn functions(node: NodeId, untouched: bool) -> Vec<Function> {
    let time = time();
    let stamp = format!(
        "
DECLARE
  this_clock CONSTANT bigint := {CLOCK};
BEGIN
  RETURN {time};
END"
    );
    let stamp_row = format!(
        "
DECLARE
  this_clock CONSTANT bigint := {CLOCK};
BEGIN
  -- OLD is NULL for an insertion, and so is what is added to it.
  NEW.{STAMP} := greatest({time}, OLD.{STAMP} OPERATOR(pg_catalog.+) 1);
  NEW.{NODE} := {node};
  RETURN NEW;
END"
    );
    let rel = names::as_noted("TG_TABLE_SCHEMA", "TG_TABLE_NAME");
    let truncated = format!(
        "
#variable_conflict use_column
DECLARE
  this_clock CONSTANT bigint := {CLOCK};
  this_time bigint := {time};
  newest bigint;
BEGIN
  -- Where the clock is behind, rows may be ahead of all that anybody has noted: they are looked at.
  IF this_time > this_clock THEN
    EXECUTE format('SELECT max({STAMP}) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO newest;
  END IF;
  this_time := greatest(this_time, newest) + {AHEAD};
  -- What is written from now on is later.
  PERFORM setval({FLOOR}, this_time);
  INSERT INTO herdsman.truncates AS held (rel, {STAMP}, {NODE}, {KNEW})
  SELECT {rel}, this_time, {node}, coalesce(jsonb_object_agg(source, heartbeat), '{{}}')
  FROM herdsman.progress WHERE heartbeat > 0
  ON CONFLICT (rel) DO UPDATE SET {STAMP} = EXCLUDED.{STAMP}, {NODE} = EXCLUDED.{NODE}, {KNEW} = EXCLUDED.{KNEW}
  WHERE (held.{STAMP}, held.{NODE}) < (EXCLUDED.{STAMP}, EXCLUDED.{NODE});
  RETURN NULL;
END"
    );
    let id = format!(
        "SELECT (((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000)::bigint OPERATOR(pg_catalog.-) {ID_EPOCH}) OPERATOR(pg_catalog.<<) 22) OPERATOR(pg_catalog.|) {} OPERATOR(pg_catalog.|) pg_catalog.nextval('herdsman.ids'::pg_catalog.regclass)",
        i64::from(node.0) << 12
    );
    let plain = |name: &str, returns: &str, language: &str, body: String| {
        let head = format!("CREATE OR REPLACE FUNCTION {} RETURNS {returns}", call(name));
        let sql = vec![format!("{head} LANGUAGE {language} AS {}", dollars(&body))];
        Function { name: format!("herdsman.{name}"), body, sql }
    };
    let id = plain("id", "bigint", "sql", id);
    if untouched {
        return vec![id];
    }
    vec![
        plain("stamp", "bigint", "plpgsql", stamp),
        plain("stamp_row", "trigger", "plpgsql", stamp_row),
        id,
        definer("herdsman", "truncated", truncated),
    ]
}

/// The function that writes a table's tombstones: stamped above what it deletes, and above the clock's present.
pub(super) fn gone_function(table: &FoundTable, node: NodeId) -> Function {
    let name = table.table_name();
    let key: Vec<String> = table.key().iter().map(|c| quote_identifier(&c.name)).collect();
    let old: Vec<String> = key.iter().map(|column| format!("OLD.{column}")).collect();
    let (columns, old, gone) = (key.join(", "), old.join(", "), names::gone(&name));
    let time = time();
    let body = format!(
        "
#variable_conflict use_column
DECLARE
  this_clock CONSTANT bigint := {CLOCK};
  this_time CONSTANT bigint := {time};
  own_time CONSTANT bigint := greatest(this_time, OLD.{STAMP} + 1);
BEGIN
  INSERT INTO {gone} AS held ({columns}, {STAMP}, {NODE}, {SEEN}, {SEEN_NODE})
  VALUES ({old}, own_time, {node}, OLD.{STAMP}, OLD.{NODE})
  ON CONFLICT ({columns}) DO UPDATE SET {STAMP} = EXCLUDED.{STAMP}, {NODE} = EXCLUDED.{NODE},
    {SEEN} = EXCLUDED.{SEEN}, {SEEN_NODE} = EXCLUDED.{SEEN_NODE}
  WHERE (held.{STAMP}, held.{NODE}) < (EXCLUDED.{STAMP}, EXCLUDED.{NODE});
  -- The clock has gone back: a row that is inserted under this key from now on must not be below its tombstone.
  IF own_time > this_time THEN
    PERFORM setval({FLOOR}, greatest(own_time, pg_sequence_last_value({FLOOR})));
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END"
    );
    definer(names::GONE, &names::gone_name(&name), body)
}

/// A table's table of tombstones.
pub(super) fn gone_table(table: &FoundTable) -> Vec<String> {
    let gone = names::gone(&table.table_name());
    let key = table.key();
    let column = |column: &&FoundColumn| {
        let collation = column.collation.as_ref().map(|name| format!(" COLLATE {name}"));
        let name = quote_identifier(&column.name);
        format!("{name} {}{} NOT NULL", column.sql_type, collation.unwrap_or_default())
    };
    let columns: Vec<String> = key.iter().map(column).collect();
    let names: Vec<String> = key.iter().map(|column| quote_identifier(&column.name)).collect();
    vec![
        format!(
            "CREATE TABLE {gone} ({}, {STAMP} bigint NOT NULL, {NODE} smallint NOT NULL, {SEEN} bigint NOT NULL, {SEEN_NODE} smallint NOT NULL, PRIMARY KEY ({}))",
            columns.join(", "),
            names.join(", ")
        ),
        format!("ALTER TABLE {gone} REPLICA IDENTITY FULL"),
        by_time(&gone),
    ]
}

/// Whether there is a tombstone of late, and which are old, is asked all the time.
pub(super) fn by_time(gone: &str) -> String {
    format!("CREATE INDEX ON {gone} ({STAMP})")
}

/// A trigger of the mesh's.
pub(super) struct Trigger {
    /// Its name: of those of one kind the last to fire.
    pub(super) name: &'static str,
    /// When it fires, as the catalogue's bits.
    pub(super) kind: i16,
    /// Its function, as `schema.name`.
    pub(super) function: String,
    /// What makes it.
    pub(super) sql: String,
}

impl Trigger {
    /// Whether this is what was found.
    pub(super) fn is(&self, found: &FoundTrigger) -> bool {
        found.name == self.name
            && found.kind == self.kind
            && found.enabled == "O"
            && found.function == self.function
    }
}

/// The triggers of a table. `BEFORE` and last by name: rows are stamped in the order they change in, as they are stored.
pub(super) fn triggers(table: &FoundTable) -> [Trigger; 4] {
    const ROW: i16 = 1;
    const BEFORE: i16 = 2;
    const INSERT: i16 = 4;
    const DELETE: i16 = 8;
    const UPDATE: i16 = 16;
    const TRUNCATE: i16 = 32;
    let name = table.table_name();
    let on = name.quoted();
    let gone = names::gone(&name);
    let gone_name = format!("{}.{}", names::GONE, names::gone_name(&name));
    let differs = |column: &&FoundColumn| {
        let column = quote_identifier(&column.name);
        format!("OLD.{column} IS DISTINCT FROM NEW.{column}")
    };
    let moved: Vec<String> = table.key().iter().map(differs).collect();
    let moved = moved.join(" OR ");
    let make = |name: &str, rest: String| {
        format!("CREATE OR REPLACE TRIGGER {} BEFORE {rest}", quote_identifier(name))
    };
    [
        Trigger {
            name: "~herdsman_gone",
            kind: ROW | BEFORE | DELETE,
            function: gone_name.clone(),
            sql: make(
                "~herdsman_gone",
                format!("DELETE ON {on} FOR EACH ROW EXECUTE FUNCTION {gone}()"),
            ),
        },
        Trigger {
            name: "~herdsman_moved",
            kind: ROW | BEFORE | UPDATE,
            function: gone_name,
            sql: make(
                "~herdsman_moved",
                format!("UPDATE ON {on} FOR EACH ROW WHEN ({moved}) EXECUTE FUNCTION {gone}()"),
            ),
        },
        Trigger {
            name: "~herdsman_stamp",
            kind: ROW | BEFORE | INSERT | UPDATE,
            function: "herdsman.stamp_row".to_owned(),
            sql: make(
                "~herdsman_stamp",
                format!(
                    "INSERT OR UPDATE ON {on} FOR EACH ROW EXECUTE FUNCTION herdsman.stamp_row()"
                ),
            ),
        },
        Trigger {
            name: "~herdsman_truncate",
            kind: BEFORE | TRUNCATE,
            function: "herdsman.truncated".to_owned(),
            sql: make(
                "~herdsman_truncate",
                format!(
                    "TRUNCATE ON {on} FOR EACH STATEMENT EXECUTE FUNCTION herdsman.truncated()"
                ),
            ),
        },
    ]
}

/// The tables that every publication of the mesh has besides the user's and their tombstones.
pub(super) fn published() -> [TableName; 2] {
    [TableName::new(names::SCHEMA, "heartbeats"), TableName::new(names::SCHEMA, "truncates")]
}

/// A trigger function that writes what its caller may not, and that nobody can attach to a table of their own.
fn definer(schema: &str, name: &str, body: String) -> Function {
    let quoted = format!("{}.{}()", quote_identifier(schema), quote_identifier(name));
    let sql = vec![
        format!(
            "CREATE OR REPLACE FUNCTION {quoted} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {}",
            dollars(&body)
        ),
        format!("REVOKE ALL ON FUNCTION {quoted} FROM PUBLIC"),
    ];
    Function { name: format!("{schema}.{name}"), body, sql }
}

fn call(name: &str) -> String {
    format!("herdsman.{name}()")
}

/// A text between dollar signs with a word that it does not hold itself.
pub(super) fn dollars(body: &str) -> String {
    let mut tag = "$herdsman$".to_owned();
    while body.contains(&tag) {
        tag.insert(tag.len() - 1, '_');
    }
    format!("{tag}{body}{tag}")
}
