//! A client's statement on a connection of ours.

use std::{error::Error, pin::pin};

use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use tokio::task::AbortHandle;
use tokio_postgres::{
    Client, SimpleQueryMessage,
    types::{Format, IsNull, ToSql, Type, to_sql_checked},
};

use super::failure;
use crate::{
    Value,
    node::{Answer, Room, dialect::Failure},
};

/// The task that reads and writes for a connection. Let go while it is busy, it ends the connection: what the server would
/// still say is not waited for, however much it is, and the server sees that nobody listens and stops.
pub(super) struct Task {
    handle: AbortHandle,
    busy: bool,
}

impl Task {
    pub(super) fn new(handle: AbortHandle) -> Self {
        Self { handle, busy: false }
    }

    /// An answer is awaited; or it has been read to its end.
    pub(super) fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.busy {
            self.handle.abort();
        }
    }
}

/// Runs it; rows are in text, whatever their types.
pub(super) async fn run(
    client: &Client,
    sql: &str,
    values: &[&Value],
    room: &mut Room,
) -> Result<Answer, Failure> {
    let failed = |error: tokio_postgres::Error| failure(&error);
    if values.is_empty() && is_plain_change(sql, false) {
        // At once; a second statement in the text is refused here, too.
        let affected = client.execute_typed(sql, &[]).await.map_err(failed)?;
        return Ok(Answer { affected, ..Answer::default() });
    }
    // Prepared: a second statement in the text is refused.
    let statement = client.prepare(sql).await.map_err(failed)?;
    let given = given(values, statement.params())?;
    if statement.columns().is_empty() {
        let affected = client.execute_raw(&statement, &given).await.map_err(failed)?;
        return Ok(Answer { affected, ..Answer::default() });
    }
    let columns = statement.columns().iter().map(|it| it.name().to_owned()).collect();
    let types = statement.columns().iter().map(|it| type_name(it.type_().name())).collect();
    let mut answer = Answer { columns, types, ..Answer::default() };
    if values.is_empty() {
        rows(client, sql, !is_query(sql), &mut answer, room).await?;
        return Ok(answer);
    }
    let execute = prepare_by_name(client, sql, given, statement.params()).await.map_err(failed)?;
    rows(client, &execute, !is_query(sql), &mut answer, room).await?;
    client.batch_execute("DEALLOCATE herdsman_statement").await.map_err(failed)?;
    Ok(answer)
}

/// Reads rows as they come, and no further than there is room.
async fn rows(
    client: &Client,
    sql: &str,
    changes: bool,
    answer: &mut Answer,
    room: &mut Room,
) -> Result<(), Failure> {
    let messages = client.simple_query_raw(sql).await.map_err(|error| failure(&error))?;
    let mut messages = pin!(messages);
    while let Some(message) = messages.try_next().await.map_err(|error| failure(&error))? {
        match message {
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
                room.take(answer, cells)?;
            }
            // Of `INSERT … RETURNING` and the like.
            SimpleQueryMessage::CommandComplete(count) if changes => answer.affected = count,
            _ => {}
        }
    }
    Ok(())
}

/// Rows come in text from statements that are said in text, which carry no values. So the values are put into settings of
/// this transaction first, as values, and the statement is told to take them from there. What executes it then.
async fn prepare_by_name(
    client: &Client,
    sql: &str,
    given: Vec<Given>,
    types: &[Type],
) -> Result<String, tokio_postgres::Error> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let argument = |(at, (value, kind)): (usize, (&Given, &Type))| match value.0 {
        None => "NULL".to_owned(),
        Some(_) => {
            let (number, schema, name) = (at + 1, quoted(kind.schema()), quoted(kind.name()));
            format!("current_setting('herdsman.value_{number}')::{schema}.{name}")
        }
    };
    let arguments: Vec<String> = given.iter().zip(types).enumerate().map(argument).collect();
    let texts: Vec<Option<String>> = given.into_iter().map(|it| it.0).collect();
    let set = "SELECT count(set_config('herdsman.value_' || at, value, true)) \
               FROM unnest($1::text[]) WITH ORDINALITY AS given (value, at)";
    client.execute(set, &[&texts]).await?;
    client.batch_execute(&format!("PREPARE herdsman_statement AS {sql}")).await?;
    Ok(format!("EXECUTE herdsman_statement ({})", arguments.join(", ")))
}

/// A value in text, which the server reads as the type that it takes the parameter for.
#[derive(Debug)]
struct Given(Option<String>);

impl ToSql for Given {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// As many as there are types.
fn given(values: &[&Value], types: &[Type]) -> Result<Vec<Given>, Failure> {
    if values.len() != types.len() {
        let (given, wanted) = (values.len(), types.len());
        let message = format!("{given} values are given for {wanted} parameters");
        return Err(Failure::refused("08P01", message));
    }
    let text = |(at, (value, kind)): (usize, (&&Value, &Type))| match value {
        Value::Bytes(_) if *kind != Type::BYTEA => {
            let message =
                format!("${} is of type {}, and bytes are given for it", at + 1, kind.name());
            Err(Failure::refused("42804", message))
        }
        Value::Bytes(_) => Ok(Given(value.to_text().map(|digits| format!("\\x{digits}")))),
        value => Ok(Given(value.to_text())),
    };
    values.iter().zip(types).enumerate().map(text).collect()
}

/// A type as people write it.
fn type_name(catalog: &str) -> String {
    match catalog {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "bpchar" => "character",
        other => other,
    }
    .to_owned()
}

fn is_query(sql: &str) -> bool {
    begins_with(sql, &["SELECT", "VALUES", "TABLE", "WITH"])
}

/// Whether a statement surely gives no rows, and has parameters just where it has values, and so need not be asked about
/// before it is run.
pub(super) fn is_plain_change(sql: &str, has_values: bool) -> bool {
    begins_with(sql, &["INSERT", "UPDATE", "DELETE"])
        && has_values == sql.contains('$')
        && !sql.to_ascii_lowercase().contains("returning")
}

fn begins_with(sql: &str, words: &[&str]) -> bool {
    let word: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    words.iter().any(|it| word.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use super::is_plain_change;

    #[test]
    fn only_what_surely_gives_no_rows_is_run_without_asking() {
        for (sql, plain) in [
            ("UPDATE a SET b = 1", true),
            (" insert into a values (1)", true),
            ("DELETE FROM a", true),
            ("DELETE FROM a Returning b", false),
            ("UPDATE a SET b = $1", false),
            ("UPDATE a SET b = 'returning'", false),
            ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", false),
            ("SELECT 1", false),
            ("-- UPDATE\nSELECT 1", false),
            ("", false),
        ] {
            assert!(!is_plain_change(sql, true) || sql.contains('$'), "{sql}");
            assert_eq!(is_plain_change(sql, false), plain, "{sql}");
        }
    }
}
