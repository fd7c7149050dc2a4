//! What a transaction has changed, as its triggers have captured it, and whether that is all.

use super::Running;
use crate::{
    Value,
    node::{
        NodeError, SqlError,
        dialect::{Ask, Dialect, Failure, TOO_LONG, capture_table, next_rows},
        driver::{guard, notes, tables::Known},
        session::Told,
    },
    table::{Catalogue, Table},
    value::Kind,
    writes::RowChange,
};

/// What is asked at the end of a transaction, which is then rolled back.
pub(super) fn ending<D: Dialect>(before: Option<&str>, known: &Known, dialect: &D) -> Vec<Ask> {
    let mut asks: Vec<Ask> = before.into_iter().map(Ask::command).collect();
    match dialect.captured_at_once() {
        Some(_) => asks.push(Ask::select(&known.captured)),
        None => asks.extend(known.catalogue.0.values().map(|it| changes_in(dialect, it))),
    }
    asks.push(Ask::command("ROLLBACK"));
    // Outside of the snapshot: nothing goes to the log from who has lost the node.
    asks.push(Ask::select(notes::GUARD));
    asks
}

impl<D: Dialect> Running<D> {
    /// What was captured, as of the answers to [`ending`].
    pub(super) fn changes_of(
        &self,
        mut told: impl Iterator<Item = Told>,
    ) -> Result<Vec<RowChange>, SqlError> {
        let catalogue = &self.known.catalogue;
        let mut captured = Vec::new();
        let mut written = Vec::new();
        if self.seat.shared.dialect.captured_at_once().is_some() {
            for row in next_rows(&mut told) {
                let mut cells = row.into_iter();
                for line in cells.next().flatten().unwrap_or_default().lines() {
                    captured.push(change_of_line(catalogue, line)?);
                }
                written = counts_of(cells.next().flatten().as_deref());
            }
        } else {
            for table in catalogue.0.values() {
                for row in next_rows(&mut told) {
                    captured.push(change_of_row(table, &row)?);
                }
            }
        }
        let guard = notes::guard_of(&next_rows(&mut told.skip(1)));
        guard::check(guard.as_ref(), &self.seat.shared.token)?;
        let missed = if self.known.relations.is_empty() {
            (captured.is_empty() && self.affected > 0).then(|| "a table".to_owned())
        } else {
            let changed = self.written.iter().zip(&written).map(|(before, after)| after - before);
            let relations = self.known.relations.iter().map(String::as_str);
            missed(relations.zip(changed), catalogue, &captured, self.taken_back)
        };
        let Some(table) = missed else { return Ok(captured) };
        let message = format!(
            "the transaction changed {table} in a way that was not captured: it does not belong to the ledger, or its changes were hidden; only the ledger's tables can be changed through it"
        );
        Err(Failure::refused("0A000", message).into())
    }
}

/// A table of which more rows were written than captured. What was taken back was written, too, and is captured no more:
/// then only strangers can be told.
fn missed<'r>(
    written: impl Iterator<Item = (&'r str, i64)>,
    catalogue: &Catalogue,
    captured: &[RowChange],
    taken_back: bool,
) -> Option<String> {
    let most = |table: &str| {
        if taken_back && catalogue.0.contains_key(table) {
            return i64::MAX;
        }
        let rows = captured.iter().filter(|it| it.table == table).count();
        i64::try_from(rows).unwrap_or(i64::MAX)
    };
    let mut beyond = written.filter(|(table, rows)| *rows > 0 && *rows > most(table));
    beyond.next().map(|(table, _)| format!("table {table}"))
}

/// Rows by relation, as of [`Counts`](crate::node::dialect::Counts).
pub(super) fn counts_of(text: Option<&str>) -> Vec<i64> {
    let text = text.unwrap_or_default().trim_matches(['{', '}']);
    text.split(',').map(|it| it.parse().unwrap_or_default()).collect()
}

