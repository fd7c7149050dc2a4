//! A transaction that is held open over many groups, with tables that nobody else writes meanwhile: what `mesh ddl` alters
//! them in. And telling whether a group's rows have the form that the member's tables have.

use std::collections::BTreeSet;
use std::sync::Arc;

use herdsman_node::Lsn;

use super::drained::Drained;
use super::fast::Ends;
use super::forms::{Difference, Misfit, differing};
use super::params::Versions;
use super::several::{Finishing, Moving};
use super::tables::Tables;
use super::{Applied, Applier, State, Stopped};
use crate::config::Mode;
use crate::error::MeshError;
use crate::group::{Group, Rows};
use crate::install;
use crate::names;
use crate::setup::Setup;
use crate::table::{Table, TableName};

/// How long the tables' lock is waited for each time. Writers of these tables wait behind us meanwhile.
const LOCK: &str = "1500ms";
/// How long a row is waited for that a local writer holds, who may well wait for our tables.
const ROW: &str = "5s";

/// What the session's settings are while statements of the user's run: theirs, but for what makes values look different.
const AS_THE_USER: &str = "SET LOCAL search_path TO DEFAULT; SET LOCAL session_replication_role TO DEFAULT;
SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT";
const AS_WE_WERE: &str =
    "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL session_replication_role = replica;
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// What the transaction is to be finished with.
#[derive(Debug, Default)]
pub(super) struct Held {
    last: Option<Ends>,
    /// What was applied in it, where rows hold no versions.
    drained: Option<Drained>,
}

/// What is run in the transaction.
pub(crate) struct Alteration<'a> {
    /// Before the statements, as ourselves.
    pub(crate) before: &'a [String],
    /// The user's.
    pub(crate) statements: &'a [String],
    /// As whom.
    pub(crate) role: Option<&'a str>,
    /// Afterwards, as ourselves.
    pub(crate) after: &'a [String],
}

