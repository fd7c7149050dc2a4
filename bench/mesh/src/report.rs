//! The figures, side by side.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::add::Added;
use crate::error::BenchError;
use crate::loads::{Carried, Latency, Load, Written};
use crate::pair::Carrier;

/// All samples, by what was done and by whom, in the order of the rounds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(serialize_with = "named")]
    pub(crate) carried: BTreeMap<(Load, Carrier), Vec<Carried>>,
    pub(crate) latency: BTreeMap<Carrier, Vec<Latency>>,
    /// A writer's statements: inserts, updates.
    pub(crate) writers: BTreeMap<Carrier, [Vec<Written>; 2]>,
    pub(crate) added: Vec<Added>,
}

fn named<S: serde::Serializer>(
    carried: &BTreeMap<(Load, Carrier), Vec<Carried>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        carried
            .iter()
            .map(|((load, carrier), runs)| (format!("{}: {}", load.name(), carrier.name()), runs)),
    )
}

/// The middle one, and the extremes.
fn middle(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    format!("{:.digits$} ({:.digits$}..{:.digits$})", at(last / 2), at(0), at(last))
}

impl Report {
    pub(crate) fn json(&self) -> Result<(), BenchError> {
        Ok(writeln!(stdout(), "{}", serde_json::to_string(self)?)?)
    }

    pub(crate) fn print(&self) -> Result<(), BenchError> {
        let mut table = plain(&[
            "LOAD",
            "BY",
            "ROWS PER SECOND",
            "APPLIES us/ROW",
            "SENDS us/ROW",
            "PROGRAM us/ROW",
            "ALL us/ROW",
        ]);
        for ((load, carrier), runs) in &self.carried {
            let of = |value: fn(&Carried) -> f64| runs.iter().map(value).collect::<Vec<_>>();
            table.add_row(vec![
                load.name().to_owned(),
                carrier.name().to_owned(),
                middle(of(|run| run.rows_per_second), 0),
                middle(of(|run| run.worker_us), 2),
                middle(of(|run| run.sender_us), 2),
                middle(of(|run| run.own_us), 2),
                middle(of(|run| run.all_us), 2),
            ]);
        }
        let beside = self.beside("BESIDE NATIVE, x", Carrier::Native);
        let lanes = self.beside("BESIDE ONE LANE, x", Carrier::OneLane);
        let mut out = stdout();
        for table in [table, beside, lanes, self.others(), self.joins()] {
            if table.row_iter().next().is_some() {
                writeln!(out, "{table}\n")?;
            }
        }
        Ok(())
    }

    /// The mesh beside another, each with what was measured in the same round.
    fn beside(&self, title: &str, other: Carrier) -> Table {
        let mut beside = plain(&[title, "ROWS PER SECOND", "CPU TO APPLY", "ALL CPU"]);
        for load in Load::ALL {
            let runs = |carrier| self.carried.get(&(load, carrier)).map_or(&[][..], Vec::as_slice);
            let pairs = || runs(Carrier::Herdsman).iter().zip(runs(other));
            if pairs().next().is_none() {
                continue;
            }
            let of = |ratio: fn(&Carried, &Carried) -> f64| {
                pairs().map(|(ours, theirs)| ratio(ours, theirs)).collect::<Vec<_>>()
            };
            let applies = |of: &Carried| of.worker_us + of.own_us;
            beside.add_row(vec![
                load.name().to_owned(),
                middle(of(|ours, theirs| ours.rows_per_second / theirs.rows_per_second), 2),
                middle(pairs().map(|(ours, theirs)| applies(ours) / applies(theirs)).collect(), 2),
                middle(of(|ours, theirs| ours.all_us / theirs.all_us), 2),
            ]);
        }
        beside
    }

    /// What is measured of commits and writers.
    fn others(&self) -> Table {
        let mut others = plain(&[
            "BY",
            "COMMIT TO SEEN p50 ms",
            "p99 ms",
            "AN INSERT us",
            "AN UPDATE us",
            "INSERTS PER SECOND",
            "UPDATES PER SECOND",
        ]);
        for carrier in Carrier::ALL {
            let latency = self.latency.get(&carrier).map_or(&[][..], Vec::as_slice);
            let none = [Vec::new(), Vec::new()];
            let [inserts, updates] = self.writers.get(&carrier).unwrap_or(&none);
            if latency.is_empty() && inserts.is_empty() {
                continue;
            }
            let us = |of: &[Written]| middle(of.iter().map(|one| one.us).collect(), 1);
            let rate = |of: &[Written]| middle(of.iter().map(|one| one.per_second).collect(), 0);
            others.add_row(vec![
                carrier.name().to_owned(),
                middle(latency.iter().map(|latency| latency.p50).collect(), 2),
                middle(latency.iter().map(|latency| latency.p99).collect(), 2),
                us(inserts),
                us(updates),
                rate(inserts),
                rate(updates),
            ]);
        }
        others
    }

    /// How nodes were added.
    fn joins(&self) -> Table {
        let mut joins = plain(&[
            "A NODE IS ADDED, MB/s",
            "ITS COPY, MB/s",
            "pg_dump | psql, MB/s",
            "BESIDE IT, x",
        ]);
        if !self.added.is_empty() {
            let of = |value: fn(&Added) -> Option<f64>, digits| {
                let values: Vec<f64> = self.added.iter().filter_map(value).collect();
                if values.is_empty() { "-".to_owned() } else { middle(values, digits) }
            };
            joins.add_row(vec![
                of(|added| Some(added.joined), 1),
                of(|added| Some(added.copied), 1),
                of(|added| added.dumped, 1),
                of(|added| added.dumped.map(|dumped| added.joined / dumped), 2),
            ]);
        }
        joins
    }
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    table
}
