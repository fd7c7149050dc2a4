//! Making members hold the same rows again.
//!
//! What members hold of a key is joined as everywhere ([`crate::resolve`]): the greatest version is put where it is not.
//! Versions only ever rise, so that it may run while writes go on, be interrupted, and be run again.
//!
//! One thing joining cannot decide: two rows of one version that are not the same, which nothing of the mesh makes. Then
//! the row that most members hold is taken for the right one; of as many, that of the member that wrote it.

pub(crate) mod copying;
pub(crate) mod existing;
mod lost;
pub(crate) mod marked;
mod merging;
pub(crate) mod recent;
mod sql;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use self::marked::{Command, Marked};
use self::sql::Commands;
use self::versions::{Choice, Copies, choose};
use crate::apply::mend_all;
use crate::error::MeshError;
use crate::names;
use crate::stamp::Stamp;
use crate::table::Table;
use crate::verify::compare::Key;
use crate::verify::scan::transposed;
use crate::verify::session::Seat;

pub use copying::Copying;
pub use existing::spread;
pub use lost::Spread;
pub(crate) use lost::lost;

/// Keys that are put right at a time: small transactions, so that nobody waits long for a row.
const CHUNK: usize = 500;

/// What was put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Healed {
    /// Keys that were put right.
    pub keys: u64,
    /// Keys that had become the same by themselves.
    pub same: u64,
    /// Rows put in, of all members together.
    pub rows: u64,
    /// Deletions, of all members together.
    pub deletions: u64,
    /// Rows that could not be put in, as another row has their value of a unique constraint.
    pub clashes: u64,
}

/// Puts the greatest version of these keys where it is not.
pub(crate) async fn keys(
    seats: &[Seat],
    table: &Table,
    keys: &[&Key],
) -> Result<Healed, MeshError> {
    let mut healed = Healed::default();
    if keys.is_empty() {
        return Ok(healed);
    }
    let marked = try_join_all(seats.iter().map(Marked::open)).await?;
    truncates(seats, &marked, table).await?;
    for keys in keys.chunks(CHUNK) {
        let one = chunk(seats, &marked, table, keys).await?;
        healed.keys += one.keys;
        healed.same += one.same;
        healed.rows += one.rows;
        healed.deletions += one.deletions;
        healed.clashes += one.clashes;
    }
    for (seat, target) in seats.iter().zip(&marked) {
        let kept = |mended: &&Table| {
            !mended.parts.is_empty()
                && (mended.name == table.name || names::parts(&mended.name) == table.name)
        };
        for mended in seat.tables.iter().filter(kept) {
            target.transaction(&[(&mend_all(mended), &[])]).await?;
        }
    }
    Ok(healed)
}

/// Brings the last TRUNCATE of a table to every member, where that is all there is to do.
pub(crate) async fn truncate_only(seats: &[Seat], table: &Table) -> Result<(), MeshError> {
    let commands = Commands::of(table);
    let asking = seats.iter().map(|seat| versions::truncated(seat, &commands));
    let known: Vec<Option<Stamp>> = try_join_all(asking).await?;
    if known.windows(2).all(|pair| pair.first() == pair.last()) {
        return Ok(());
    }
    let marked = try_join_all(seats.iter().map(Marked::open)).await?;
    truncates(seats, &marked, table).await
}

/// Brings the last TRUNCATE of a table to every member.
async fn truncates(seats: &[Seat], marked: &[Marked], table: &Table) -> Result<(), MeshError> {
    let commands = Commands::of(table);
    let asking = seats.iter().map(|seat| versions::truncated(seat, &commands));
    let known: Vec<Option<Stamp>> = try_join_all(asking).await?;
    let Some(greatest) = known.iter().flatten().max().copied() else { return Ok(()) };
    for (target, known) in marked.iter().zip(&known) {
        if *known < Some(greatest) {
            target.truncated(&commands, greatest).await?;
        }
    }
    Ok(())
}

