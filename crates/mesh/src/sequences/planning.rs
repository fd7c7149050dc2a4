//! What has to be done for keys to be one node's own. Pure.

use std::collections::BTreeMap;

use herdsman_node::NodeName;
use herdsman_wal::{quote_identifier, quote_literal};

use super::assigning::{Given, Held, assign, current};
use super::maths::{Range, greatest, interleaved, range, step};
use super::{Planned, SequenceStatus, WARN_AT, ids};
use crate::config::SequenceKind;
use crate::install::{Found, FoundSequence, Step, Survey};
use crate::setup::Setup;
use crate::stamp::NodeId;
use crate::table::TableName;

/// Numbers that may be given between the look and the change of a sequence that is in use.
const MARGIN: i64 = 100_000;

/// A column's sequences on all nodes.
struct Column<'a> {
    table: TableName,
    name: &'a str,
    sequences: Vec<(&'a NodeName, NodeId, &'a FoundSequence)>,
    /// Greatest values on all nodes.
    used: Vec<i64>,
}

/// What has to be done for every node to give keys of its own.
pub(crate) fn steps(
    kind: SequenceKind,
    nodes: &BTreeMap<NodeName, Found>,
    ids: &BTreeMap<NodeName, NodeId>,
) -> Planned {
    let mut planned = Planned::default();
    for column in columns(nodes, ids) {
        match kind {
            SequenceKind::Manual => {}
            SequenceKind::Ranges => ranges(&column, &mut planned),
            SequenceKind::Interleaved => steps_of(&column, &mut planned),
            SequenceKind::Snowflake => snowflakes(&column, &mut planned),
        }
    }
    planned
}

/// How the sequences are.
pub(super) fn statuses(setup: &Setup, found: &Survey) -> Vec<SequenceStatus> {
    let ids = ids(setup, found);
    let mut statuses = Vec::new();
    for column in columns(&found.nodes, &ids) {
        for (node, id, sequence) in &column.sequences {
            statuses.push(status(&column, node, *id, sequence));
        }
    }
    statuses
}

fn columns<'a>(
    nodes: &'a BTreeMap<NodeName, Found>,
    ids: &BTreeMap<NodeName, NodeId>,
) -> Vec<Column<'a>> {
    let mut columns: Vec<Column<'a>> = Vec::new();
    for (node, found) in nodes {
        let Some(id) = ids.get(node).copied() else { continue };
        for sequence in &found.sequences {
            let table = TableName::new(&sequence.table_schema, &sequence.table_name);
            let shared = |column: &Column<'_>| {
                column.sequences.iter().any(|(at, _, other)| {
                    *at == node && other.schema == sequence.schema && other.name == sequence.name
                })
            };
            let same =
                |column: &Column<'_>| column.table == table && column.name == sequence.column;
            // Columns that share a sequence share its numbers.
            if let Some(column) = columns.iter_mut().find(|column| shared(column)) {
                column.used.extend(&sequence.used);
            } else if let Some(column) = columns.iter_mut().find(|column| same(column)) {
                column.sequences.push((node, id, sequence));
                column.used.extend(&sequence.used);
            } else {
                columns.push(Column {
                    table,
                    name: &sequence.column,
                    sequences: vec![(node, id, sequence)],
                    used: sequence.used.clone(),
                });
            }
        }
    }
    for column in &mut columns {
        column.sequences.sort_by_key(|(_, id, _)| *id);
    }
    columns
}

impl Column<'_> {
    /// The smallest type of any node's.
    fn sql_type(&self) -> &str {
        let types = self.sequences.iter().map(|(_, _, sequence)| sequence.sql_type.as_str());
        types.min_by_key(|sql_type| greatest(sql_type)).unwrap_or("bigint")
    }

    fn held(&self) -> Vec<Held> {
        let held = |(_, id, sequence): &(&NodeName, NodeId, &FoundSequence)| Held {
            member: id.0,
            next: sequence.next,
            start: sequence.start,
            max: sequence.max,
        };
        self.sequences.iter().map(held).collect()
    }

    fn told(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }
}

/// Adds what changes a sequence; a problem where it is not ours to change.
fn change(
    node: &NodeName,
    sequence: &FoundSequence,
    sql: Vec<String>,
    what: String,
    planned: &mut Planned,
) {
    if !sequence.owned {
        planned.1.push(format!(
            "node `{node}`: the sequence {} belongs to another role; GRANT that role to ours, or set `sequences: kind: manual`",
            quoted(sequence)
        ));
        return;
    }
    planned.0.push(Step::new(node, what, sql));
}

