//! What a node needs where nothing is added to its tables: functions that tell a row's version from its transaction, and a
//! memory of which commit times the server still knows.

use herdsman_wal::quote_literal;

use super::{Function, dollars};
use crate::names;
use crate::stamp::NodeId;

/// What [`functions`]' `refuse` ends a transaction with where the clock is not past it.
pub(crate) const CLOCK: &str = "HM001";
/// The same where more commit times are forgotten than was known.
pub(crate) const MEMORY: &str = "HM002";
/// The same where what comes before it was not applied.
pub(crate) const ORDER: &str = "HM003";

/// The relation that tells this mode from the other.
pub(in crate::install) const RELATION: &str = "memory";

/// What makes it.
pub(in crate::install) const MAKE: &str = "CREATE TABLE herdsman.memory (xid bigint PRIMARY KEY, at bigint NOT NULL, horizon bigint NOT NULL, base boolean NOT NULL)";

/// The functions. Times are microseconds since 1970; 0 where the server has forgotten the transaction, or it is not over yet.
/// A transaction that is not over has no node.
pub(in crate::install) fn functions(mesh: &str, node: NodeId) -> Vec<Function> {
    let origin = quote_literal(&format!("^herdsman_{mesh}_([0-9]{{1,4}})(_copy)?$"));
    let of = "\nDECLARE\n  found CONSTANT record := pg_catalog.pg_xact_commit_timestamp_origin($1);\n  newest CONSTANT xid8 := pg_catalog.pg_current_xact_id_if_assigned();\nBEGIN";
    let node_of = format!(
        "{of}
  IF found.roident <> 0 THEN
    -- What another program's replication wrote is as good as written here.
    RETURN coalesce((SELECT substring(o.roname FROM {origin})::smallint FROM pg_catalog.pg_replication_origin AS o
      WHERE o.roident = found.roident), {node});
  END IF;
  IF found.timestamp IS NULL AND newest IS NOT NULL AND pg_catalog.age($1) BETWEEN -1000000 AND 1000000
    AND pg_catalog.pg_xact_status((newest::text::bigint - pg_catalog.age($1))::text::xid8) = 'in progress' THEN
    RETURN NULL;
  END IF;
  RETURN {node};
END"
    );
    let micros = "SELECT coalesce((pg_catalog.date_part('epoch', pg_catalog.pg_xact_commit_timestamp($1)) * 1000000)::bigint, 0)";
    let local =
        "SELECT coalesce((pg_catalog.pg_xact_commit_timestamp_origin($1)).roident = 0, true)";
    let refuse = "\nBEGIN\n  RAISE EXCEPTION USING ERRCODE = $1, MESSAGE = $2;\nEND";
    let make = |name: &str, of: &str, returns: &str, language: &str, body: &str| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION {}({of}) RETURNS {returns} LANGUAGE {language} AS {}",
            names::own(name),
            dollars(body)
        );
        Function {
            name: format!("{}.{name}", names::SCHEMA),
            body: body.to_owned(),
            sql: vec![sql],
        }
    };
    vec![
        make("micros", "xid", "bigint", "sql", micros),
        make("local", "xid", "boolean", "sql", local),
        make("node", "xid", "smallint", "plpgsql", &node_of),
        make("refuse", "text, text", "boolean", "plpgsql", refuse),
    ]
}
