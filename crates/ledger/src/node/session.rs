//! One connection to an engine, and what is said on it.

use async_trait::async_trait;

use super::{Answer, Room, dialect::Failure, postgres::Wire};
use crate::Value;

/// Rows of texts.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// One of several statements of ours that are said together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// As [`Session::command`].
    Command(String),
    /// As [`Session::execute`].
    Execute(String, Vec<Value>),
    /// As [`Session::select`].
    Select(String, Vec<Value>),
    /// As [`Session::statement`], of one that gives no rows.
    Statement(String, Vec<Value>),
}

impl Ask {
    pub(super) fn command(sql: &str) -> Self {
        Self::Command(sql.to_owned())
    }

    pub(super) fn select(sql: &str) -> Self {
        Self::Select(sql.to_owned(), Vec::new())
    }
}

/// What an [`Ask`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Done,
    Changed(u64),
    Rows(Rows),
}

/// What several came to, up to the first that failed.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) told: Vec<Told>,
    pub(super) failed: Option<Failure>,
}

impl Heard {
    /// One more; whether it was done.
    pub(super) fn hear(&mut self, told: Result<Told, Failure>) -> bool {
        match told {
            Ok(told) => self.told.push(told),
            Err(failure) => self.failed = Some(failure),
        }
        self.failed.is_none()
    }

    /// All of them, or the failure.
    pub(super) fn all(self) -> Result<std::vec::IntoIter<Told>, Failure> {
        match self.failed {
            Some(failure) => Err(failure),
            None => Ok(self.told.into_iter()),
        }
    }
}

/// The rows that the next one came to; none if it was no query.
pub(super) fn next_rows(told: &mut impl Iterator<Item = Told>) -> Rows {
    match told.next() {
        Some(Told::Rows(rows)) => rows,
        _ => Rows::new(),
    }
}

/// One connection.
#[async_trait]
pub(super) trait Session: Send + Sync + 'static {
    /// A statement of ours without values, such as DDL or `COMMIT`.
    async fn command(&mut self, sql: &str) -> Result<(), Failure>;

    /// A statement of ours; how many rows it changed.
    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Failure>;

    /// A query of ours whose columns are all texts, whole numbers or floating numbers.
    async fn select(&mut self, sql: &str, values: &[Value]) -> Result<Rows, Failure>;

    /// Several of ours in order, with as little waiting in between as the engine allows. Those after one that fails may be
    /// tried all the same: they have to be of one transaction, begun before, in which they then come to nothing.
    async fn together(&mut self, asks: Vec<Ask>) -> Heard {
        one_by_one(self, asks).await
    }

    /// One statement of a client's, with the engine's own signs for parameters; a second one in the same text is refused.
    /// After a failure the session is to be dropped: an answer may have been left unread.
    async fn statement(
        &mut self,
        sql: &str,
        values: &[&Value],
        room: &mut Room,
    ) -> Result<Answer, Failure>;

    /// Where a client's own messages go; of sessions that [`Dialect::connect_native`](super::dialect::Dialect::connect_native) has made.
    fn wire(&mut self) -> Option<&mut Wire> {
        None
    }
}

/// Each after the answer to the one before.
pub(super) async fn one_by_one<S: Session + ?Sized>(session: &mut S, asks: Vec<Ask>) -> Heard {
    let mut heard = Heard::default();
    for ask in asks {
        let told = match ask {
            Ask::Command(sql) => session.command(&sql).await.map(|()| Told::Done),
            Ask::Execute(sql, values) => session.execute(&sql, &values).await.map(Told::Changed),
            Ask::Select(sql, values) => session.select(&sql, &values).await.map(Told::Rows),
            Ask::Statement(sql, values) => {
                let values: Vec<&Value> = values.iter().collect();
                let answer = session.statement(&sql, &values, &mut Room::unlimited()).await;
                answer.map(|answer| Told::Changed(answer.affected))
            }
        };
        if !heard.hear(told) {
            break;
        }
    }
    heard
}
