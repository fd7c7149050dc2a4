//! A connection whose statements are prepared once, and sent several at a time.

use std::{collections::HashMap, future::Future, pin::Pin};

use futures_util::FutureExt as _;
use tokio_postgres::{Client, Statement, types::ToSql};

use super::failure;
use crate::{
    Value,
    node::{
        dialect::Failure,
        session::{Ask, Heard, Rows, Told},
    },
};

/// How many statements are kept prepared; beyond, all are forgotten. A ledger's tables come in few shapes.
const PREPARED_MOST: usize = 256;
/// How many statements are sent before the answer to the first is waited for.
const UNDER_WAY_MOST: usize = 128;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Told, Failure>> + Send + 'a>>;

/// A connection of ours.
pub(super) struct Prepared {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Prepared {
    pub(super) fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new() }
    }

    /// For what a client says, which is never kept.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn command(&self, sql: &str) -> Result<(), Failure> {
        self.client.batch_execute(sql).await.map_err(|error| failure(&error))
    }

    pub(super) async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Failure> {
        self.prepare(sql).await?;
        match said(&self.client, self.statements.get(sql), Saying::Execute, values).await? {
            Told::Changed(rows) => Ok(rows),
            Told::Done | Told::Rows(_) => Ok(0),
        }
    }

    pub(super) async fn select(&mut self, sql: &str, values: &[Value]) -> Result<Rows, Failure> {
        self.prepare(sql).await?;
        match said(&self.client, self.statements.get(sql), Saying::Select, values).await? {
            Told::Rows(rows) => Ok(rows),
            Told::Done | Told::Changed(_) => Ok(Rows::new()),
        }
    }

    /// All of them, each sent before the one before is answered, unless it has to be prepared first.
    pub(super) async fn together(&mut self, asks: &[Ask]) -> Heard {
        let mut heard = Heard::default();
        let mut rest = asks;
        while let Some(first) = rest.first() {
            if let Some(sql) = sql_with_values(first)
                && let Err(failure) = self.prepare(sql).await
            {
                heard.failed = Some(failure);
                return heard;
            }
            let known = |ask: &&Ask| {
                sql_with_values(ask).is_none_or(|sql| self.statements.contains_key(sql))
            };
            let ready = rest.iter().take(UNDER_WAY_MOST).take_while(known).count().max(1);
            let (now, later) = rest.split_at(ready);
            if !self.under_way(now, &mut heard).await {
                return heard;
            }
            rest = later;
        }
        heard
    }

    /// These are prepared. Whether all of them were done.
    async fn under_way(&self, asks: &[Ask], heard: &mut Heard) -> bool {
        let mut sent = Vec::with_capacity(asks.len());
        for ask in asks {
            let mut answer = self.answer(ask);
            // Asked for the first time, it sends; an answer comes later, in the same order.
            let come = (&mut answer).now_or_never();
            sent.push((answer, come));
        }
        for (answer, come) in sent {
            let told = match come {
                Some(told) => told,
                None => answer.await,
            };
            if !heard.hear(told) {
                return false;
            }
        }
        true
    }

    fn answer<'a>(&'a self, ask: &'a Ask) -> Answer<'a> {
        match ask {
            Ask::Command(sql) => Box::pin(async { self.command(sql).await.map(|()| Told::Done) }),
            Ask::Execute(sql, values) => {
                let statement = self.statements.get(sql);
                Box::pin(said(&self.client, statement, Saying::Execute, values))
            }
            Ask::Select(sql, values) => {
                let statement = self.statements.get(sql);
                Box::pin(said(&self.client, statement, Saying::Select, values))
            }
            Ask::Statement(..) => Box::pin(async {
                let why = "a client's statement is said by itself on this connection";
                Err(Failure::Environmental(why.to_owned()))
            }),
        }
    }

    async fn prepare(&mut self, sql: &str) -> Result<(), Failure> {
        if self.statements.contains_key(sql) {
            return Ok(());
        }
        let statement = self.client.prepare(sql).await.map_err(|error| failure(&error))?;
        if self.statements.len() >= PREPARED_MOST {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement);
        Ok(())
    }
}

fn sql_with_values(ask: &Ask) -> Option<&str> {
    match ask {
        Ask::Command(_) | Ask::Statement(..) => None,
        Ask::Execute(sql, _) | Ask::Select(sql, _) => Some(sql),
    }
}

#[derive(Clone, Copy)]
enum Saying {
    Execute,
    Select,
}

/// What was prepared, with these values.
async fn said(
    client: &Client,
    statement: Option<&Statement>,
    saying: Saying,
    values: &[Value],
) -> Result<Told, Failure> {
    let gone = || Failure::Environmental("a statement is no longer prepared".to_owned());
    let statement = statement.ok_or_else(gone)?;
    let texts: Vec<Option<String>> = values.iter().map(Value::to_text).collect();
    let values: Vec<&(dyn ToSql + Sync)> =
        texts.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
    let told = match saying {
        Saying::Execute => client.execute(statement, &values).await.map(Told::Changed),
        Saying::Select => match client.query(statement, &values).await {
            Ok(rows) => return rows.iter().map(row).collect::<Result<_, _>>().map(Told::Rows),
            Err(error) => Err(error),
        },
    };
    told.map_err(|error| of_prepared(failure(&error)))
}

/// What the server no longer takes as it was prepared is prepared anew, on another connection. The data are not to blame.
fn of_prepared(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { state, message }
            if state == "26000" || message.contains("cached plan must not change") =>
        {
            Failure::Environmental(message)
        }
        other => other,
    }
}

/// Texts and whole numbers.
fn row(row: &tokio_postgres::Row) -> Result<Vec<Option<String>>, Failure> {
    use tokio_postgres::types::Type;
    let cell = |i: usize| {
        let kind = row.columns().get(i).map(|it| it.type_().clone());
        let read = match kind {
            Some(Type::INT8) => {
                row.try_get::<_, Option<i64>>(i).map(|it| it.map(|it| it.to_string()))
            }
            _ => row.try_get::<_, Option<String>>(i),
        };
        read.map_err(|error| Failure::Environmental(error.to_string()))
    };
    (0..row.len()).map(cell).collect()
}
