//! An answer as a client reads it: JSON with typed columns and rows.

use serde_json::{Map, Value, json};

use super::message::{Ids, Text, Topic};
use crate::{
    Offset,
    node::{self, SqlError},
};

/// The largest answer: below what Kafka takes by itself (1 MB), with room for what it puts around.
pub(super) const ANSWER_BYTES_MOST: usize = 900 * 1024;
/// More rows are not for a message.
pub(super) const ROWS_MOST: usize = 10_000;
/// No more of what engines say is read for an answer. It is more than one takes, since some values are shorter in JSON.
pub(super) const READ_BYTES_MOST: usize = 4 * ANSWER_BYTES_MOST;
/// The largest whole number that every reader of JSON has exactly: 2^53 - 1.
const WHOLE_MOST: i64 = 9_007_199_254_740_991;

/// What came of a request that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Where.
    pub(super) node: Option<String>,
    /// The place in the log that the client has seen by this answer.
    pub(super) offset: Option<Offset>,
    /// Of each statement; none where it is not known any more, or where a table was changed.
    pub(super) answers: Vec<node::Answer>,
    /// Whether it has changed data, or may have.
    pub(super) wrote: bool,
    /// It had been done before, and this says so.
    pub(super) again: bool,
    /// Whether fewer nodes have it than were to.
    pub(super) behind: bool,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) node: Option<String>,
    pub(super) state: String,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(state: &str, message: impl Into<String>) -> Self {
        Self { node: None, state: state.to_owned(), message: message.into() }
    }
}

/// The answer in bytes.
pub(super) fn encode(
    ids: &Ids,
    topic: Topic,
    text: Option<&Text>,
    outcome: &Result<Done, Fault>,
) -> Vec<u8> {
    let shown = match outcome {
        Ok(done) if rows(done) > ROWS_MOST || is_cut(done) => {
            let why = match rows(done) {
                rows if rows > ROWS_MOST => format!("the result has {rows} rows"),
                _ => format!("the result has more than {READ_BYTES_MOST} bytes"),
            };
            return beyond(ids, topic, text, done, &why);
        }
        Ok(done) => document(ids, topic, &Ok((done, results(text, done)))),
        Err(fault) => document(ids, topic, &Err(fault)),
    };
    let bytes = shown.to_string().into_bytes();
    match outcome {
        Ok(done) if bytes.len() > ANSWER_BYTES_MOST => {
            beyond(ids, topic, text, done, &format!("the answer has {} bytes", bytes.len()))
        }
        _ => bytes,
    }
}

fn rows(done: &Done) -> usize {
    let beyond = |it: &node::Answer| usize::try_from(it.beyond).unwrap_or(usize::MAX);
    let rows = done.answers.iter().map(|it| it.rows.len().saturating_add(beyond(it)));
    rows.fold(0, usize::saturating_add)
}

/// Whether rows were left out already, as they were read.
fn is_cut(done: &Done) -> bool {
    done.answers.iter().any(|it| it.beyond > 0)
}

/// A read that was stopped for want of room is told how much there is.
pub(super) fn with_bounds(error: SqlError) -> SqlError {
    match error {
        SqlError::Refused { state, message } if state == "54000" => {
            SqlError::Refused { state, message: bounded(&message) }
        }
        other => other,
    }
}

fn bounded(why: &str) -> String {
    format!("{why}; at most {ROWS_MOST} rows and {ANSWER_BYTES_MOST} bytes are sent")
}

/// What is too much for an answer: a read has failed, and of a write is told that it is done.
fn beyond(ids: &Ids, topic: Topic, text: Option<&Text>, done: &Done, why: &str) -> Vec<u8> {
    let why = bounded(why);
    if !done.wrote {
        let fault = Fault { node: done.node.clone(), ..Fault::new("54000", why) };
        return document(ids, topic, &Err(&fault)).to_string().into_bytes();
    }
    let bare = |it: &node::Answer| node::Answer { affected: it.affected, ..Default::default() };
    let done = Done { answers: done.answers.iter().map(bare).collect(), ..done.clone() };
    let mut results = results(text, &done);
    results.insert("omitted".to_owned(), why.into());
    document(ids, topic, &Ok((&done, results))).to_string().into_bytes()
}

