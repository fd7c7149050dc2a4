//! The figures, side by side.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::apply::Applied;
use crate::error::BenchError;
use crate::rivals::Who;
use crate::rounds::{Run, Trip};

/// All samples, in the order of the rounds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(serialize_with = "named")]
    pub(crate) commits: BTreeMap<(u32, Who), Vec<Run>>,
    pub(crate) round_trips: BTreeMap<Who, Vec<Trip>>,
    pub(crate) applied: Vec<Applied>,
}

/// More than a log round trip and a local commit: what a ledger may take.
const ALLOWED_MS: f64 = 2.0;

fn named<S: serde::Serializer>(
    commits: &BTreeMap<(u32, Who), Vec<Run>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        commits
            .iter()
            .map(|((clients, who), runs)| (format!("{clients} clients: {}", who.name()), runs)),
    )
}

/// The middle one, and the extremes.
fn middle(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let Some((first, last)) = values.first().zip(values.last()) else { return "-".to_owned() };
    let middle = values.get((values.len() - 1) / 2).copied().unwrap_or(f64::NAN);
    format!("{middle:.digits$} ({first:.digits$}..{last:.digits$})")
}

impl Report {
    pub(crate) fn json(&self) -> Result<(), BenchError> {
        Ok(writeln!(stdout(), "{}", serde_json::to_string(self)?)?)
    }

    pub(crate) fn print(&self) -> Result<(), BenchError> {
        let mut out = stdout();
        for table in [self.table(), self.latencies(), self.applied()] {
            if table.row_iter().next().is_some() {
                writeln!(out, "{table}\n")?;
            }
        }
        Ok(())
    }

    fn runs(&self, clients: u32, who: Who) -> &[Run] {
        self.commits.get(&(clients, who)).map_or(&[][..], Vec::as_slice)
    }

    fn table(&self) -> Table {
        let mut table = plain(&[
            "CLIENTS",
            "WHO",
            "TRANSACTIONS/S",
            "P50 ms",
            "P99 ms",
            "x OF ONE POSTGRESQL",
            "x OF remote_apply",
            "BUSIEST SERVER us",
            "x OF remote_apply",
            "PROGRAM us",
        ]);
        for ((clients, who), runs) in &self.commits {
            let of = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
            let beside = |other: Who, value: fn(&Run) -> f64| {
                let pairs = runs.iter().zip(self.runs(*clients, other));
                middle(pairs.map(|(own, other)| value(own) / value(other)).collect(), 2)
            };
            table.add_row(vec![
                clients.to_string(),
                who.name().to_owned(),
                middle(of(|run| run.per_second), 0),
                middle(of(|run| run.p50), 2),
                middle(of(|run| run.p99), 2),
                beside(Who::Bare, |run| run.per_second),
                beside(Who::RemoteApply, |run| run.per_second),
                middle(of(|run| run.busiest), 0),
                beside(Who::RemoteApply, |run| run.busiest),
                middle(of(|run| run.program), 0),
            ]);
        }
        table
    }

    /// A commit beside what it is made of.
    fn latencies(&self) -> Table {
        let mut table = plain(&[
            "ONE CLIENT, P50 ms",
            "COMMIT",
            "LOG ROUND TRIP",
            "LOCAL COMMIT",
            "BEYOND BOTH",
            "GOAL",
        ]);
        for (who, trips) in &self.round_trips {
            let rounds = || {
                let local = self.runs(1, Who::Bare).iter();
                self.runs(1, *who).iter().zip(trips).zip(local)
            };
            let beyond: Vec<f64> =
                rounds().map(|((run, trip), local)| run.p50 - trip.p50 - local.p50).collect();
            if beyond.is_empty() {
                continue;
            }
            let met = beyond.iter().all(|it| *it <= ALLOWED_MS);
            table.add_row(vec![
                who.name().to_owned(),
                middle(rounds().map(|((run, _), _)| run.p50).collect(), 2),
                middle(rounds().map(|((_, trip), _)| trip.p50).collect(), 2),
                middle(rounds().map(|(_, local)| local.p50).collect(), 2),
                middle(beyond, 2),
                format!("<= {ALLOWED_MS}: {}", if met { "met" } else { "missed" }),
            ]);
        }
        table
    }

    fn applied(&self) -> Table {
        let mut table = plain(&[
            "A NODE APPLIES, ENTRIES/S",
            "ONE PER TRANSACTION",
            "256 PER TRANSACTION",
            "RATIO",
        ]);
        for engine in ["PostgreSQL", "MariaDB", "SQLite"] {
            let own = || self.applied.iter().filter(|it| it.engine == engine);
            if own().next().is_none() {
                continue;
            }
            table.add_row(vec![
                engine.to_owned(),
                middle(own().map(|it| it.alone).collect(), 0),
                middle(own().map(|it| it.together).collect(), 0),
                middle(own().map(|it| it.together / it.alone).collect(), 1),
            ]);
        }
        table
    }
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    table
}
