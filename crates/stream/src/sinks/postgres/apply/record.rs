//! Changes as rows of the sink's own tables.

use herdsman_wal::decode::Field;
use herdsman_wal::{Change, Row};
use serde_json::{Map, Value};
use tokio_postgres::types::ToSql;

use super::{Rejected, prepared};
use crate::sink::Batch;
use crate::sinks::postgres::pipeline::Request;
use crate::sinks::postgres::session::Session;

type Parameters<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

/// The rejected changes of a batch, kept where their batch is committed.
pub(super) struct Rejections<'a> {
    parameters: Option<Parameters<'a>>,
}

impl<'a> Rejections<'a> {
    pub(super) fn new(session: &'a Session, batch: &Batch, rejected: &[Rejected]) -> Self {
        let mut columns: [Vec<Option<String>>; 7] = Default::default();
        for (index, problem) in rejected {
            let Some(change) = batch.changes.get(*index) else { continue };
            let (schema, table) = names(change);
            push(
                &mut columns,
                [
                    Some(change.transaction.commit_lsn.to_string()),
                    Some(change.ordinal.to_string()),
                    Some(change.kind().name().to_owned()),
                    schema,
                    table,
                    Some(problem.clone()),
                    Some(content(change)),
                ],
            );
        }
        let parameters = (!rejected.is_empty()).then(|| with_name(session, columns));
        Self { parameters }
    }

    pub(super) fn request<'r>(&'r self, session: &'r Session) -> Option<Request<'r>> {
        self.parameters.as_ref().map(|parameters| prepared(session, &session.reject, parameters))
    }
}

/// Changes as entries of the list of changes.
pub(super) struct Entries<'a> {
    parameters: Parameters<'a>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(session: &'a Session, batch: &Batch, indexes: &[usize]) -> Self {
        let mut columns: [Vec<Option<String>>; 8] = Default::default();
        for change in indexes.iter().filter_map(|&index| batch.changes.get(index)) {
            let (schema, table) = names(change);
            let transaction = &change.transaction;
            push(
                &mut columns,
                [
                    Some(transaction.commit_lsn.to_string()),
                    Some(change.ordinal.to_string()),
                    Some(transaction.xid.to_string()),
                    Some(transaction.commit_time.0.to_string()),
                    Some(change.kind().name().to_owned()),
                    schema,
                    table,
                    Some(content(change)),
                ],
            );
        }
        Self { parameters: with_name(session, columns) }
    }

    pub(super) fn request<'r>(&'r self, session: &'r Session) -> Request<'r> {
        prepared(session, &session.append, &self.parameters)
    }
}

fn push<const N: usize>(columns: &mut [Vec<Option<String>>; N], values: [Option<String>; N]) {
    for (column, value) in columns.iter_mut().zip(values) {
        column.push(value);
    }
}

fn with_name<'a, const N: usize>(
    session: &'a Session,
    columns: [Vec<Option<String>>; N],
) -> Parameters<'a> {
    let mut parameters: Parameters<'a> = vec![Box::new(session.settings.name.as_str())];
    parameters.extend(
        columns.into_iter().map(|column| -> Box<dyn ToSql + Sync + Send> { Box::new(column) }),
    );
    parameters
}

fn names(change: &Change) -> (Option<String>, Option<String>) {
    let table = change.table();
    (table.map(|table| table.schema.to_string()), table.map(|table| table.name.to_string()))
}

/// The rows of a change as JSON, every value in PostgreSQL's text form.
fn content(change: &Change) -> String {
    let mut content = Map::new();
    for (name, row) in [("old", change.old_row()), ("new", change.new_row())] {
        if let Some(row) = row {
            content.insert(name.to_owned(), values(row));
        }
    }
    ascii(&Value::Object(content).to_string())
}

fn values(row: Row<'_>) -> Value {
    let values = row.iter().filter_map(|(column, field)| {
        let value = match field {
            Field::Null => Value::Null,
            // Not told, which is not NULL.
            Field::Unchanged => return None,
            Field::Text(bytes) | Field::Binary(bytes) => String::from_utf8_lossy(bytes).into(),
        };
        Some((column.name.to_string(), value))
    });
    Value::Object(values.collect())
}

/// Escapes whatever the target's encoding might not have.
fn ascii(json: &str) -> String {
    if json.is_ascii() {
        return json.to_owned();
    }
    let mut escaped = String::with_capacity(json.len() * 2);
    for c in json.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}