fn document(
    ids: &Ids,
    topic: Topic,
    outcome: &Result<(&Done, Map<String, Value>), &Fault>,
) -> Value {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| all.insert(key.to_owned(), value);
    put("messageId", ids.request().to_string().into());
    put("requestId", ids.message.as_str().into());
    put("requestTopic", topic.role().into());
    if let Some(client) = &ids.client {
        put("clientId", client.as_str().into());
    }
    let node = match outcome {
        Ok((done, _)) => &done.node,
        Err(fault) => &fault.node,
    };
    put("nodeId", node.as_deref().map_or(Value::Null, Value::from));
    match outcome {
        Ok((done, results)) => {
            put("resultCode", "OK".into());
            put("offset", done.offset.map_or(Value::Null, |at| at.0.into()));
            if done.again {
                put("duplicate", true.into());
            }
            if done.behind {
                put("acknowledged", false.into());
            }
            all.extend(results.clone());
        }
        Err(fault) => {
            put("resultCode", format!("ERR: {}", fault.message).into());
            put("sqlstate", fault.state.as_str().into());
            put("error", fault.message.as_str().into());
        }
    }
    Value::Object(all)
}

/// In the form of the request: of one statement beside everything else, of several in a list.
fn results(text: Option<&Text>, done: &Done) -> Map<String, Value> {
    let mut all = Map::new();
    // What changed the data is not known any more: another run's rows would say something else.
    if done.again {
        return all;
    }
    let changed: u64 = done.answers.iter().map(|it| it.affected).sum();
    all.insert("rowsChanged".to_owned(), changed.into());
    match text {
        Some(Text::Many(_)) => {
            let of = |it: &node::Answer| {
                let mut one = rows_of(it);
                one.insert("rowsChanged".to_owned(), it.affected.into());
                Value::Object(one)
            };
            all.insert("results".to_owned(), done.answers.iter().map(of).collect());
        }
        _ => {
            if let Some(answer) = done.answers.first().filter(|it| !it.columns.is_empty()) {
                all.extend(rows_of(answer));
                all.insert("result".to_owned(), objects(answer));
            }
        }
    }
    all
}

/// Columns and rows; nothing of a statement that returns none.
fn rows_of(answer: &node::Answer) -> Map<String, Value> {
    let mut all = Map::new();
    if answer.columns.is_empty() {
        return all;
    }
    let columns = answer.columns.iter().enumerate();
    let columns = columns.map(|(i, name)| json!({"name": name, "type": kind(answer, i)}));
    all.insert("columns".to_owned(), columns.collect());
    let row = |cells: &Vec<Option<String>>| -> Value {
        cells.iter().enumerate().map(|(i, text)| cell(kind(answer, i), text.as_deref())).collect()
    };
    all.insert("rows".to_owned(), answer.rows.iter().map(row).collect());
    all
}

/// Kluster's form: each row by the names of its columns. Of two columns of one name it has the last.
fn objects(answer: &node::Answer) -> Value {
    let row = |cells: &Vec<Option<String>>| -> Value {
        let named = answer.columns.iter().zip(cells).enumerate();
        let named =
            named.map(|(i, (name, text))| (name.clone(), cell(kind(answer, i), text.as_deref())));
        Value::Object(named.collect())
    };
    answer.rows.iter().map(row).collect()
}

fn kind(answer: &node::Answer, column: usize) -> &str {
    answer.types.get(column).map_or("unknown", String::as_str)
}

/// A value. What JSON has no exact form for stays text: numbers beyond 53 bits, `numeric`, moments, JSON itself. Bytes are
/// hexadecimal digits.
fn cell(kind: &str, text: Option<&str>) -> Value {
    let Some(text) = text else { return Value::Null };
    let exact = match kind {
        "boolean" => match text {
            "t" | "true" | "1" => Some(true.into()),
            "f" | "false" | "0" => Some(false.into()),
            _ => None,
        },
        "smallint" | "integer" | "bigint" | "oid" => {
            let number = text.parse().ok();
            number
                .filter(|it: &i64| it.unsigned_abs() <= WHOLE_MOST.unsigned_abs())
                .map(Value::from)
        }
        "real" | "double precision" => {
            text.parse::<f64>().ok().filter(|it| it.is_finite()).map(Value::from)
        }
        "bytea" => text.strip_prefix("\\x").map(Value::from),
        _ => None,
    };
    exact.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests;