/// The query for the changes of a table that were captured.
fn changes_in<D: Dialect>(dialect: &D, table: &Table) -> Ask {
    let side = |prefix: &str| {
        let column = |it: &crate::table::Column| {
            dialect.text_of(it.kind, &dialect.quote(&format!("{prefix}_{}", it.name)))
        };
        table.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let capture = dialect.quote(&capture_table(&table.name));
    Ask::select(&format!("SELECT op, {}, {} FROM {capture} ORDER BY seq", side("o"), side("n")))
}

/// A row of a capture table.
fn change_of_row(table: &Table, row: &[Option<String>]) -> Result<RowChange, SqlError> {
    let (op, cells) = row.split_first().ok_or_else(unreadable)?;
    let (before, after) = cells.split_at_checked(table.columns.len()).ok_or_else(unreadable)?;
    let op = op.as_deref().unwrap_or_default();
    let side = |there: bool, cells| there.then(|| row_of(table, cells)).transpose();
    let (before, after) = (side(op != "i", before)?, side(op != "d", after)?);
    Ok(RowChange { table: table.name.clone(), before, after })
}

/// A line of what was captured at once.
fn change_of_line(catalogue: &Catalogue, line: &str) -> Result<RowChange, SqlError> {
    let cells: Vec<Option<String>> = serde_json::from_str(line).map_err(|_| unreadable())?;
    let [Some(table), Some(op), cells @ ..] = cells.as_slice() else { return Err(unreadable()) };
    let table = catalogue.0.get(table).ok_or_else(unreadable)?;
    let before = if op == "i" { 0 } else { table.columns.len() };
    let (before, after) = cells.split_at_checked(before).ok_or_else(unreadable)?;
    let side = |there: bool, cells: &[Option<String>]| match cells.len() {
        0 if !there => Ok(None),
        columns if there && columns == table.columns.len() => row_of(table, cells).map(Some),
        _ => Err(unreadable()),
    };
    let (before, after) = (side(op != "i", before)?, side(op != "d", after)?);
    Ok(RowChange { table: table.name.clone(), before, after })
}

fn unreadable() -> SqlError {
    NodeError::Environmental("what its triggers have captured cannot be read".to_owned()).into()
}

/// A row as an engine gave it.
pub(in crate::node::driver) fn row_of(
    table: &Table,
    texts: &[Option<String>],
) -> Result<Vec<Value>, SqlError> {
    let value = |(column, text): (&crate::table::Column, &Option<String>)| {
        let Some(text) = text else { return Ok(Value::Null) };
        if matches!(column.kind, Kind::Bytes { .. }) && text == TOO_LONG {
            let message = format!(
                "{}.{}: longer than an entry of the log may be; split the value",
                table.name, column.name
            );
            return Err(Failure::refused("54000", message).into());
        }
        Value::of_text(column.kind, text).map_err(|unfit| {
            let message = format!("{}.{}: {unfit}", table.name, column.name);
            SqlError::from(Failure::refused("22000", message))
        })
    };
    table.columns.iter().zip(texts).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Column;

    fn catalogue() -> Catalogue {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, nullable: true };
        let table = Table {
            name: "account".to_owned(),
            columns: vec![column("id", Kind::Int64), column("name", Kind::Text { max: None })],
            key: vec![0],
            uniques: Vec::new(),
            references: Vec::new(),
        };
        Catalogue([(table.name.clone(), table)].into())
    }

    #[test]
    fn lines_give_the_rows_before_and_after() {
        let of = |line: &str| change_of_line(&catalogue(), line).map(|it| (it.before, it.after));
        let row = |id, name: &str| Some(vec![Value::Int(id), Value::Text(name.to_owned())]);
        assert_eq!(of(r#"["account","i","1","a\n\"b"]"#), Ok((None, row(1, "a\n\"b"))));
        assert_eq!(of(r#"["account","u","1","a","2","b"]"#), Ok((row(1, "a"), row(2, "b"))));
        let null = Some(vec![Value::Int(1), Value::Null]);
        assert_eq!(of(r#"["account","d","1",null]"#), Ok((null, None)));
        for bad in [
            r#"["account","u","1","a"]"#,
            r#"["account","i","1"]"#,
            r#"["account","d","1","a","2","b"]"#,
            r#"["other","d","1","a"]"#,
            r#"["account"]"#,
            "[",
        ] {
            assert_eq!(of(bad), Err(unreadable()), "{bad}");
        }
    }

    #[test]
    fn rows_that_were_written_and_not_captured_are_missed() {
        let change = change_of_line(&catalogue(), r#"["account","i","1","a"]"#).unwrap();
        let missed = |written: &[(&str, i64)], captured: usize, taken_back| {
            let captured = vec![change.clone(); captured];
            super::missed(written.iter().copied(), &catalogue(), &captured, taken_back)
        };
        assert_eq!(missed(&[("account", 2), ("other", 0)], 2, false), None);
        assert_eq!(missed(&[("account", 3)], 2, false).as_deref(), Some("table account"));
        assert_eq!(
            missed(&[("account", 1), ("other", 1)], 1, false).as_deref(),
            Some("table other")
        );
        assert_eq!(
            missed(&[("_ledger_state", 1)], 1, false).as_deref(),
            Some("table _ledger_state")
        );
        assert_eq!(missed(&[("account", 3)], 1, true), None, "two were taken back");
        assert_eq!(missed(&[("other", 1)], 1, true).as_deref(), Some("table other"));
        assert_eq!(counts_of(Some("{1,0,7}")), [1, 0, 7]);
    }
}