fn ranges(column: &Column<'_>, planned: &mut Planned) {
    let sql_type = column.sql_type();
    let given = assign(sql_type, &column.held(), &column.used);
    for ((node, _, sequence), given) in column.sequences.iter().zip(given) {
        if sequence.snowflake {
            continue;
        }
        let Some(Given { range, next }) = given else {
            planned.1.push(format!(
                "{} is {sql_type}, and no range of that is left for node `{node}`; ALTER TABLE {} ALTER COLUMN {} TYPE bigint on every node, and the sequence AS bigint",
                column.told(),
                column.table.quoted(),
                quote_identifier(column.name)
            ));
            continue;
        };
        let mut clauses = Vec::new();
        // The bounds have to hold what is between them at any time: the least first, all in one statement.
        if sequence.increment < 1 {
            clauses.push("INCREMENT BY 1".to_owned());
        }
        if sequence.min > range.first || sequence.min < 1 {
            clauses.push("MINVALUE 1".to_owned());
        }
        if sequence.max != range.last {
            clauses.push(format!("MAXVALUE {}", range.last));
        }
        if sequence.start != range.first {
            clauses.push(format!("START WITH {}", range.first));
        }
        if sequence.cycle {
            clauses.push("NO CYCLE".to_owned());
        }
        let name = quoted(sequence);
        let stays = range.contains(sequence.next);
        if !stays {
            clauses.push(format!("RESTART WITH {next}"));
        } else if clauses.is_empty() && sequence.next < next {
            // What it was set to: for the lock that keeps others from taking numbers meanwhile.
            clauses.push(format!("MAXVALUE {}", range.last));
        }
        if clauses.is_empty() {
            continue;
        }
        let mut sql = vec![format!("ALTER SEQUENCE {name} {}", clauses.join(" "))];
        if stays && sequence.next < next {
            // It goes on while we look, and is never set back.
            sql.push(format!(
                "SELECT setval({}, greatest({next}, last_value + is_called::int), false) FROM {name}",
                quote_literal(&name)
            ));
        }
        let what = format!("have {name} count from {next} to {} for {}", range.last, column.told());
        change(node, sequence, sql, what, planned);
    }
}

fn steps_of(column: &Column<'_>, planned: &mut Planned) {
    let most = column.sequences.iter().map(|(_, id, _)| id.0).max().unwrap_or(1);
    let increments: Vec<i64> =
        column.sequences.iter().map(|(_, _, sequence)| sequence.increment).collect();
    let now = increments.iter().copied().max().filter(|increment| *increment > 1);
    let step = step(most, now);
    let used = column.used.iter().copied().max().unwrap_or(0);
    let given =
        column.sequences.iter().map(|(_, _, sequence)| sequence.next - 1).max().unwrap_or(0);
    let begun = column.sequences.iter().any(|(_, _, sequence)| sequence.next > sequence.start);
    // What a sequence in use gives until it is changed is not known.
    let margin = if begun { MARGIN } else { 0 };
    let after = used.max(if begun { given } else { 0 }).saturating_add(margin);
    let top = greatest(column.sql_type());
    for (node, id, sequence) in &column.sequences {
        let remainder = i64::from(id.0).rem_euclid(step);
        if sequence.snowflake
            || (sequence.increment == step && sequence.next.rem_euclid(step) == remainder)
        {
            continue;
        }
        let next = interleaved(id.0, step, after).filter(|next| *next <= top);
        let (Some(next), Some(first)) = (next, interleaved(id.0, step, 0)) else {
            planned.1.push(format!(
                "{} is {}, and no number of that is left for node `{node}`; make it bigint on every node",
                column.told(),
                column.sql_type()
            ));
            continue;
        };
        let name = quoted(sequence);
        let sql = vec![format!(
            "ALTER SEQUENCE {name} INCREMENT BY {step} MINVALUE 1 MAXVALUE {top} START WITH {first} NO CYCLE RESTART WITH {next}"
        )];
        let what =
            format!("have {name} count from {next} in steps of {step} for {}", column.told());
        change(node, sequence, sql, what, planned);
    }
}

