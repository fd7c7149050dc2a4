//! The figures, side by side.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::error::BenchError;
use crate::pgbench::Outcome;

/// One load through one proxy, once.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    /// Microseconds of the proxy's processor time for each transaction, which are seconds for a million of them.
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Memory of a proxy, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) clients: usize,
    pub(crate) empty: u64,
    pub(crate) idle: u64,
    pub(crate) asked: u64,
}

/// System calls for one transaction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Calls {
    pub(crate) all: f64,
    pub(crate) each: BTreeMap<String, f64>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Without it the figures mean nothing.
    pub(crate) machine: Machine,
    /// Who is compared with the others.
    pub(crate) ours: String,
    /// The first is past every proxy, for what a proxy adds.
    pub(crate) contestants: Vec<String>,
    pub(crate) workloads: Vec<String>,
    /// Workload, contestant, rounds.
    pub(crate) samples: BTreeMap<String, BTreeMap<String, Vec<Option<Sample>>>>,
    pub(crate) memory: BTreeMap<String, Vec<Memory>>,
    /// Workload, contestant.
    pub(crate) calls: BTreeMap<String, BTreeMap<String, Calls>>,
    /// What a peer could not do.
    pub(crate) failures: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    /// As `/proc/loadavg` had it at the start.
    pub(crate) load_before: String,
    pub(crate) pg_version: u32,
    /// Whether clients come with TLS.
    pub(crate) tls: bool,
    /// As each says its version.
    pub(crate) peers: Vec<String>,
}

/// Past every proxy.
pub(crate) const DIRECT: &str = "direct";
/// Through one that does nothing.
pub(crate) const FLOOR: &str = "floor";

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 microseconds")]
    pub(crate) fn of(outcome: Outcome) -> Self {
        let mut latencies = outcome.latencies;
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
            latencies.get(rank).map_or(f64::NAN, |&took| took as f64)
        };
        Self {
            per_second: outcome.transactions / outcome.seconds,
            cpu_us: outcome.cpu.as_secs_f64() * 1e6 / outcome.transactions,
            p50_us: percentile(50),
            p99_us: percentile(99),
        }
    }
}

impl Calls {
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 calls")]
    pub(crate) fn of(counted: &BTreeMap<String, u64>, transactions: f64) -> Self {
        let each = counted.iter().map(|(name, &calls)| (name.clone(), calls as f64 / transactions));
        let each: BTreeMap<_, _> = each.collect();
        Self { all: each.values().sum(), each }
    }

