//! Refusing what users write on a member that leaves.

use herdsman_node::NodeName;
use herdsman_wal::{quote_identifier, quote_literal};

use super::Step;
use super::layout::dollars;
use crate::table::{Table, TableName};

/// The trigger.
pub(super) const TRIGGER: &str = "~herdsman_leaving";

/// The steps after which nobody can write the tables of the mesh on a node, but who applies others' changes. A step is done
/// when everybody has ended who was writing its table: what comes later in the log than the last one is none of theirs.
pub(crate) fn guard(mesh: &str, node: &NodeName, tables: &[Table]) -> Vec<Step> {
    let message = quote_literal(&format!(
        "node \"{node}\" leaves the mesh \"{mesh}\" and takes no more writes"
    ));
    let hint = "Connect to another member. Once `herdsman mesh remove` has ended, this database is one of its own, and what is written here stays here.";
    let body = format!(
        "
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction', MESSAGE = {message}, HINT = {};
END",
        quote_literal(hint)
    );
    let function = format!(
        "CREATE OR REPLACE FUNCTION herdsman.leaving() RETURNS trigger LANGUAGE plpgsql AS {}",
        dollars(&body)
    );
    let mut steps = vec![Step::new(node, "say that it leaves to who writes", vec![function])];
    for table in tables.iter().filter(|table| table.stamped || table.untouched) {
        let sql = format!(
            "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION herdsman.leaving()",
            quote_identifier(TRIGGER),
            table.name.quoted()
        );
        let what = format!("refuse writes to table {}", table.name);
        steps.push(Step::new(node, what, vec![sql]).on(&table.name));
    }
    steps
}

/// The steps after which users can write there again.
pub(crate) fn unguard(node: &NodeName, tables: &[Table]) -> Vec<Step> {
    let mut steps = Vec::new();
    for table in tables.iter().filter(|table| table.stamped || table.untouched) {
        let what = format!("allow writes to table {}", table.name);
        steps.push(Step::new(node, what, vec![unguarded(&table.name)]).on(&table.name));
    }
    // Tables that have been taken out of the configuration since go with it.
    let rest = "DROP FUNCTION IF EXISTS herdsman.leaving() CASCADE".to_owned();
    steps.push(Step::new(node, "cease to say that it leaves", vec![rest]));
    steps
}

/// What lets a table be written again.
pub(super) fn unguarded(table: &TableName) -> String {
    format!("DROP TRIGGER IF EXISTS {} ON {}", quote_identifier(TRIGGER), table.quoted())
}
