//! A transaction in two flights, for changes that meet just what their writers saw: nearly all do.
//!
//! Changed rows take the place of just the version that was changed, and just what was deleted is deleted. The first flight tells how many of them did. Where all did, no conflict can be among them, and the second flight
//! ends the transaction; those of a batch that did not are done again in the second flight, with all that belongs to it. That
//! is cheaper than to look for conflicts first, and dearer where there are many: a table where it failed is done the other way
//! for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::fast::{Sent, Step, Wanted, batches, begin, kinds, simple};
use super::flight::send;
use super::params::Versions;
use super::statements::Kind;
use super::{Applied, Applier, Stopped};
use crate::group::{Group, TableBatch};
use crate::stamp::Stamp;

/// A flight more is worth it where it takes less than this,
const NEAR: Duration = Duration::from_millis(1);
/// or less than this for each row.
const SAVED: Duration = Duration::from_micros(4);

/// What goes into the first flight, and what into the second.
#[derive(Default)]
struct Flights<'g> {
    first: Vec<Wanted<'g>>,
    second: Vec<Wanted<'g>>,
}

impl Applier {
    /// Applies groups; `None`: nothing is, they have to be applied the other way.
    pub(super) async fn quick(
        &mut self,
        groups: &[Group],
        durable: bool,
    ) -> Result<Option<Applied>, Stopped> {
        let Some(Flights { first, mut second }) = self.flights(groups) else { return Ok(None) };
        let alone = groups.iter().filter(|group| group.source != self.member.id).count() == 1;
        let steps = self.steps(first).await?;
        let counts = self.first_flight(&steps, durable).await?;
        let applies = steps.iter().zip(&counts).filter(|(step, _)| step.kind != Kind::Drop);
        let rows = applies.map(|(_, count)| count).sum();
        let missed = self.missed(groups, steps, &counts);
        if !missed.is_empty() && !alone {
            // What one of them leaves is what another meets.
            self.session.run("roll back", "ROLLBACK").await?;
            return Ok(None);
        }
        second.extend(missed);
        second.extend(self.to_mend(groups));
        let applied = Applied { rows, durable, ..Applied::default() };
        self.finish_quick(groups, second, applied).await.map(Some)
    }

