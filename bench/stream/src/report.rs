//! The figures, side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Write as _, stdout};
use std::time::Duration;

use comfy_table::Table;
use serde::Serialize;

use crate::clients::Found;
use crate::error::BenchError;
use crate::latency::{COUNTED, Latency};
use crate::servers::Load;

/// One reader, once.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Run {
    /// Microseconds of processor time a row, of the reader.
    client_us: f64,
    /// The same, of the server.
    server_us: f64,
    rows_per_second: f64,
    first_row_seconds: f64,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "far fewer rows than 2^52")]
    pub(crate) fn new(found: Found, client: Duration, server: Duration) -> Self {
        let rows = found.rows as f64;
        Self {
            client_us: client.as_secs_f64() * 1e6 / rows,
            server_us: server.as_secs_f64() * 1e6 / rows,
            rows_per_second: rows / found.total,
            first_row_seconds: found.first,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_us, server_us, rows_per_second, first_row_seconds } = self;
        write!(
            f,
            "{client_us:.2} µs client, {server_us:.2} µs server, {rows_per_second:.0} rows/s, first after {first_row_seconds:.2} s"
        )
    }
}

/// All runs.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rows: u64,
    rounds: u32,
    small: BTreeMap<String, Vec<Run>>,
    big: BTreeMap<String, Vec<Run>>,
    /// Seconds from the beginning of one large transaction to its first row.
    live: BTreeMap<String, Vec<f64>>,
    /// From a commit to what handles its row.
    latency: BTreeMap<String, Vec<Latency>>,
}

impl Report {
    pub(crate) fn new(rows: u64, rounds: u32) -> Self {
        Self {
            rows,
            rounds,
            small: BTreeMap::new(),
            big: BTreeMap::new(),
            live: BTreeMap::new(),
            latency: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, load: Load, name: &str, run: Run) {
        let runs = match load {
            Load::Small => &mut self.small,
            Load::Big => &mut self.big,
        };
        runs.entry(name.to_owned()).or_default().push(run);
    }

    pub(crate) fn add_live(&mut self, name: &str, seconds: f64) {
        self.live.entry(name.to_owned()).or_default().push(seconds);
    }

    pub(crate) fn add_latency(&mut self, name: &str, latency: Latency) {
        self.latency.entry(name.to_owned()).or_default().push(latency);
    }

    pub(crate) fn print(&self, json: bool) -> Result<(), BenchError> {
        let mut out = stdout();
        if json {
            writeln!(out, "{}", serde_json::to_string_pretty(self)?)?;
            return Ok(());
        }
        let loads = [("transactions of 100 rows", &self.small), ("one transaction", &self.big)];
        for (title, readers) in loads.into_iter().filter(|(_, readers)| !readers.is_empty()) {
            writeln!(out, "\n{} rows in {title}, medians of {} rounds", self.rows, self.rounds)?;
            writeln!(out, "{}", table(readers))?;
        }
        for (name, ratio) in beside_polling(&self.small) {
            writeln!(out, "ratio to polling, rows/s, {name}: {ratio:.1}")?;
        }
        if !self.live.is_empty() {
            self.print_live(&mut out)?;
        }
        if !self.latency.is_empty() {
            writeln!(
                out,
                "\nfrom just before COMMIT is sent, {COUNTED} transactions of one row in each of {} rounds, medians",
                self.rounds
            )?;
            writeln!(out, "{}", latencies(&self.latency))?;
        }
        Ok(())
    }

    fn print_live(&self, out: &mut impl std::io::Write) -> Result<(), BenchError> {
        writeln!(
            out,
            "\nfirst row after a transaction of {} rows began, the reader being there before",
            self.rows
        )?;
        let seconds =
            |name: &str| self.live.get(name).map_or(f64::NAN, |runs| middle(runs.clone()));
        let (whole, early) = (seconds("herdsman-v1"), seconds("herdsman-eager"));
        let ratio = early / whole;
        writeln!(
            out,
            "protocol 1, once it is committed: {whole:.3} s; while it runs: {early:.3} s; ratio {ratio:.2}"
        )?;
        Ok(())
    }
}

/// Rows a second beside those of polling, round by round: the median for each reader that goes through the engine.
fn beside_polling(readers: &BTreeMap<String, Vec<Run>>) -> Vec<(&str, f64)> {
    let Some(polling) = readers.get("polling") else { return Vec::new() };
    let services = readers.iter().filter(|(name, _)| name.starts_with("service-"));
    let ratio = |runs: &[Run]| {
        let pairs = runs.iter().zip(polling);
        middle(pairs.map(|(run, polling)| run.rows_per_second / polling.rows_per_second).collect())
    };
    services.map(|(name, runs)| (name.as_str(), ratio(runs))).collect()
}

fn latencies(ways: &BTreeMap<String, Vec<Latency>>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["until", "p50 µs", "p99 µs", "transactions/s"]);
    for (name, rounds) in ways {
        let median = |figure: fn(&Latency) -> f64| {
            format!("{:.0}", middle(rounds.iter().map(figure).collect()))
        };
        let rate = median(|latency| latency.per_second);
        let came = [median(|latency| latency.p50), median(|latency| latency.p99)];
        let answered =
            [median(|latency| latency.answered_p50), median(|latency| latency.answered_p99)];
        for (what, [p50, p99]) in [
            (format!("the {name} has the row"), came),
            ("  COMMIT is answered".to_owned(), answered),
        ] {
            table.add_row([what, p50, p99, rate.clone()]);
        }
    }
    table
}

fn table(readers: &BTreeMap<String, Vec<Run>>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "reader",
        "client µs/row",
        "× pg_recvlogical",
        "server µs/row",
        "rows/s",
        "first row s",
    ]);
    let ceiling = readers.get("pg_recvlogical").map(|runs| median(runs, |run| run.client_us));
    for (name, runs) in readers {
        let client = median(runs, |run| run.client_us);
        table.add_row([
            name.clone(),
            format!("{client:.2}"),
            ceiling.map_or_else(|| "-".to_owned(), |ceiling| format!("{:.2}", client / ceiling)),
            format!("{:.2}", median(runs, |run| run.server_us)),
            format!("{:.0}", median(runs, |run| run.rows_per_second)),
            format!("{:.2}", median(runs, |run| run.first_row_seconds)),
        ]);
    }
    table
}

fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    middle(runs.iter().map(figure).collect())
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
