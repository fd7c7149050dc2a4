//! What is answered here and not by the server: transactions, settings, changes of tables.

use herdsman_ledger::Offset;
use herdsman_ledger::engine::request::random_request;
use herdsman_ledger::table::TableChange;

use super::fault::{Fault, Trouble, put_warning};
use super::said::{Own, Said};
use super::session::{Level, Session, Tx};
use super::step::Prepared;
use crate::wire::backend;

/// SQLSTATEs.
const ACTIVE: &str = "25001";
const NONE_ACTIVE: &str = "25P01";
const FAILED: &str = "25P02";
const INVALID: &str = "22023";

impl Said {
    /// Whether the server never sees it.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self, Self::Server(_))
    }
}

impl Session {
    /// Does what a statement asks for; the tag that says so. What has rows gives them to the client first.
    pub(super) async fn control(&mut self, said: &Said, sql: &str) -> Result<String, Trouble> {
        let ends = matches!(said, Said::Commit | Said::Rollback | Said::BackTo);
        if self.tx == Tx::Failed && !ends {
            return Err(failed().into());
        }
        if self.tx == Tx::Implicit {
            // It is not among what would be done again.
            self.show().await?;
        }
        let tag = match said {
            Said::Begin { read_only, serializable } => {
                self.begin_explicit(*read_only, *serializable).await?;
                let word = sql.trim_start().get(..5).unwrap_or_default();
                if word.eq_ignore_ascii_case("start") { "START TRANSACTION" } else { "BEGIN" }
            }
            Said::Commit => self.commit_explicit().await?,
            Said::Rollback => {
                if self.tx == Tx::Idle {
                    put_warning(&mut self.out, NONE_ACTIVE, "there is no transaction in progress");
                }
                self.roll_back().await;
                "ROLLBACK"
            }
            Said::BackTo => {
                self.within("ROLLBACK TO SAVEPOINT")?;
                self.command(sql).await?;
                if let Some(server) = &mut self.server {
                    server.native.take_back();
                }
                self.tx = Tx::Explicit;
                "ROLLBACK"
            }
            Said::Savepoint(tag) => {
                self.within(tag)?;
                self.command(sql).await?;
                *tag
            }
            Said::Modes { read_only, serializable } => {
                self.within("SET TRANSACTION")?;
                if let Some(only) = read_only {
                    let mode = if *only { "ONLY" } else { "WRITE" };
                    self.command(&format!("SET TRANSACTION READ {mode}")).await?;
                }
                self.serializable = serializable.unwrap_or(self.serializable);
                "SET"
            }
            Said::Set { name, value } => {
                self.set(name, Some(value.as_str())).await?;
                "SET"
            }
            Said::SetLocal => {
                self.within("SET LOCAL")?;
                self.command(sql).await?;
                "SET"
            }
            Said::Reset(name) => {
                self.set(name, None).await?;
                "RESET"
            }
            Said::ResetAll => {
                self.settings.clear();
                self.pending.clear();
                (self.read, self.serializable_default) = (Level::default(), false);
                self.anew();
                "RESET"
            }
            Said::DiscardAll if self.tx == Tx::Idle => {
                self.settings.clear();
                self.statements.clear();
                (self.read, self.serializable_default) = (Level::default(), false);
                self.anew();
                "DISCARD ALL"
            }
            Said::DiscardAll => {
                return Err(Fault::new(ACTIVE, "DISCARD ALL cannot be run in a transaction").into());
            }
            Said::Forget(name) => self.forget(name.as_deref(), sql).await?,
            Said::Show(own) => {
                self.put_own(*own).await?;
                "SHOW"
            }
            Said::Define(tag) => {
                self.define(sql).await?;
                *tag
            }
            Said::Refused(state, why) => return Err(Fault::new(state, why.clone()).into()),
            Said::Server(_) => return Err(Fault::new("XX000", "it is not answered here").into()),
        };
        Ok(tag.to_owned())
    }

    async fn begin_explicit(
        &mut self,
        read_only: Option<bool>,
        serializable: Option<bool>,
    ) -> Result<(), Trouble> {
        match self.tx {
            Tx::Idle => self.begin(Tx::Explicit, read_only == Some(true)).await?,
            // What came before it in the same text belongs to it.
            Tx::Implicit => self.tx = Tx::Explicit,
            Tx::Explicit | Tx::Failed => {
                put_warning(&mut self.out, ACTIVE, "there is already a transaction in progress");
                return Ok(());
            }
        }
        self.serializable = serializable.unwrap_or(self.serializable_default);
        Ok(())
    }