async fn chunk(
    seats: &[Seat],
    marked: &[Marked],
    table: &Table,
    keys: &[&Key],
) -> Result<Healed, MeshError> {
    let reading = seats.iter().map(|seat| versions::read(seat, table, keys));
    let members: Vec<Vec<Copies>> = try_join_all(reading).await?;
    let mut healed = Healed::default();
    let ids: Vec<_> = seats.iter().map(Seat::id).collect();
    let mut choices: Vec<Option<Choice>> = Vec::with_capacity(keys.len());
    for at in 0..keys.len() {
        let copies: Vec<&Copies> = members.iter().filter_map(|copies| copies.get(at)).collect();
        choices.push(choose(&ids, &copies));
    }
    let mut clashed = BTreeSet::new();
    for (place, target) in marked.iter().enumerate() {
        let mut work = Work::default();
        for (at, (key, choice)) in keys.iter().zip(&choices).enumerate() {
            if let Some(choice) = choice
                && choice.targets.contains(&place)
            {
                work.add(at, key, choice, &members);
            }
        }
        let done = target.apply(table, &work).await?;
        healed.rows += done.rows;
        healed.deletions += done.deletions;
        clashed.extend(done.clashed);
    }
    healed.clashes = u64::try_from(clashed.len()).unwrap_or(u64::MAX);
    let right = choices.iter().flatten().count().saturating_sub(clashed.len());
    healed.keys = u64::try_from(right).unwrap_or(0);
    healed.same =
        u64::try_from(choices.iter().filter(|choice| choice.is_none()).count()).unwrap_or(0);
    Ok(healed)
}

/// What one member is given.
#[derive(Debug, Default)]
pub(crate) struct Work {
    rows: Vec<NewRow>,
    tombstones: Vec<NewTombstone>,
}

/// A row to put in.
#[derive(Debug)]
struct NewRow {
    /// The place of its key among those of the chunk.
    at: usize,
    key: Key,
    values: Vec<Option<String>>,
    stamp: Stamp,
}

/// Rows to put in as parameters: an array for each column, times, nodes.
struct NewRows<'a> {
    columns: Vec<Vec<Option<&'a str>>>,
    micros: Vec<i64>,
    nodes: Vec<i16>,
}

impl<'a> NewRows<'a> {
    fn of(table: &Table, rows: &[&'a NewRow]) -> Self {
        let column = |at: usize| {
            rows.iter().map(|row| row.values.get(at).and_then(Option::as_deref)).collect()
        };
        Self {
            columns: (0..table.written().count()).map(column).collect(),
            micros: rows.iter().map(|row| row.stamp.micros).collect(),
            nodes: rows.iter().map(|row| row.stamp.node.0).collect(),
        }
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let columns = self.columns.iter().map(|column| column as &(dyn ToSql + Sync));
        columns.chain([&self.micros as &(dyn ToSql + Sync), &self.nodes]).collect()
    }
}

/// A tombstone to put in.
#[derive(Debug)]
struct NewTombstone {
    key: Key,
    stamp: Stamp,
    seen: Stamp,
}

impl Work {
    fn add(&mut self, at: usize, key: &Key, choice: &Choice, members: &[Vec<Copies>]) {
        match choice.row {
            Some(holder) => {
                let copies = members.get(holder).and_then(|copies| copies.get(at));
                if let Some(row) = copies.and_then(|copies| copies.row.as_ref()) {
                    self.rows.push(NewRow {
                        at,
                        key: key.clone(),
                        values: row.values.clone(),
                        stamp: choice.stamp,
                    });
                }
            }
            None => self.tombstones.push(NewTombstone {
                key: key.clone(),
                stamp: choice.stamp,
                seen: choice.seen,
            }),
        }
    }
}

/// What a member took.
#[derive(Debug, Default)]
struct Done {
    rows: u64,
    deletions: u64,
    /// Places of the keys whose row could not be put in.
    clashed: BTreeSet<usize>,
}

impl Marked {
    /// Gives a member what it lacks, in one transaction, and makes sure afterwards that nothing crossed it.
    async fn apply(&self, table: &Table, work: &Work) -> Result<Done, MeshError> {
        let mut done = Done::default();
        if work.rows.is_empty() && work.tombstones.is_empty() {
            return Ok(done);
        }
        let commands = Commands::of(table);
        let newest = work.rows.iter().map(|row| row.stamp);
        let newest = newest.chain(work.tombstones.iter().map(|gone| gone.stamp)).max();
        self.wait_for_clock(newest).await?;
        done.deletions = self.tombstones(&commands, table, &work.tombstones).await?;
        // One transaction has one version where that is what tells it.
        let mut versions: BTreeMap<Option<Stamp>, Vec<&NewRow>> = BTreeMap::new();
        for row in &work.rows {
            versions.entry(table.untouched.then_some(row.stamp)).or_default().push(row);
        }
        for (version, rows) in versions {
            if version.is_some() {
                self.write_as(version).await?;
            }
            self.all_rows(&commands, table, rows, &mut done).await?;
        }
        if table.untouched {
            self.write_as(None).await?;
        }
        // What was applied at the same time by another session saw nothing of ours, and we nothing of it.
        self.others_over().await?;
        let keys = work.rows.iter().map(|row| &row.key);
        let keys: Vec<&Key> = keys.chain(work.tombstones.iter().map(|gone| &gone.key)).collect();
        let columns = transposed(&keys, table.key.len());
        let parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
        self.transaction(&[(&commands.sweep, &parameters)]).await?;
        Ok(done)
    }

