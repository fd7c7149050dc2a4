//! What is done with a connection once it is there: sqlx's four ways to run a statement, and a statement that can be
//! run more than once.

use futures_core::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Execute, Executor, PgConnection, Postgres, SqlStr};

/// A statement taken apart, so that its text can be looked at first and so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Routed {
    sql: SqlStr,
    statement: Option<PgStatement>,
    arguments: Option<PgArguments>,
    persistent: bool,
}

impl Routed {
    /// Takes `query` apart.
    ///
    /// # Errors
    /// [`sqlx::Error::Encode`] when one of its arguments could not be encoded.
    pub(crate) fn new<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let statement = query.statement().cloned();
        let persistent = query.persistent();
        Ok(Self { sql: query.sql(), statement, arguments, persistent })
    }

    /// A statement of which only the text is needed.
    pub(crate) const fn text_only(sql: SqlStr) -> Self {
        Self { sql, statement: None, arguments: None, persistent: true }
    }

    pub(crate) fn text(&self) -> &str {
        self.sql.as_str()
    }
}

impl Execute<'_, Postgres> for Routed {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// A way to run a statement to its end.
pub(crate) trait Operation: Send + Sync {
    /// What comes out.
    type Output: Send;

    /// Runs it.
    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        query: Routed,
    ) -> BoxFuture<'c, Result<Self::Output, sqlx::Error>>;
}

pub(crate) struct Run;

impl Operation for Run {
    type Output = PgQueryResult;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        query: Routed,
    ) -> BoxFuture<'c, Result<Self::Output, sqlx::Error>> {
        connection.execute(query)
    }
}

pub(crate) struct FetchAll;

impl Operation for FetchAll {
    type Output = Vec<PgRow>;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        query: Routed,
    ) -> BoxFuture<'c, Result<Self::Output, sqlx::Error>> {
        connection.fetch_all(query)
    }
}

pub(crate) struct FetchOptional;

impl Operation for FetchOptional {
    type Output = Option<PgRow>;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        query: Routed,
    ) -> BoxFuture<'c, Result<Self::Output, sqlx::Error>> {
        connection.fetch_optional(query)
    }
}

/// Prepares the statement, with these types of its parameters.
pub(crate) struct Prepare<'a>(pub(crate) &'a [PgTypeInfo]);

impl Operation for Prepare<'_> {
    type Output = PgStatement;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        query: Routed,
    ) -> BoxFuture<'c, Result<Self::Output, sqlx::Error>> {
        connection.prepare_with(query.sql, self.0)
    }
}

/// Asks what the statement takes and gives.
pub(crate) struct Describe;

impl Operation for Describe {
    type Output = sqlx::Describe<Postgres>;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        query: Routed,
    ) -> BoxFuture<'c, Result<Self::Output, sqlx::Error>> {
        connection.describe(query.sql)
    }
}
