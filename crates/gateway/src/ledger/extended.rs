//! The extended protocol: statements that are prepared, bound and executed.

use super::control;
use super::fault::{Fault, Trouble};
use super::said::{Said, said, split};
use super::session::{HELD_MOST, Session, Tx};
use super::step::{Ours, Prepared, Step, bytes};
use crate::wire::frontend::{self, Named};
use crate::wire::{HEADER, Malformed, backend, message};

/// Messages that are sent together; more would be waited for without need.
const RUN_MOST: usize = 256;
/// Prepared statements of one client, and their texts together.
const STATEMENTS_MOST: usize = 10_000;
const STATEMENTS_BYTES_MOST: usize = 64 * 1024 * 1024;

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::new("08P01", malformed.to_string())
    }
}

impl Session {
    /// Takes one message: answers it here, or has it wait to be sent with those that follow.
    pub(super) async fn extended(&mut self, whole: &[u8]) -> Result<(), Trouble> {
        let body = whole.get(HEADER..).unwrap_or_default();
        match whole.first() {
            Some(&frontend::PARSE) => self.parse(whole, body).await?,
            Some(&frontend::BIND) => self.bind(whole, body).await?,
            Some(&frontend::DESCRIBE) => self.describe(whole, body).await?,
            Some(&frontend::EXECUTE) => {
                let portal = frontend::execute(body).map_err(Fault::from)?;
                match self.portals.get(portal).cloned() {
                    Some(ours) => {
                        self.drive_or_fail().await?;
                        let tag = self.control(&ours.said, &ours.sql).await?;
                        let mut complete = Vec::new();
                        backend::put_complete(&mut complete, &tag);
                        self.pass_on(&complete).await?;
                    }
                    None => self.run.push(Step::Execute { message: whole.to_vec() }),
                }
            }
            _ => self.close(whole, body).await?,
        }
        let enough = self.run.len() >= RUN_MOST || bytes(&self.run) > HELD_MOST;
        if enough { self.drive_or_fail().await } else { Ok(()) }
    }

