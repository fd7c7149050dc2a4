//! What a statement does, told from its parse tree.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Volatile built-in functions without lasting effect, whose answer is as good on a reader: allowed in a read. Written down
/// here again on purpose, so that a slip in the classifier's list shows.
const HARMLESS: &[&str] = &[
    "clock_timestamp",
    "gen_random_uuid",
    "pg_database_size",
    "pg_indexes_size",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_relation_size",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "random",
    "random_normal",
    "timeofday",
    "uuidv4",
    "uuidv7",
];

/// Which function names stand for non-volatile functions only, on every server asked. All others count as volatile.
#[derive(Debug, Default, Clone)]
pub struct Volatility {
    non_volatile: HashMap<String, bool>,
    only_built_in: bool,
}

impl Volatility {
    /// Adds what one more server says of a name.
    pub fn add(&mut self, name: impl Into<String>, non_volatile: bool) {
        *self.non_volatile.entry(name.into()).or_insert(true) &= non_volatile;
    }

    /// From now on nothing is known of functions in other schemas than `pg_catalog`.
    #[must_use]
    pub fn only_built_in(mut self) -> Self {
        self.only_built_in = true;
        self
    }

    /// Whether a call of this name may run on a reader.
    #[must_use]
    pub fn may_be_read(&self, name: &str) -> bool {
        HARMLESS.contains(&name) || self.non_volatile.get(name).copied().unwrap_or(false)
    }
}

/// What the grammar makes of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not SQL; a server would do nothing but complain.
    Rejected,
    /// Changes nothing and is bound to nothing.
    Read,
    /// Anything else, and what gave it away.
    Write(String),
}

/// Parses a text and walks its whole tree.
#[must_use]
pub fn judge(sql: &str, volatility: &Volatility) -> Judgement {
    let Ok(parsed) = pg_query::parse(sql, 0) else { return Judgement::Rejected };
    let Ok(tree) = serde_json::to_value(&parsed.protobuf) else {
        return Judgement::Write("the tree cannot be shown".to_owned());
    };
    let statements = tree.get("stmts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let [statement] = statements else {
        return Judgement::Write(format!("{} statements", statements.len()));
    };
    match statement.get("stmt").map_or(Err("no statement".to_owned()), |node| top(node, volatility))
    {
        Ok(()) => Judgement::Read,
        Err(why) => Judgement::Write(why),
    }
}

/// The kind and content of a node.
fn node(value: &Value) -> Option<(&str, &Value)> {
    let variant = value.get("node")?.as_object()?;
    variant.iter().next().map(|(kind, content)| (kind.as_str(), content))
}

fn top(statement: &Value, volatility: &Volatility) -> Result<(), String> {
    match node(statement) {
        Some(("VariableShowStmt", _)) => Ok(()),
        Some(("SelectStmt", select)) => walk(select, volatility),
        Some(("ExplainStmt", explain)) => {
            let query = explain.get("query").ok_or("explains nothing")?;
            match node(query) {
                Some(("ExecuteStmt", _)) => Err("ExecuteStmt".to_owned()),
                _ if !executes(explain) => Ok(()),
                Some(("SelectStmt", select)) => walk(select, volatility),
                other => Err(format!("executes {:?}", other.map(|(kind, _)| kind))),
            }
        }
        other => Err(format!("{:?}", other.map(|(kind, _)| kind))),
    }
}

/// Whether an `EXPLAIN` says `ANALYZE` and does not clearly take it back; of several, the last counts.
fn executes(explain: &Value) -> bool {
    let options = explain.get("options").and_then(Value::as_array);
    let mut analyze = options.into_iter().flatten().filter_map(|option| match node(option) {
        Some(("DefElem", element)) if element.get("defname")? == "analyze" => Some(element),
        _ => None,
    });
    analyze.next_back().is_some_and(|element| {
        let argument = element.get("arg").and_then(node);
        let off = argument.is_some_and(|(kind, value)| match kind {
            "String" => value.get("sval").is_some_and(|text| text == "off" || text == "false"),
            "Integer" => value.get("ival").and_then(Value::as_i64) == Some(0),
            _ => false,
        });
        !off
    })
}

