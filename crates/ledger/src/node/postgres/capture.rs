//! What triggers capture, and what else a session has written.
//!
//! What was captured stays in settings of the session, which know transactions and savepoints: what is taken back takes its
//! captures along, and nothing is left when the transaction is over. A table would be left with a dead row for each, and
//! an index that every later transaction reads.

use super::Postgres;
use crate::{
    node::dialect::{Counts, Dialect as _, Op, turned_away},
    table::Table,
    value::Kind,
};

/// How many bytes a setting holds before the next one is begun, but for a last row that may be of any size: to add to a
/// setting is to copy it.
const PART_BYTES: usize = 16 * 1024;
/// How many settings a transaction has, at most. An entry of the log holds less.
const PARTS_MOST: usize = 8192;

/// `herdsman.capture` is the number of the part that is written to.
pub(super) const READ: &str = "SELECT current_setting('herdsman.captured_' || part, true) \
                               FROM generate_series(0, current_setting('herdsman.capture')::int) AS part";

/// As of `pg_stat_xact_user_tables`, without its look at every index, and at what PostgreSQL has brought along: that has
/// lower numbers. A view shows through: its tables are counted.
pub(super) const COUNTS: Counts = Counts {
    relations: "SELECT c.oid::bigint, CASE WHEN n.nspname = current_schema() THEN c.relname::text \
                ELSE quote_ident(n.nspname) || '.' || quote_ident(c.relname) END \
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid >= 16384 \
                AND c.relkind IN ('r', 't', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
                AND n.nspname NOT LIKE 'pg\\_toast%' ORDER BY c.oid",
    // Whatever is made has a higher number than what was there, until numbers begin anew.
    newest: "(SELECT max(oid)::bigint FROM pg_class)",
    written: |relations| {
        let one = |oid: &String| {
            format!(
                "pg_stat_get_xact_tuples_inserted({oid}) + pg_stat_get_xact_tuples_updated({oid}) + pg_stat_get_xact_tuples_deleted({oid})"
            )
        };
        let all: Vec<String> = relations.iter().map(one).collect();
        format!("ARRAY[{}]::bigint[]::text", all.join(", "))
    },
};

/// A table's own: the function that captures, and what calls it. There is one line of JSON for each row: the table, what
/// became of the row, and its values before and after, in text.
pub(super) fn triggers(dialect: &Postgres, table: &Table) -> Vec<String> {
    let name = dialect.quote(&table.name);
    let function = dialect.quote(&format!("_ledger_cap_{}", table.name));
    let literal = |text: &str| text.replace('\'', "''");
    // Each expression of a function costs each transaction something.
    let add_line = |op: Op| {
        let mut values = vec![format!("'{}'", literal(&table.name)), format!("'{}'", op.letter())];
        for (row, there) in [("OLD", op != Op::Insert), ("NEW", op != Op::Delete)] {
            let columns = table.columns.iter().filter(|_| there);
            values.extend(
                columns.map(|it| {
                    dialect.text_of(it.kind, &format!("{row}.{}", dialect.quote(&it.name)))
                }),
            );
        }
        format!(
            "captured := set_config('herdsman.captured_' || part, concat(captured, array_to_json(ARRAY[{}]::text[])::text, E'\\n'), true);",
            values.join(", ")
        )
    };
    let [insert, update, delete] = Op::ALL.map(add_line);
    // A client may have them shortened.
    let floats = table.columns.iter().any(|it| it.kind == Kind::Float);
    let set = if floats { "SET extra_float_digits = 1 " } else { "" };
    let message = literal(&turned_away(&table.name));
    vec![
        format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {set}AS $herdsman$ \
             DECLARE part text := current_setting('herdsman.capture', true); \
             captured text := current_setting('herdsman.captured_' || part, true); BEGIN \
             IF coalesce(part, '') = '' THEN RAISE EXCEPTION '{message}' USING ERRCODE = '25006'; END IF; \
             IF octet_length(captured) > {PART_BYTES} THEN \
             IF part::int >= {PARTS_MOST} THEN RAISE EXCEPTION 'the transaction changes more than an entry of the log may hold; split it' \
             USING ERRCODE = '54000'; END IF; \
             part := set_config('herdsman.capture', (part::int + 1)::text, true); captured := ''; END IF; \
             IF TG_OP = 'UPDATE' THEN {update} ELSIF TG_OP = 'INSERT' THEN {insert} ELSE {delete} END IF; \
             RETURN NULL; END $herdsman$"
        ),
        format!(
            "CREATE OR REPLACE TRIGGER _ledger AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION {function}()"
        ),
    ]
}