    async fn parse(&mut self, whole: &[u8], body: &[u8]) -> Result<(), Trouble> {
        let parse = frontend::parse(body).map_err(Fault::from)?;
        let sql = str::from_utf8(parse.query)
            .map_err(|_| Fault::new("22021", "the text is not UTF-8"))?;
        let parts = split(sql).unwrap_or_else(|| vec![sql]);
        let name = parse.name.to_vec();
        let ours = match parts.as_slice() {
            [] => Said::Server(None),
            [one] => said(one),
            _ => {
                let why = "cannot insert multiple commands into a prepared statement";
                Said::Refused("42601", why.to_owned())
            }
        };
        let known: usize = self.statements.values().map(Prepared::bytes).sum();
        let full = self.statements.len() >= STATEMENTS_MOST
            || known.saturating_add(whole.len()) > STATEMENTS_BYTES_MOST;
        if full && !self.statements.contains_key(&name) {
            return Err(Fault::new("54000", "too many prepared statements; close some").into());
        }
        if !ours.is_ours() {
            let sql = sql.to_owned();
            self.run.push(Step::Parse { name, message: whole.to_vec(), sql });
            return Ok(());
        }
        self.drive_or_fail().await?;
        if let Said::Refused(state, why) = ours {
            return Err(Fault::new(state, why).into());
        }
        if self.tx == Tx::Failed && !matches!(ours, Said::Commit | Said::Rollback | Said::BackTo) {
            return Err(control::failed().into());
        }
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(
                Fault::new("42P05", "there is a prepared statement of this name already").into()
            );
        }
        let ours = Ours { said: ours, sql: sql.to_owned() };
        self.statements.insert(name, Prepared::Here(ours));
        self.pass_on(&[backend::PARSE_COMPLETE, 0, 0, 0, 4]).await
    }

    /// What a statement is, also where its `Parse` waits to be sent.
    fn statement(&self, name: &[u8]) -> Option<Prepared> {
        let coming = self.run.iter().rev().find_map(|step| match step {
            Step::Parse { name: known, message, sql } if known == name => {
                Some(Prepared::There { message: message.clone(), sql: sql.clone() })
            }
            _ => None,
        });
        coming.or_else(|| self.statements.get(name).cloned())
    }

    /// The `Parse` of the statement without a name, if it was sent before.
    fn unnamed(&self, name: &[u8]) -> Option<Vec<u8>> {
        let waits = |step: &Step| matches!(step, Step::Parse { name, .. } if name.is_empty());
        match self.statements.get(name) {
            Some(Prepared::There { message, .. })
                if name.is_empty() && !self.run.iter().any(waits) =>
            {
                Some(message.clone())
            }
            _ => None,
        }
    }

    async fn bind(&mut self, whole: &[u8], body: &[u8]) -> Result<(), Trouble> {
        let bind = frontend::bind(body).map_err(Fault::from)?;
        match self.statement(bind.statement) {
            None => {
                self.drive_or_fail().await?;
                Err(Fault::new("26000", "there is no prepared statement of this name").into())
            }
            Some(Prepared::Here(ours)) => {
                let portal = bind.portal.to_vec();
                self.drive_or_fail().await?;
                self.portals.insert(portal, ours);
                self.pass_on(&[backend::BIND_COMPLETE, 0, 0, 0, 4]).await
            }
            Some(Prepared::There { sql, .. }) => {
                self.portals.remove(bind.portal);
                let checked = match said(&sql) {
                    Said::Server(Some(from)) => sql_from(&sql, from),
                    _ => None,
                };
                let unnamed = self.unnamed(bind.statement);
                self.run.push(Step::Bind { message: whole.to_vec(), checked, unnamed });
                Ok(())
            }
        }
    }

    async fn describe(&mut self, whole: &[u8], body: &[u8]) -> Result<(), Trouble> {
        let named = frontend::named(body).map_err(Fault::from)?;
        let (ours, statement) = match named {
            Named::Statement(name) => match self.statement(name) {
                Some(Prepared::Here(ours)) => (Some(ours), Some(name)),
                _ => (None, Some(name)),
            },
            Named::Portal(name) => (self.portals.get(name).cloned(), None),
        };
        let Some(ours) = ours else {
            let unnamed = statement.and_then(|name| self.unnamed(name));
            self.run.push(Step::Describe { message: whole.to_vec(), unnamed });
            return Ok(());
        };
        self.drive_or_fail().await?;
        let mut out = Vec::new();
        if statement.is_some() {
            message(&mut out, backend::PARAMETER_DESCRIPTION, |out| out.extend_from_slice(&[0, 0]));
        }
        match ours.said {
            Said::Show(own) => backend::put_text_columns(&mut out, &[own.name()]),
            _ => backend::put_empty(&mut out, backend::NO_DATA),
        }
        self.pass_on(&out).await
    }

    async fn close(&mut self, whole: &[u8], body: &[u8]) -> Result<(), Trouble> {
        let (ours, statement) = match frontend::named(body).map_err(Fault::from)? {
            Named::Statement(name) => match self.statement(name) {
                Some(Prepared::Here(_)) => (self.statements.remove(name).is_some(), None),
                _ => (false, Some(name.to_vec())),
            },
            Named::Portal(name) => (self.portals.remove(name).is_some(), None),
        };
        if ours {
            self.drive_or_fail().await?;
            return self.pass_on(&[backend::CLOSE_COMPLETE, 0, 0, 0, 4]).await;
        }
        self.run.push(Step::Close { message: whole.to_vec(), statement });
        Ok(())
    }

    /// Sends what waits to be sent; an error is told to the client.
    pub(super) async fn drive(&mut self) -> Result<(), Trouble> {
        match self.drive_or_fail().await {
            Ok(()) => Ok(()),
            Err(trouble) => self.skip_after(&trouble, false).await,
        }
    }

    async fn drive_or_fail(&mut self) -> Result<(), Trouble> {
        let run = std::mem::take(&mut self.run);
        if run.is_empty() {
            return Ok(());
        }
        match self.tx {
            // What is closed is closed all the same.
            Tx::Failed if !run.iter().all(|step| matches!(step, Step::Close { .. })) => {
                return Err(control::failed().into());
            }
            Tx::Idle if run.iter().any(Step::runs) => self.begin(Tx::Implicit, false).await?,
            Tx::Idle => {
                self.server().await?;
            }
            Tx::Implicit | Tx::Explicit | Tx::Failed => {}
        }
        self.run_now(&run).await
    }

    /// After an error nothing is done until the client says `Sync`.
    pub(super) async fn skip_after(
        &mut self,
        trouble: &Trouble,
        at_the_end: bool,
    ) -> Result<(), Trouble> {
        if let Trouble::Leave(problem) = trouble {
            return Err(Trouble::Leave(problem.clone()));
        }
        self.run.clear();
        self.skipping = true;
        self.fail(trouble, at_the_end).await
    }

    /// The end of what belongs together.
    pub(super) async fn sync(&mut self) -> Result<(), Trouble> {
        self.drive().await?;
        if self.tx == Tx::Implicit {
            match self.commit_alone().await {
                Ok(()) => self.show().await?,
                Err(trouble) => self.skip_after(&trouble, true).await?,
            }
        }
        self.skipping = false;
        Ok(())
    }
}

fn sql_from(sql: &str, from: usize) -> Option<String> {
    sql.get(from..).map(str::to_owned)
}