fn walk(value: &Value, volatility: &Volatility) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, volatility)),
        Value::Object(fields) => {
            look(fields, volatility)?;
            fields.values().try_for_each(|field| walk(field, volatility))
        }
        _ => Ok(()),
    }
}

fn look(fields: &Map<String, Value>, volatility: &Volatility) -> Result<(), String> {
    for (key, content) in fields {
        match key.as_str() {
            "into_clause" if !content.is_null() => return Err("INTO".to_owned()),
            "LockingClause" => return Err("locks rows".to_owned()),
            "FuncCall" => call(content, volatility)?,
            "schemaname" if content.as_str().is_some_and(is_temporary) => {
                return Err("temporary schema".to_owned());
            }
            "SelectStmt" => {}
            // Variants of nodes are in capitals, fields are not.
            statement if statement.ends_with("Stmt") => return Err(statement.to_owned()),
            _ => {}
        }
    }
    Ok(())
}

fn call(call: &Value, volatility: &Volatility) -> Result<(), String> {
    let parts = call.get("funcname").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |part| match node(part) {
        Some(("String", string)) => string.get("sval").and_then(Value::as_str),
        _ => None,
    };
    match parts.iter().filter_map(text).collect::<Vec<_>>().as_slice() {
        [schema, ..] if parts.len() > 1 && is_temporary(schema) => {
            Err("temporary schema".to_owned())
        }
        [schema, _, ..] if volatility.only_built_in && *schema != "pg_catalog" => {
            Err(format!("calls something in {schema}"))
        }
        [.., name] if volatility.may_be_read(name) => Ok(()),
        names => Err(format!("calls {}", names.join("."))),
    }
}

fn is_temporary(schema: &str) -> bool {
    schema == "pg_temp" || schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp_")
}

#[cfg(test)]
mod tests {
    use super::{Judgement, Volatility, judge};

    #[test]
    fn the_judge_knows_a_write_when_it_sees_one() {
        let mut volatility = Volatility::default();
        volatility.add("lower", true);
        let is_write = |sql| matches!(judge(sql, &volatility), Judgement::Write(_));
        for sql in [
            "INSERT INTO t VALUES (1)",
            "WITH a AS (UPDATE t SET b = 1 RETURNING b) SELECT * FROM a",
            "SELECT * FROM (SELECT 1 FOR UPDATE) a",
            "SELECT 1 INTO t",
            "SELECT 1 UNION SELECT nextval('s')",
            "SELECT CASE WHEN a THEN ARRAY[f(1)] END FROM t",
            "SELECT a FROM t WINDOW w AS (ORDER BY f(1))",
            "SELECT lower(a ORDER BY f(b)) FILTER (WHERE g(c)) FROM t",
            "SELECT * FROM ROWS FROM (lower('a'), f(1)) WITH ORDINALITY",
            "SELECT JSON_VALUE(a, '$' DEFAULT f(1) ON EMPTY)",
            "SELECT 1; SELECT 2",
            "EXPLAIN ANALYZE SELECT f()",
            "EXPLAIN (ANALYZE, ANALYZE on) DELETE FROM t",
            "SELECT * FROM pg_temp.t",
            "SET a = 1",
        ] {
            assert!(is_write(sql), "{sql}");
        }
        for sql in
            ["SELECT lower('a')", "SHOW a", "EXPLAIN (ANALYZE off) SELECT f()", "VALUES (random())"]
        {
            assert_eq!(judge(sql, &volatility), Judgement::Read, "{sql}");
        }
        assert_eq!(judge("SELECT FROM FROM", &volatility), Judgement::Rejected);
    }
}