    /// How many rows each step changed. After an error nothing is open.
    async fn first_flight(
        &mut self,
        steps: &[Step<'_>],
        durable: bool,
    ) -> Result<Vec<u64>, Stopped> {
        let params = self.all_params(steps);
        let mut answers: Vec<Sent<'_>> = Vec::with_capacity(steps.len() + 1);
        let begun = Instant::now();
        let begin = simple(&self.session.client, begin(durable));
        answers.push(("begin".to_owned(), false, send(begin).await));
        self.send_all(steps, &params, &mut answers).await;
        let (mut counts, mut failed) = (Vec::with_capacity(answers.len()), None);
        let mut round_trip = Duration::ZERO;
        for (at, (what, _, answer)) in answers.into_iter().enumerate() {
            let answer = answer.take().await;
            if at == 0 {
                round_trip = begun.elapsed();
            }
            match answer {
                Ok(count) => counts.push(count),
                Err(error) if failed.is_none() => failed = Some((at, self.stopped(&what, error))),
                Err(_) => {}
            }
        }
        drop(params);
        self.round_trip = round_trip;
        let Some((at, stopped)) = failed else {
            // Without that of BEGIN.
            return Ok(counts.into_iter().skip(1).collect());
        };
        if let Some(step) = at.checked_sub(1).and_then(|at| steps.get(at)) {
            self.tables.went(step.batch.gone(), false);
        }
        self.session.run("roll back", "ROLLBACK").await?;
        Err(stopped)
    }

    /// What did not meet just what its writers saw: it is to be done again.
    fn missed<'g>(
        &mut self,
        groups: &'g [Group],
        steps: Vec<Step<'g>>,
        counts: &[u64],
    ) -> Vec<Wanted<'g>> {
        let mut went = BTreeMap::new();
        let mut missed = Vec::new();
        for (step, count) in steps.into_iter().zip(counts) {
            let Step { batch, kind, tombstones, versions, .. } = step;
            // There may be greater ones of some keys, which is no conflict.
            let well = kind == Kind::Keep || u64::try_from(versions.len()) == Ok(*count);
            *went.entry(batch.gone()).or_insert(true) &= well;
            let holds = |group: &&Group| group.tables.iter().any(|of| std::ptr::eq(of, batch));
            if let (false, Some(group)) = (well, groups.iter().find(holds)) {
                let kind = if tombstones { Kind::Bury } else { Kind::Take };
                missed.push(Wanted { group, batch, kind, tombstones, versions });
            }
        }
        for (gone, well) in went {
            self.tables.went(gone, well);
        }
        missed
    }

    async fn finish_quick(
        &mut self,
        groups: &[Group],
        wanted: Vec<Wanted<'_>>,
        mut applied: Applied,
    ) -> Result<Applied, Stopped> {
        let steps = self.steps(wanted).await?;
        let params = self.all_params(&steps);
        let mut answers = Vec::with_capacity(steps.len());
        self.send_all(&steps, &params, &mut answers).await;
        let (rows, row) = self.close(answers, self.ends(groups)).await?;
        applied.rows += rows;
        (applied.conflicts, self.counted) = self.counts(&row)?;
        self.remember(groups);
        Ok(applied)
    }

    /// What is done first and what then; none where it is not worth it.
    fn flights<'g>(&mut self, groups: &'g [Group]) -> Option<Flights<'g>> {
        let own = self.member.id;
        let foreign = || groups.iter().filter(|group| group.source != own);
        let rows: usize = foreign().map(Group::rows).sum();
        let saved = SAVED.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX));
        if self.round_trip > NEAR.max(saved) {
            // It may have been a bad moment.
            self.round_trip = self.round_trip * 9 / 10;
            return None;
        }
        if groups.iter().any(|group| !group.truncates.is_empty() || has_twice(group)) {
            return None;
        }
        let mut flights = Flights::default();
        for (group, batch) in batches(groups) {
            if group.source == own {
                continue;
            }
            if self.tables.is_quick(batch.gone()) {
                flights.add(group, batch, self.is_renewed(batch));
            } else {
                let kinds = kinds(group, batch, own, self.is_renewed(batch)).into_iter();
                flights.second.extend(kinds.filter_map(|kind| Wanted::all(group, batch, kind)));
            }
        }
        // Of several, one may meet what another leaves.
        if flights.first.is_empty() || (foreign().count() > 1 && !flights.second.is_empty()) {
            return None;
        }
        for (group, batch) in batches(groups).filter(|(group, _)| group.source == own) {
            let kinds = kinds(group, batch, own, self.is_renewed(batch)).into_iter();
            flights.second.extend(kinds.filter_map(|kind| Wanted::all(group, batch, kind)));
        }
        Some(flights)
    }
}

impl<'g> Flights<'g> {
    /// `renewed`: rows of the table are replaced whole, new ones as well: what is there of their keys may be another's.
    fn add(&mut self, group: &'g Group, batch: &'g TableBatch, renewed: bool) {
        let wanted =
            |kind, tombstones, versions| Wanted { group, batch, kind, tombstones, versions };
        if let Some(tombstones) = batch.tombstones() {
            let all = Versions::new(tombstones);
            let (unmade, made) = all.split(|row| tombstones.seen(row) == Stamp::NONE);
            if made.len() > 0 {
                self.first.push(wanted(Kind::Drop, true, made.clone()));
                self.first.push(wanted(Kind::Keep, true, made));
            }
            if unmade.len() > 0 {
                self.second.push(wanted(Kind::Bury, true, unmade));
            }
        }
        let Some(rows) = batch.rows() else { return };
        let all = Versions::new(rows);
        if renewed {
            for kind in [Kind::Clash, Kind::Clear, Kind::Put] {
                self.second.push(wanted(kind, false, all.clone()));
            }
            return;
        }
        let (new, changed) = all.split(|row| rows.seen(row) == Stamp::NONE);
        if changed.len() > 0 {
            self.first.push(wanted(Kind::Plain, false, changed));
        }
        // Not with a plain INSERT: that waits for a local transaction which is deleting the key, and comes in behind its
        // tombstone, which the snapshot does not show.
        if new.len() > 0 {
            self.second.push(wanted(Kind::Take, false, new));
        }
    }
}

/// Whether a table was altered on the way.
fn has_twice(group: &Group) -> bool {
    let names = group.tables.iter().map(TableBatch::gone);
    names.clone().enumerate().any(|(at, name)| names.clone().take(at).any(|other| other == name))
}