    /// Those that matter, the most frequent first.
    fn named(&self) -> String {
        let mut each: Vec<_> = self.each.iter().filter(|(_, calls)| **calls >= 0.05).collect();
        each.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let named = each.into_iter().map(|(name, calls)| format!("{name} {}", decimal(*calls)));
        named.collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    /// `sample` is none where a contestant cannot do it.
    pub(crate) fn add(&mut self, workload: &str, contestant: &str, sample: Option<Sample>) {
        let of_workload = self.samples.entry(workload.to_owned()).or_default();
        of_workload.entry(contestant.to_owned()).or_default().push(sample);
    }

    pub(crate) fn print(&self, json: bool) -> Result<(), BenchError> {
        let text = if json { serde_json::to_string_pretty(self)? } else { self.tables() };
        writeln!(stdout(), "{text}").map_err(BenchError::system("print the figures"))
    }

    fn tables(&self) -> String {
        let Machine { cores, load_before, pg_version, tls, peers } = &self.machine;
        let (peers, tls) = (peers.join(", "), if *tls { ", clients with TLS" } else { "" });
        let mut text = format!(
            "PostgreSQL {pg_version}, {peers}, {cores} cores{tls}, load before: {load_before}\n\n"
        );
        if !self.samples.is_empty() {
            text.push_str(&self.figures());
            text.push_str("\n\n");
            text.push_str(&self.ratios());
            text.push_str("\n\n");
        }
        if !self.memory.is_empty() {
            text.push_str(&self.memories());
            text.push_str("\n\n");
        }
        if !self.calls.is_empty() {
            text.push_str(&self.system_calls());
            text.push_str("\n\n");
        }
        for failure in &self.failures {
            text.push_str(failure);
            text.push('\n');
        }
        text.trim_end().to_owned()
    }

    fn figures(&self) -> String {
        let mut rows = Vec::new();
        for workload in &self.workloads {
            for contestant in &self.contestants {
                let samples = self.of(workload, contestant);
                if samples.is_empty() {
                    continue;
                }
                let cell = |value: fn(&Sample) -> f64| spread(samples.iter().map(value).collect());
                let cpu = if contestant == DIRECT { "-".to_owned() } else { cell(|s| s.cpu_us) };
                rows.push(vec![
                    workload.clone(),
                    contestant.clone(),
                    cell(|s| s.per_second),
                    cpu,
                    cell(|s| s.p50_us),
                    cell(|s| s.p99_us),
                ]);
            }
        }
        let header = ["WORKLOAD", "THROUGH", "PER SECOND", "CPU s/MILLION", "P50 us", "P99 us"];
        let title = "Through each proxy: medians of the rounds (extremes)";
        table(title, &header, rows)
    }

    /// Ours beside the peer, and beside none, round by round.
    fn ratios(&self) -> String {
        let ours = &self.ours;
        let mut rows = Vec::new();
        for workload in &self.workloads {
            for contestant in self.contestants.iter().filter(|name| *name != ours) {
                let pairs = self.pairs(workload, ours, contestant);
                if pairs.is_empty() {
                    continue;
                }
                let cell = |of: fn(&Sample, &Sample) -> f64| {
                    spread(pairs.iter().map(|(ours, theirs)| of(ours, theirs)).collect())
                };
                let cpu = match contestant.as_str() {
                    DIRECT => "-".to_owned(),
                    _ => cell(|ours, theirs| ours.cpu_us / theirs.cpu_us),
                };
                rows.push(vec![
                    workload.clone(),
                    contestant.clone(),
                    cell(|ours, theirs| ours.per_second / theirs.per_second),
                    cpu,
                    cell(|ours, theirs| ours.p50_us - theirs.p50_us),
                    cell(|ours, theirs| ours.p99_us - theirs.p99_us),
                ]);
            }
        }
        let header =
            ["WORKLOAD", "BESIDE", "PER SECOND, x", "CPU, x", "P50 us MORE", "P99 us MORE"];
        table(
            "herdsman beside each of the others, round by round: median (extremes)",
            &header,
            rows,
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 bytes")]
    fn memories(&self) -> String {
        let mut rows = Vec::new();
        for (contestant, rounds) in &self.memory {
            let mib = |of: fn(&Memory) -> u64| {
                spread(rounds.iter().map(|round| of(round) as f64 / f64::from(1 << 20)).collect())
            };
            let each = |of: fn(&Memory) -> u64| {
                let kib = |round: &Memory| {
                    of(round).saturating_sub(round.empty) as f64 / 1024.0 / round.clients as f64
                };
                spread(rounds.iter().map(kib).collect())
            };
            rows.push(vec![
                contestant.clone(),
                mib(|round| round.empty),
                mib(|round| round.idle),
                mib(|round| round.asked),
                each(|round| round.idle),
                each(|round| round.asked),
            ]);
        }
        let clients = self.memory.values().flatten().next().map_or(0, |round| round.clients);
        let header =
            ["PROXY", "EMPTY MiB", "IDLE", "AFTER A QUERY", "KiB/IDLE CLIENT", "AFTER A QUERY"];
        let title =
            format!("Resident memory with {clients} clients, medians of the rounds (extremes)");
        table(&title, &header, rows)
    }

    fn system_calls(&self) -> String {
        let mut rows = Vec::new();
        for workload in &self.workloads {
            let Some(of_workload) = self.calls.get(workload) else { continue };
            for contestant in &self.contestants {
                let Some(calls) = of_workload.get(contestant) else { continue };
                let all = decimal(calls.all);
                rows.push(vec![workload.clone(), contestant.clone(), all, calls.named()]);
            }
        }
        let header = ["WORKLOAD", "THROUGH", "ALL", "EACH"];
        table("System calls of each proxy for one transaction, counted by strace", &header, rows)
    }

    fn of(&self, workload: &str, contestant: &str) -> Vec<Sample> {
        let rounds = self.samples.get(workload).and_then(|all| all.get(contestant));
        rounds.into_iter().flatten().copied().flatten().collect()
    }

    fn pairs(&self, workload: &str, ours: &str, theirs: &str) -> Vec<(Sample, Sample)> {
        let rounds = |name| self.samples.get(workload).and_then(|all| all.get(name));
        let (Some(ours), Some(theirs)) = (rounds(ours), rounds(theirs)) else { return Vec::new() };
        ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some(((*ours)?, (*theirs)?))).collect()
    }
}

/// A number with as many decimals as its size deserves.
fn decimal(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The median, and the extremes in brackets where they tell something.
fn spread(mut values: Vec<f64>) -> String {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return "-".to_owned() };
    let middle = |half: usize| values.get(half).copied().unwrap_or(f64::NAN);
    let median = f64::midpoint(middle((values.len() - 1) / 2), middle(values.len() / 2));
    if values.len() == 1 {
        return decimal(median);
    }
    format!("{} ({}..{})", decimal(median), decimal(min), decimal(max))
}

/// A titled table without borders.
fn table(title: &str, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{title}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seconds_for_a_million_are_microseconds_for_one() {
        let outcome = Outcome {
            transactions: 20_000.0,
            seconds: 2.0,
            cpu: Duration::from_millis(200),
            latencies: (1..=100).collect(),
        };
        let sample = Sample::of(outcome);
        assert_eq!((sample.per_second, sample.cpu_us), (10_000.0, 10.0));
        assert_eq!((sample.p50_us, sample.p99_us), (50.0, 99.0));
    }

    #[test]
    fn calls_are_said_for_one_transaction_without_the_rare_ones() {
        let counted = [("recvfrom", 200), ("sendto", 210), ("brk", 1)];
        let counted = counted.map(|(name, calls)| (name.to_owned(), calls));
        let calls = Calls::of(&BTreeMap::from(counted), 100.0);
        assert_eq!(calls.named(), "sendto 2.10, recvfrom 2.00");
        assert!((calls.all - 4.11).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_said_with_the_extremes() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), "2.00 (1.00..3.00)");
        assert_eq!(spread(vec![4.0, 1.0]), "2.50 (1.00..4.00)");
        assert_eq!(spread(vec![12.34]), "12.3");
        assert_eq!(spread(vec![f64::NAN]), "-");
    }
}
