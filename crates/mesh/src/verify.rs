//! Whether the members hold the same rows.
//!
//! Every table is summed up on all members at once, in parts by the hash of the key; parts that differ are read row by
//! row; keys that differ are looked at again until every link has passed what the logs held at the look before. What
//! differs then differs for good ([`compare`]). Writers go on, and nothing is locked.

pub mod compare;
mod orphans;
mod report;
pub(crate) mod scan;
pub(crate) mod session;
pub(crate) mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use herdsman_wal::Glob;
use herdsman_wal::snapshot::time_left;
use tokio::time::{Instant, sleep};

use self::compare::{Judgement, Key, Suspect, differing};
use self::scan::Pages;
use self::session::Seat;
use crate::error::MeshError;
use crate::heal;
use crate::setup::Setup;
use crate::status::LinkName;
use crate::table::Table;

pub use orphans::{Orphans, orphans};
pub use report::{KeyReport, Report, TableReport, Verdict};

/// How to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tables, as globs; all of the mesh where empty.
    pub tables: Vec<String>,
    /// How many differing keys of a table are listed. All are counted.
    pub listed: usize,
    /// How often keys that are being written are looked at again.
    pub rounds: u32,
    /// How long a round waits for changes on their way.
    pub patience: Duration,
    /// Whether what differs is put right.
    pub repair: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            listed: 100,
            // Each takes about a second, the pause between two signs of life; a key that is written more often than that
            // for longer than these is seldom.
            rounds: 12,
            patience: Duration::from_secs(30),
            repair: false,
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Progress {
    /// The table that is being looked at.
    pub table: String,
    /// Tables that are done.
    pub done: usize,
    /// Tables in all.
    pub tables: usize,
    /// How much of this table has been read, from 0 to 1.
    pub fraction: f64,
    /// How long this table will still take to read; `None` while it is too early to tell.
    pub left: Option<Duration>,
    /// Keys that are looked at again.
    pub suspects: usize,
}

/// Rows of one member that are compared with the others' at once; bounds the memory.
pub(crate) const MOST: u64 = 200_000;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

/// Compares the members, table after table, and calls `tell` while it does.
///
/// # Errors
/// A member cannot be reached or asked, or a table is not on all of them.
pub async fn run(
    setup: &Arc<Setup>,
    options: &Options,
    mut tell: impl FnMut(&Progress),
) -> Result<Report, MeshError> {
    let begun = Instant::now();
    let seats = session::active(setup).await?;
    same_encoding(&seats).await?;
    let tables = chosen(&seats, options)?;
    let mut reports = Vec::with_capacity(tables.len());
    let count = tables.len();
    for (done, table) in tables.into_iter().enumerate() {
        let mut progress = Progress {
            table: table.name.to_string(),
            done,
            tables: count,
            fraction: 0.0,
            left: None,
            suspects: 0,
        };
        tell(&progress);
        let looking = Looking { seats: &seats, table, options };
        reports.push(looking.run(&mut progress, &mut tell).await?);
    }
    Ok(Report {
        verdict: reports.iter().map(|report| report.verdict).max().unwrap_or(Verdict::Equal),
        members: seats.iter().map(|seat| seat.member.name.to_string()).collect(),
        tables: reports,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Bytes of a text are hashed, and they are the database's.
async fn same_encoding(seats: &[Seat]) -> Result<(), MeshError> {
    let what = "say how it encodes text";
    let asking = seats.iter().map(|seat| async move {
        let row = seat.session.row(what, "SELECT current_setting('server_encoding')", &[]).await?;
        Ok::<_, MeshError>((seat, seat.session.get::<String>(what, &row, 0)?))
    });
    let encodings = try_join_all(asking).await?;
    if let [(first, encoding), others @ ..] = encodings.as_slice()
        && let Some((seat, other)) = others.iter().find(|(_, other)| other != encoding)
    {
        return Err(MeshError::refused(
            format!(
                "node `{}` encodes text as {encoding}, node `{}` as {other}",
                first.member.name, seat.member.name
            ),
            "members need databases of one encoding",
        ));
    }
    Ok(())
}

/// The tables to look at, as the first member has them.
fn chosen<'a>(seats: &'a [Seat], options: &Options) -> Result<Vec<&'a Table>, MeshError> {
    let [first, others @ ..] = seats else {
        return Err(MeshError::refused("no member takes writes", "see `herdsman mesh status`"));
    };
    let globs = options.tables.iter().map(|text| Glob::new(text));
    let globs: Result<Vec<Glob>, _> = globs.collect();
    let globs = globs.map_err(|error| {
        MeshError::refused(error.to_string(), "name tables as `schema.table`, with `*` and `?`")
    })?;
    let wanted = |table: &&Table| {
        globs.is_empty()
            || globs.iter().any(|glob| glob.matches(&table.name.schema, &table.name.name))
    };
    let tables: Vec<&Table> = first.tables.iter().filter(wanted).collect();
    for table in &tables {
        if let Some(seat) = others.iter().find(|seat| seat.table(&table.name).is_none()) {
            return Err(MeshError::refused(
                format!(
                    "table {} is on node `{}` and not on node `{}`",
                    table.name, first.member.name, seat.member.name
                ),
                "run `herdsman mesh up`, which says what is missing",
            ));
        }
    }
    Ok(tables)
}

struct Looking<'a> {
    seats: &'a [Seat],
    table: &'a Table,
    options: &'a Options,
}