fn snowflakes(column: &Column<'_>, planned: &mut Planned) {
    for (node, _, sequence) in &column.sequences {
        if sequence.snowflake {
            continue;
        }
        if sequence.sql_type != "bigint" {
            planned.1.push(format!(
                "{} is {} on node `{node}`, and `sequences: kind: snowflake` needs bigint; ALTER TABLE {} ALTER COLUMN {} TYPE bigint on every node",
                column.told(),
                sequence.sql_type,
                column.table.quoted(),
                quote_identifier(column.name)
            ));
            continue;
        }
        let alter = format!(
            "ALTER TABLE {} ALTER COLUMN {}",
            column.table.quoted(),
            quote_identifier(column.name)
        );
        let mut sql = Vec::new();
        if sequence.identity {
            sql.push(format!("{alter} DROP IDENTITY"));
        }
        sql.push(format!("{alter} SET DEFAULT herdsman.id()"));
        let what = format!("take keys of {} from herdsman.id()", column.told());
        planned.0.push(Step::new(node, what, sql).on(&column.table));
    }
}

fn status(
    column: &Column<'_>,
    node: &NodeName,
    id: NodeId,
    sequence: &FoundSequence,
) -> SequenceStatus {
    let sql_type = column.sql_type();
    let held = Held { member: id.0, next: sequence.next, start: sequence.start, max: sequence.max };
    let block = current(sql_type, &held);
    let (kind, range) = if sequence.snowflake {
        (SequenceKind::Snowflake, Range { first: 0, last: i64::MAX })
    } else if let Some(range) = block.and_then(|block| range(sql_type, block)) {
        (SequenceKind::Ranges, range)
    } else {
        let own = sequence.increment >= 8
            && sequence.next.rem_euclid(sequence.increment)
                == i64::from(id.0).rem_euclid(sequence.increment);
        let kind = if own { SequenceKind::Interleaved } else { SequenceKind::Manual };
        (kind, Range { first: sequence.start, last: sequence.max.min(greatest(sql_type)) })
    };
    let used = match kind {
        SequenceKind::Snowflake => 0.0,
        _ => percent(sequence.next.saturating_sub(range.first), range),
    };
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    if kind != SequenceKind::Snowflake {
        if sequence.next > range.last {
            problems.push(
                "it is used up; `herdsman mesh sequences --fix` gives it another range".to_owned(),
            );
        } else if used >= WARN_AT {
            warnings.push(format!("{used:.0} % of it are used"));
        }
        for (other, _, that) in &column.sequences {
            if *other != node && overlaps(sequence, that) {
                problems.push(format!("node `{other}` gives the same numbers"));
            }
        }
        let ahead =
            column.used.iter().filter(|value| **value >= sequence.next && range.contains(**value));
        if let (Some(value), SequenceKind::Ranges) = (ahead.max(), kind) {
            problems.push(format!(
                "a row has the key {value} already, and it gives {} next",
                sequence.next
            ));
        }
    }
    let name = format!("{}.{}", sequence.schema, sequence.name);
    SequenceStatus {
        node: node.clone(),
        table: column.table.clone(),
        column: column.name.to_owned(),
        sequence: if sequence.snowflake { "herdsman.id()".to_owned() } else { name },
        kind,
        first: range.first,
        last: range.last,
        increment: sequence.increment,
        next: sequence.next,
        used,
        problems,
        warnings,
    }
}

/// Whether two sequences will give a number that both have.
fn overlaps(one: &FoundSequence, other: &FoundSequence) -> bool {
    if one.snowflake || other.snowflake {
        return false;
    }
    let apart = one.max < other.next || other.max < one.next;
    // Steps that share a divisor never meet when they stand at different remainders of it.
    let divisor = gcd(one.increment.unsigned_abs(), other.increment.unsigned_abs());
    let interleaved = i64::try_from(divisor)
        .is_ok_and(|d| d > 1 && one.next.rem_euclid(d) != other.next.rem_euclid(d));
    !apart && !interleaved
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// How much of a range lies behind, in percent.
fn percent(behind: i64, range: Range) -> f64 {
    // In parts of a million, which both an integer and a float hold exactly.
    let all = i128::from(range.last) - i128::from(range.first) + 1;
    let parts = i128::from(behind.max(0)) * 1_000_000 / all.max(1);
    f64::from(u32::try_from(parts.clamp(0, 1_000_000)).unwrap_or(0)) / 10_000.0
}

fn quoted(sequence: &FoundSequence) -> String {
    format!("{}.{}", quote_identifier(&sequence.schema), quote_identifier(&sequence.name))
}
