//! Simple queries: texts of one statement or several.

use super::control;
use super::fault::{Fault, Trouble};
use super::said::{Said, said, split};
use super::session::{Session, Tx};
use super::step::Step;
use crate::wire::{backend, frontend};

impl Session {
    /// Answers a simple query, but for the word that the client may go on.
    pub(super) async fn simple(&mut self, body: &[u8]) -> Result<(), Trouble> {
        let text = frontend::query(body).ok().and_then(|sql| str::from_utf8(sql).ok());
        let Some(text) = text else {
            let fault = Fault::new("22021", "the text is not UTF-8");
            return self.fail(&fault.into(), false).await;
        };
        let parts = split(text).unwrap_or_else(|| vec![text]);
        if parts.is_empty() {
            backend::put_empty(&mut self.out, backend::EMPTY_QUERY);
        }
        for sql in parts {
            let done = match said(sql) {
                Said::Server(from) => self.asked(sql, from).await,
                ours => self.controlled(&ours, sql).await,
            };
            match done {
                Ok(()) => {}
                Err(leave @ Trouble::Leave(_)) => return Err(leave),
                Err(trouble) => return self.fail(&trouble, false).await,
            }
        }
        if self.tx == Tx::Implicit {
            match self.commit_alone().await {
                Ok(()) => self.show().await?,
                Err(leave @ Trouble::Leave(_)) => return Err(leave),
                Err(trouble) => self.fail(&trouble, true).await?,
            }
        }
        Ok(())
    }

    async fn controlled(&mut self, ours: &Said, sql: &str) -> Result<(), Trouble> {
        if let Said::Show(own) = ours {
            let mut columns = Vec::new();
            backend::put_text_columns(&mut columns, &[own.name()]);
            self.pass_on(&columns).await?;
        }
        let tag = self.control(ours, sql).await?;
        let mut complete = Vec::new();
        backend::put_complete(&mut complete, &tag);
        self.pass_on(&complete).await
    }

    async fn asked(&mut self, sql: &str, from: Option<usize>) -> Result<(), Trouble> {
        let mut message = Vec::with_capacity(sql.len() + 8);
        frontend::put_query(&mut message, sql.as_bytes());
        let checked = from.and_then(|from| sql.get(from..)).map(str::to_owned);
        let step = Step::Query { message, checked };
        match self.tx {
            Tx::Failed => return Err(control::failed().into()),
            Tx::Idle => self.begin(Tx::Implicit, false).await?,
            Tx::Implicit | Tx::Explicit => {}
        }
        self.run_now(&[step]).await
    }

    /// Does some steps in the transaction that there is.
    pub(super) async fn run_now(&mut self, run: &[Step]) -> Result<(), Trouble> {
        if self.tx == Tx::Implicit {
            self.do_alone(run).await
        } else {
            self.perform(run, false).await
        }
    }
}