/// What came of the keys of some buckets.
#[derive(Default)]
struct Outcome {
    differing: BTreeMap<Key, Suspect>,
    open: usize,
    behind: Vec<LinkName>,
}

impl Looking<'_> {
    async fn run(
        &self,
        progress: &mut Progress,
        tell: &mut impl FnMut(&Progress),
    ) -> Result<TableReport, MeshError> {
        let begun = Instant::now();
        let pages = Pages::default();
        let (sums, bytes) = {
            let mut reading = std::pin::pin!(scan::sums(self.seats, self.table, &pages));
            loop {
                tokio::select! {
                    read = &mut reading => break read?,
                    () = sleep(TICK) => {
                        progress.fraction = pages.fraction();
                        progress.left = time_left(progress.fraction, begun.elapsed());
                        tell(progress);
                    }
                }
            }
        };
        progress.fraction = 1.0;
        progress.left = None;
        let names = || self.seats.iter().map(|seat| seat.member.name.to_string());
        let mut report = TableReport {
            table: self.table.name.to_string(),
            rows: names().zip(sums.iter().map(compare::Sums::rows)).collect(),
            bytes,
            ..TableReport::default()
        };
        for buckets in differing(&sums, MOST) {
            let outcome = self.settle(&buckets, progress, tell).await?;
            report.uncertain += u64::try_from(outcome.open).unwrap_or(u64::MAX);
            for link in outcome.behind {
                let link = format!("{} to {}", link.source, link.target);
                if !report.behind.contains(&link) {
                    report.behind.push(link);
                }
            }
            self.take(&mut report, outcome.differing).await?;
        }
        let evicted = try_join_all(self.seats.iter().map(|seat| self.evicted(seat))).await?;
        report.evicted = names().zip(evicted).filter(|(_, count)| *count > 0).collect();
        report.verdict = report.judge();
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Looks at the keys of some buckets until they are the same, or differ for good, or patience is at its end.
    async fn settle(
        &self,
        buckets: &[usize],
        progress: &mut Progress,
        tell: &mut impl FnMut(&Progress),
    ) -> Result<Outcome, MeshError> {
        let look = scan::suspects(self.seats, self.table, buckets).await?;
        let mut suspects: BTreeMap<Key, Suspect> =
            look.into_iter().map(|(key, held)| (key, Suspect::new(held))).collect();
        let mut outcome = Outcome::default();
        for _ in 0..self.options.rounds {
            progress.suspects = suspects.len();
            tell(progress);
            if suspects.is_empty() {
                break;
            }
            // A link that stood still for as long as patience goes is not waited for again. One more look all the same, for
            // what needs no link: rows of one version that are not the same.
            let stuck = !outcome.behind.is_empty();
            if !stuck {
                let positions = scan::positions(self.seats).await?;
                outcome.behind =
                    scan::passed(self.seats, &positions, self.options.patience).await?;
            }
            let passed = outcome.behind.is_empty();
            let keys: Vec<Key> = suspects.keys().cloned().collect();
            let looked =
                scan::look(self.seats, self.table, &keys.iter().collect::<Vec<_>>()).await?;
            for (key, held) in keys.into_iter().zip(looked) {
                let Some(mut suspect) = suspects.remove(&key) else { continue };
                match suspect.look(passed, held) {
                    Judgement::Same => {}
                    Judgement::Differs => drop(outcome.differing.insert(key, suspect)),
                    Judgement::Open => drop(suspects.insert(key, suspect)),
                }
            }
            if stuck {
                break;
            }
        }
        if suspects.is_empty() {
            outcome.behind.clear();
        }
        outcome.open = suspects.len();
        progress.suspects = 0;
        Ok(outcome)
    }

    /// Puts what differs into the report, repaired where that is asked for.
    async fn take(
        &self,
        report: &mut TableReport,
        differing: BTreeMap<Key, Suspect>,
    ) -> Result<(), MeshError> {
        if differing.is_empty() {
            return Ok(());
        }
        report.differing += u64::try_from(differing.len()).unwrap_or(u64::MAX);
        let keys: Vec<&Key> = differing.keys().collect();
        if self.options.repair {
            let healed = heal::keys(self.seats, self.table, &keys).await?;
            report.repaired += healed.keys + healed.same;
            report.clashes += healed.clashes;
        }
        for (key, suspect) in &differing {
            if report.keys.len() >= self.options.listed {
                break;
            }
            let names = self.seats.iter().map(|seat| seat.member.name.to_string());
            let held = names.zip(suspect.held.iter().copied()).collect();
            report.keys.push(KeyReport { key: key.clone(), held });
        }
        Ok(())
    }

    async fn evicted(&self, seat: &Seat) -> Result<u64, MeshError> {
        let what = "count evicted rows";
        let row = seat.session.row(what, &sql::Questions::of(self.table).evicted, &[]).await?;
        let count: i64 = seat.session.get(what, &row, 0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