    async fn commit_explicit(&mut self) -> Result<&'static str, Trouble> {
        match self.tx {
            Tx::Idle => {
                put_warning(&mut self.out, NONE_ACTIVE, "there is no transaction in progress");
            }
            Tx::Failed => {
                self.roll_back().await;
                return Ok("ROLLBACK");
            }
            Tx::Implicit | Tx::Explicit => self.commit().await?,
        }
        Ok("COMMIT")
    }

    fn within(&self, what: &str) -> Result<(), Fault> {
        if self.tx == Tx::Idle || self.tx == Tx::Implicit {
            return Err(Fault::new(
                NONE_ACTIVE,
                format!("{what} can only be used in transactions"),
            ));
        }
        Ok(())
    }

    /// The connection is made anew, now or when the transaction is over.
    fn anew(&mut self) {
        if self.tx == Tx::Idle {
            self.drop_server();
        } else {
            self.renew = true;
        }
    }

    /// Sets something for the session, or takes it back.
    async fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Trouble> {
        let text = value.map(|value| value.trim_matches('\'').to_ascii_lowercase());
        match (Own::of(name), text.as_deref()) {
            (Some(Own::Read), text) => {
                self.read = match text {
                    None | Some("session") => Level::Session,
                    Some("eventual") => Level::Eventual,
                    Some("linearizable") => Level::Linearizable,
                    Some(_) => {
                        let message = "herdsman.read is eventual, session or linearizable";
                        return Err(Fault::new(INVALID, message).into());
                    }
                };
                return Ok(());
            }
            (Some(Own::Offset), Some(text)) => {
                let message = "herdsman.offset is what another session was told: a number";
                let seen = text.parse::<u64>().map_err(|_| Fault::new(INVALID, message))?;
                self.seen = self.seen.max(Offset(seen));
                return Ok(());
            }
            (Some(Own::Offset), None) => return Ok(()),
            (None, text) if name == "default_transaction_isolation" => {
                self.serializable_default = text == Some("serializable");
            }
            (None, _) => {}
        }
        // By its own name the log knows the connection; clients are not told another one either.
        if name == super::server::APPLICATION {
            return Ok(());
        }
        let sql = match value {
            Some(value) if value.starts_with("INTERVAL") => format!("SET TIME ZONE {value}"),
            Some(value) => format!("SET \"{name}\" TO {value}"),
            None => format!("RESET \"{name}\""),
        };
        self.command(&sql).await?;
        let made = value.map(|_| sql);
        if self.tx == Tx::Idle {
            self.settings.retain(|(known, _)| known != name);
            self.settings.extend(made.map(|sql| (name.to_owned(), sql)));
        } else {
            self.pending.push((name.to_owned(), made));
        }
        Ok(())
    }

    /// `DEALLOCATE`.
    async fn forget(&mut self, name: Option<&str>, sql: &str) -> Result<&'static str, Trouble> {
        let known = |name: &str| self.statements.get(name.as_bytes());
        match name {
            Some(name) if matches!(known(name), Some(Prepared::Here(_))) => {}
            _ => self.command(sql).await?,
        }
        match name {
            Some(name) => {
                self.statements.remove(name.as_bytes());
                Ok("DEALLOCATE")
            }
            None => {
                self.statements.clear();
                Ok("DEALLOCATE ALL")
            }
        }
    }

    async fn define(&mut self, sql: &str) -> Result<(), Trouble> {
        if self.tx != Tx::Idle {
            let message =
                "a change of a table stands alone: it is a transaction of its own in a ledger";
            return Err(Fault::new(ACTIVE, message).into());
        }
        let missing = || Fault::new("0A000", "this is not for a ledger");
        let change = TableChange::of_sql(sql)?.ok_or_else(missing)?;
        let node = self.door.node()?;
        let ledger = self.door.ledger.clone();
        let done = ledger.define(&node, random_request(), change).await?;
        self.seen = done.at.map_or(self.seen, |at| self.seen.max(at));
        backend::put_parameter(&mut self.out, "herdsman.offset", &self.seen.to_string());
        Ok(())
    }

    async fn put_own(&mut self, own: Own) -> Result<(), Trouble> {
        let value = match (own, self.read) {
            (Own::Offset, _) => self.seen.to_string(),
            (Own::Read, Level::Eventual) => "eventual".to_owned(),
            (Own::Read, Level::Session) => "session".to_owned(),
            (Own::Read, Level::Linearizable) => "linearizable".to_owned(),
        };
        let mut row = Vec::new();
        backend::put_text_row(&mut row, &[Some(&value)]);
        self.pass_on(&row).await
    }
}

pub(super) fn failed() -> Fault {
    let message = "current transaction is aborted, commands ignored until end of transaction block";
    Fault::new(FAILED, message)
}