    /// Rows in one transaction, or, where one of them claims another's unique value, each in its own.
    async fn all_rows(
        &self,
        commands: &Commands,
        table: &Table,
        rows: Vec<&NewRow>,
        done: &mut Done,
    ) -> Result<(), MeshError> {
        match self.rows(commands, table, &rows).await {
            Ok(count) => done.rows += count,
            Err(error) if is_clash(&error) => {
                self.roll_back().await?;
                for row in rows {
                    match self.rows(commands, table, &[row]).await {
                        Ok(count) => done.rows += count,
                        Err(error) if is_clash(&error) => {
                            self.roll_back().await?;
                            done.clashed.insert(row.at);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn tombstones(
        &self,
        commands: &Commands,
        table: &Table,
        tombstones: &[NewTombstone],
    ) -> Result<u64, MeshError> {
        if tombstones.is_empty() {
            return Ok(0);
        }
        let keys: Vec<&Key> = tombstones.iter().map(|gone| &gone.key).collect();
        let columns = transposed(&keys, table.key.len());
        let micros: Vec<i64> = tombstones.iter().map(|gone| gone.stamp.micros).collect();
        let nodes: Vec<i16> = tombstones.iter().map(|gone| gone.stamp.node.0).collect();
        let seen: Vec<i64> = tombstones.iter().map(|gone| gone.seen.micros).collect();
        let seen_nodes: Vec<i16> = tombstones.iter().map(|gone| gone.seen.node.0).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
        let key_only = parameters.len();
        parameters.extend([&micros as &(dyn ToSql + Sync), &nodes, &seen, &seen_nodes]);
        let key = parameters.get(..key_only).unwrap_or_default();
        self.transaction(&[(&commands.tombstones, &parameters), (&commands.sweep, key)]).await
    }

    async fn rows(
        &self,
        commands: &Commands,
        table: &Table,
        rows: &[&NewRow],
    ) -> Result<u64, MeshError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let rows = NewRows::of(table, rows);
        let parameters = rows.params();
        let before = commands.before_rows.iter().map(|sql| (sql.as_str(), parameters.as_slice()));
        let all: Vec<Command<'_>> =
            before.chain([(commands.rows.as_str(), parameters.as_slice())]).collect();
        self.transaction(&all).await
    }
}

/// Whether a row could not be put in because of another row's value of a unique constraint.
pub(crate) fn is_clash(error: &MeshError) -> bool {
    matches!(error, MeshError::Sql { source, .. }
        if source.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION))
}
