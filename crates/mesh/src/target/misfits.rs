//! Changes whose rows have not the form that the member's table has: somebody has altered a table by hand, here or there.
//!
//! They wait, and with them everything that comes from that source: it is kept in the source's log, and nothing is applied
//! that could differ. Once both have the table alike again, they go on: what was written in the older form gets the default
//! of columns it lacks, as the row has got it where it was written, and loses columns that are no more.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::session::Session;
use crate::apply::Misfit;
use crate::engine::roster;
use crate::error::MeshError;
use crate::group::Group;
use crate::install;
use crate::names;
use crate::stamp::NodeId;
use crate::status::LinkState;
use crate::table::Table;

/// How often it is looked whether both have the table alike.
const LOOK: Duration = Duration::from_secs(2);
/// Bound on that look.
const LIMIT: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Takes in a group, or has it wait.
    pub(super) fn take_in(&mut self, source: NodeId, group: Box<Group>) -> Result<(), MeshError> {
        // Behind what waits already.
        if let Some(parked) = self.parked.get_mut(&source) {
            parked.push_back(group);
            return Ok(());
        }
        let misfits = self.applier.misfits(&group);
        if misfits.is_empty() {
            self.schedule.arrived(source, *group);
            return Ok(());
        }
        if self.schedule.is_open() && self.schedule.is_open_of(source) {
            // The rest of that transaction would be waited for, and nothing else could be applied.
            return Err(MeshError::refused(self.told(source, &misfits), ADVICE));
        }
        self.parked.insert(source, VecDeque::from([group]));
        self.look_again = Some(Instant::now());
        Ok(())
    }

    /// Looks at the tables of those whose changes wait, and lets go on what can.
    pub(super) async fn look_at_parked(&mut self) -> Result<(), MeshError> {
        self.look_again = None;
        self.applier.refresh(&self.target.setup).await?;
        for (source, mut groups) in std::mem::take(&mut self.parked) {
            while let Some(group) = groups.pop_front() {
                if let Some(waits) = self.fit(source, group).await {
                    groups.push_front(waits);
                    self.parked.insert(source, groups);
                    self.look_again = Some(Instant::now() + LOOK);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Lets a group go on, or gives it back where it has to wait.
    async fn fit(&mut self, source: NodeId, mut group: Box<Group>) -> Option<Box<Group>> {
        let link = self.links.get(&source)?;
        let misfits = self.applier.misfits(&group);
        let mut wait = false;
        if misfits.iter().any(|misfit| !misfit.is_clear()) {
            wait = true;
        } else if !misfits.is_empty() {
            let node = &link.member.name;
            let looking = async {
                let client = roster::connect(&self.target.setup, node).await?;
                install::tables(&self.target.setup, node, &client).await
            };
            match tokio::time::timeout(LIMIT, looking).await {
                Ok(Ok(theirs)) => {
                    wait = !misfits.iter().all(|misfit| self.are_alike(misfit, &theirs));
                }
                // It may not answer: then nothing comes from it either.
                _ => wait = true,
            }
        }
        if wait {
            let problem = format!("{}; {ADVICE}", self.told(source, &misfits));
            tracing::warn!(target = %self.target.member.name, problem, "changes wait");
            link.board.set(LinkState::Paused, Some(problem));
            return Some(group);
        }
        for misfit in &misfits {
            match self.applier.table(&misfit.gone) {
                Some(_) => self.applier.allow(&misfit.gone),
                None => group.leave_out(&misfit.gone),
            }
        }
        link.board.set(LinkState::Streaming, None);
        self.schedule.arrived(source, *group);
        None
    }

    fn are_alike(&self, misfit: &Misfit, theirs: &[Table]) -> bool {
        let theirs = theirs.iter().find(|table| *names::gone_name(&table.name) == *misfit.gone);
        match (self.applier.table(&misfit.gone), theirs) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => form(ours) == form(theirs),
            _ => false,
        }
    }

    /// What is wrong, in words.
    fn told(&self, source: NodeId, misfits: &[Misfit]) -> String {
        let here = &self.target.member.name;
        let there = match self.links.get(&source) {
            Some(link) => link.member.name.to_string(),
            None => source.to_string(),
        };
        let each: Vec<String> = misfits
            .iter()
            .map(|misfit| {
                format!("table {}: {}", misfit.name(), misfit.told(here.as_str(), &there))
            })
            .collect();
        format!("what node `{there}` wrote does not reach node `{here}`: {}", each.join("; "))
    }
}

/// What to do.
const ADVICE: &str = "nothing is lost, and it goes on by itself once the table is the same on both; use `herdsman mesh ddl` to alter tables on all nodes at once";

/// What has to be the same.
fn form(table: &Table) -> (Vec<(&str, &str, bool)>, Vec<&str>) {
    let mut columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| (&*column.name, &*column.sql_type, column.generated))
        .collect();
    columns.sort_unstable();
    (columns, table.key_columns().map(|column| &*column.name).collect())
}