impl Applier {
    /// Begins a transaction that keeps all others from writing these tables (names in quotes). Whether the locks were to
    /// be had; if not, nothing is changed.
    pub(crate) async fn hold(&mut self, tables: &[String]) -> Result<bool, MeshError> {
        let what = "begin a transaction for `mesh ddl`";
        if self.state != State::Ready {
            return Err(MeshError::refused(
                format!("node `{}`: a transaction is open already", self.member.name),
                "open another session",
            ));
        }
        let drained = (self.mode == Mode::Untouched).then(|| Drained::new(self.among(tables)));
        if drained.is_some() {
            self.look_at_memory().await?;
        }
        self.state = State::Unusable;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '{LOCK}'"
        );
        self.session.run(what, &begin).await?;
        if !tables.is_empty() {
            // Whoever has locked rows to write them later is waited for, too: the statements need all of the table, and would
            // meet a deadlock with whoever then comes to write.
            let lock = format!("LOCK TABLE {} IN EXCLUSIVE MODE", tables.join(", "));
            match self.session.run("lock tables for `mesh ddl`", &lock).await {
                Err(MeshError::Sql { source, .. })
                    if source
                        .code()
                        .is_some_and(|code| ["55P03", "40P01"].contains(&code.code())) =>
                {
                    self.session.run("roll back", "ROLLBACK").await?;
                    self.state = State::Ready;
                    return Ok(false);
                }
                outcome => outcome?,
            }
        }
        let patience = format!("SET LOCAL lock_timeout = '{ROW}'");
        self.session.run(what, &patience).await?;
        self.held = Some(Held { last: None, drained });
        self.state = State::Open { newest: i64::MIN, rows: 0, keys: 0, transactions: 0 };
        Ok(true)
    }

    /// Those of these tables (names in quotes) that are in the mesh, by the bare names of their tombstones.
    fn among(&self, tables: &[String]) -> BTreeSet<Box<str>> {
        let all = self.tables.all().filter(|table| tables.contains(&table.name.quoted()));
        all.map(|table| names::gone_name(&table.name).into_boxed_str()).collect()
    }

    /// A group is applied in the held transaction, if there is one.
    pub(super) fn begin_drained(
        &mut self,
        group: &Group,
        witness: Option<i64>,
    ) -> Result<(), MeshError> {
        let Some(drained) = self.held.as_mut().and_then(|held| held.drained.as_mut()) else {
            return Ok(());
        };
        drained.rely_on(witness.unwrap_or_default());
        drained.begin(group, self.member.id).map_err(|why| {
            tracing::info!(node = %self.member.name, why, "`mesh ddl` lets go of its tables for a moment");
            MeshError::TimedOut {
                node: self.member.name.clone(),
                what: format!("applying what was written before `mesh ddl` ({why})"),
                seconds: 0,
            }
        })
    }

    /// The versions of a batch that count: in a held transaction some may be below what was applied in it before.
    pub(super) fn versions<'r>(
        &self,
        gone: &str,
        tombstones: bool,
        rows: &'r Rows,
    ) -> Versions<'r> {
        let drained = self.held.as_ref().and_then(|held| held.drained.as_ref());
        drained.map_or_else(|| Versions::new(rows), |drained| drained.count(gone, tombstones, rows))
    }

    /// The end of the member's log.
    pub(crate) async fn position(&self) -> Result<Lsn, MeshError> {
        let what = "say where its log ends";
        let row = self.session.row(what, "SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        let text: String = self.session.get(what, &row, 0)?;
        Ok(text.parse().unwrap_or_default())
    }

    /// Notes in the held transaction how far it is.
    pub(super) async fn note_held(&mut self, groups: &[Group]) -> Result<(), Stopped> {
        let ends = Ends::of(groups);
        if ends.sources.is_empty() {
            return Ok(());
        }
        let (client, progress) = (&self.session.client, &self.fixed.progress);
        let moving = Moving::of(ends, None);
        let moved = match self.mode {
            Mode::Columns => client.execute(progress, &moving.ends.params()).await,
            Mode::Untouched => client.execute(progress, &moving.params()).await,
        };
        let moved = moved.map_err(|error| self.stopped("keep how far it is", error))?;
        self.moved(&moving.ends, moved)?;
        if let Some(held) = &mut self.held {
            held.last = Some(moving.ends);
        }
        Ok(())
    }

    /// Runs statements in the held transaction.
    pub(crate) async fn alter(&mut self, alteration: &Alteration<'_>) -> Result<(), MeshError> {
        let state = std::mem::replace(&mut self.state, State::Unusable);
        let (session, client) = (&self.session, &self.session.client);
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error| session.failed(&what, error)
        };
        for statement in alteration.before {
            client.batch_execute(statement).await.map_err(failed("prepare for `mesh ddl`"))?;
        }
        let settings = "change settings for `mesh ddl`";
        client.batch_execute(AS_THE_USER).await.map_err(failed(settings))?;
        if let Some(role) = alteration.role {
            let role = format!("SET LOCAL ROLE {}", herdsman_wal::quote_identifier(role));
            client.batch_execute(&role).await.map_err(failed(settings))?;
        }
        for statement in alteration.statements {
            let what = format!("run `{statement}`");
            // One statement each: the extended protocol takes no more.
            client.execute(statement.as_str(), &[]).await.map_err(failed(&what))?;
        }
        client.batch_execute("SET LOCAL ROLE NONE").await.map_err(failed(settings))?;
        client.batch_execute(AS_WE_WERE).await.map_err(failed(settings))?;
        for statement in alteration.after {
            let what = "bring the mesh's part of the table up to date";
            client.batch_execute(statement).await.map_err(failed(what))?;
        }
        self.state = state;
        Ok(())
    }

    /// Keeps the held transaction from being taken for dead.
    pub(crate) async fn stay(&self) -> Result<(), MeshError> {
        self.session.run("stay", "SELECT 1").await
    }

    /// Commits the held transaction after `last`, a statement of the mesh's own.
    pub(crate) async fn commit_held(&mut self, last: &str) -> Result<Applied, MeshError> {
        let state = std::mem::replace(&mut self.state, State::Unusable);
        let newest = match state {
            State::Open { newest, .. } => newest,
            _ => i64::MIN,
        };
        let Held { last: ends, drained } = self.held.take().unwrap_or_default();
        let mut ends = ends.unwrap_or_default();
        ends.newest = newest;
        self.session.run("note that `mesh ddl` is done", last).await?;
        let what = "finish a transaction";
        let row = match drained {
            None => {
                let finish = ends.finish(self.counted);
                self.session.client.query_one(&self.fixed.finish, &finish.params()).await
            }
            Some(drained) => {
                if let Some(newest) = drained.newest {
                    self.mark(newest.node).await?;
                }
                let finish = Finishing::held(&ends, &drained, self.counted);
                self.session.client.query_one(&self.fixed.finish, &finish.params()).await
            }
        };
        let row = row.map_err(|error| self.session.failed(what, error))?;
        self.session.run("commit", "COMMIT").await?;
        let mut applied = Applied { durable: true, ..Applied::default() };
        (applied.conflicts, self.counted) = self.counts(&row)?;
        self.state = State::Ready;
        Ok(applied)
    }

    /// Rolls the held transaction back. Groups that were applied in it have to come again.
    pub(crate) async fn let_go(&mut self) -> Result<(), MeshError> {
        self.state = State::Unusable;
        self.held = None;
        self.session.run("roll back", "ROLLBACK").await?;
        self.state = State::Ready;
        Ok(())
    }

    /// Reads the member's tables anew.
    pub(crate) async fn refresh(&mut self, setup: &Arc<Setup>) -> Result<(), MeshError> {
        let tables = install::tables(setup, &self.member.name, &self.session.client).await?;
        self.tables = Tables::new(tables, self.member.id);
        self.tell_lanes();
        Ok(())
    }

    /// Where rows of a group have not the form that the member's tables have.
    pub(crate) fn misfits(&self, group: &Group) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        let mut seen = BTreeSet::new();
        for batch in group.batches() {
            let differs = match self.tables.get(batch.gone()) {
                None => vec![Difference::Table],
                Some(table) => batch.rows().map_or_else(Vec::new, |rows| differing(table, rows)),
            };
            if !differs.is_empty() && seen.insert(batch.gone()) {
                let table = self.tables.get(batch.gone()).map(|table| table.name.clone());
                let relation = batch.rows().map(|rows| {
                    let relation = rows.relation();
                    TableName::new(&relation.schema, &relation.name)
                });
                misfits.push(Misfit {
                    gone: batch.gone().into(),
                    table: table.or(relation),
                    differs,
                });
            }
        }
        misfits
    }

    /// The table of this tombstone table, as the member has it.
    pub(crate) fn table(&self, gone: &str) -> Option<&Arc<Table>> {
        self.tables.get(gone)
    }

    /// Takes rows of a table in an older form: what they lack gets its default, what the table has no more is left out.
    pub(crate) fn allow(&mut self, gone: &str) {
        self.tables.allow(gone);
        self.tell_lanes();
    }
}
