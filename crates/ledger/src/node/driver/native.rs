//! A client's own connection to a node that speaks its protocol.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Shared,
    capture::{Running, begin_on},
};
use crate::node::{
    Captured, Native, SqlError,
    dialect::{Dialect, Failure, Session as _},
    postgres::Wire,
};

struct Connection<D: Dialect> {
    shared: Arc<Shared<D>>,
    at: At<D>,
}

enum At<D: Dialect> {
    Between(D::Session),
    Within(Box<Running<D>>),
    /// It was lost, or ended for the log's sake.
    Gone,
}

/// One that is in no transaction; `None` where the engine has none.
pub(super) async fn connect<D: Dialect>(
    shared: Arc<Shared<D>>,
) -> Result<Option<Box<dyn Native>>, SqlError> {
    let Some(session) = shared.dialect.connect_native().await? else { return Ok(None) };
    Ok(Some(Box::new(Connection { shared, at: At::Between(session) })))
}

fn gone() -> SqlError {
    Failure::Environmental("the connection to the node is gone".to_owned()).into()
}

#[async_trait]
impl<D: Dialect> Native for Connection<D> {
    fn wire(&mut self) -> Option<&mut Wire> {
        match &mut self.at {
            At::Between(session) => session.wire(),
            At::Within(running) => running.session().wire(),
            At::Gone => None,
        }
    }

    async fn begin(&mut self, read_only: bool) -> Result<(), SqlError> {
        let At::Between(session) = std::mem::replace(&mut self.at, At::Gone) else {
            return Err(gone());
        };
        let dialect = &self.shared.dialect;
        let begins = if read_only { dialect.begin_read() } else { dialect.begin_snapshot() };
        let running = begin_on(Arc::clone(&self.shared), session, begins).await?;
        self.at = At::Within(Box::new(running));
        Ok(())
    }

    async fn check(&mut self, sql: &str) -> Result<(), SqlError> {
        match &mut self.at {
            At::Within(running) => running.check(sql).await,
            _ => Err(gone()),
        }
    }

    fn take_back(&mut self) {
        if let At::Within(running) = &mut self.at {
            running.take_back();
        }
    }

    fn is_beaten(&self) -> bool {
        matches!(&self.at, At::Within(running) if running.is_beaten())
    }

    async fn capture(&mut self) -> Result<Captured, SqlError> {
        let At::Within(running) = std::mem::replace(&mut self.at, At::Gone) else {
            return Err(gone());
        };
        let (captured, session) = running.finish(self.shared.dialect.before_capture()).await?;
        self.at = session.map_or(At::Gone, At::Between);
        Ok(captured)
    }

    async fn roll_back(&mut self) {
        self.at = match std::mem::replace(&mut self.at, At::Gone) {
            At::Within(running) => running.roll_back().await.map_or(At::Gone, At::Between),
            other => other,
        };
    }

    async fn command(&mut self, sql: &str) -> Result<(), SqlError> {
        match &mut self.at {
            At::Between(session) => Ok(session.command(sql).await?),
            At::Within(running) => running.command(sql).await,
            At::Gone => Err(gone()),
        }
    }
}
