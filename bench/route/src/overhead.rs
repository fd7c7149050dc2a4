//! What a `ReplicaSet` costs beside a bare pool on one and the same server.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman::ReplicaSet;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;

use crate::client::{Block, CONNECTIONS, Client, Workload};
use crate::error::BenchError;
use crate::figures::{Middle, change, median, spread, table};
use crate::{note, servers};

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// How long each client works at each workload in each round.
    pub(crate) span: Duration,
    pub(crate) pg_version: u32,
    /// The clients to measure; all if none is named.
    pub(crate) only: Vec<String>,
    /// A part of the names of the workloads to measure.
    pub(crate) workload: String,
}

/// Everything that was measured: for each workload, each client's rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    workloads: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    what: &'static str,
    clients: BTreeMap<&'static str, Vec<Block>>,
}

const BARE: &str = "connection";
const DEFAULT: &str = "pool, defaults";
const FAIR: &str = "pool, untested";
const WRITER: &str = "set, writer only";
const SET: &str = "set";

const WORKLOADS: [(&str, Workload, usize); 4] = [
    ("point select, 1 task", Workload::Point, 1),
    ("point select, 32 tasks", Workload::Point, 32),
    ("1,000 rows, 1 task", Workload::Rows, 1),
    ("insert, 1 task", Workload::Insert, 1),
];

/// At most this much more processor time per query than the fair peer.
const GOAL_CPU: f64 = 1.03;
/// At most this many microseconds more at the median.
const GOAL_P50: f64 = 2.0;

pub(crate) async fn run(plan: &Plan) -> Result<Report, BenchError> {
    let sandbox = servers::start(0, plan.pg_version).await?;
    let (options, conninfo) =
        (servers::options(&sandbox, "n1")?, servers::conninfo(&sandbox, "n1")?);
    let pool = || PgPoolOptions::new().max_connections(CONNECTIONS);
    let set = || ReplicaSet::builder().max_connections(CONNECTIONS).writer(&conninfo);
    let clients = [
        Client::bare(BARE, &options).await?,
        Client::pool(DEFAULT, pool().connect_lazy_with(options.clone())),
        Client::pool(FAIR, pool().test_before_acquire(false).connect_lazy_with(options.clone())),
        Client::set(WRITER, set().build()?),
        Client::set(SET, set().reader(&conninfo).build()?),
    ];
    let wanted_workloads = || WORKLOADS.iter().filter(|(what, ..)| what.contains(&plan.workload));
    let mut workloads: Vec<Measured> =
        wanted_workloads().map(|(what, ..)| Measured { what, clients: BTreeMap::new() }).collect();
    let wanted =
        |client: &&Client| plan.only.is_empty() || plan.only.iter().any(|name| name == client.name);
    for round in 0..plan.rounds {
        note(&format!("overhead: round {} of {}", round + 1, plan.rounds));
        for ((_, workload, tasks), measured) in wanted_workloads().zip(&mut workloads) {
            // There and back again: whoever comes first or last does so as often as all others.
            let mut order: Vec<&Client> = clients.iter().filter(wanted).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for client in order {
                let block = client.measure(*workload, *tasks, plan.span).await?;
                measured.clients.entry(client.name).or_default().push(block);
            }
        }
    }
    Ok(Report { workloads })
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let absolute = table(
            "Overhead: one server, five ways to it, medians of the rounds",
            &["WORKLOAD", "CLIENT", "CPU us/QUERY", "P50 us", "P99 us", "QUERIES/S"],
            self.workloads.iter().flat_map(|measured| {
                [BARE, DEFAULT, FAIR, WRITER, SET].map(|client| measured.absolute(client))
            }),
        );
        let relative = table(
            "A set beside each of the others, round by round: median (quartiles)",
            &[
                "WORKLOAD",
                "BESIDE",
                "CPU/QUERY",
                "CPU us MORE",
                "P50 us MORE",
                "P99 us MORE",
                "GOAL",
            ],
            self.workloads
                .iter()
                .flat_map(|measured| [BARE, DEFAULT, FAIR].map(|peer| measured.relative(peer))),
        );
        format!(
            "{absolute}\n\n{relative}\nGoal: beside the untested pool, CPU per query <= +3 % and p50 <= 2 us more"
        )
    }
}

impl Measured {
    fn blocks(&self, client: &str) -> &[Block] {
        self.clients.get(client).map_or(&[], Vec::as_slice)
    }

    fn absolute(&self, client: &'static str) -> Vec<String> {
        let middle =
            |value: fn(&Block) -> f64| median(Middle::of(self.blocks(client).iter().map(value)));
        let shown =
            [middle(|b| b.cpu), middle(|b| b.p50), middle(|b| b.p99), middle(|b| b.per_second)];
        [self.what.to_owned(), client.to_owned()].into_iter().chain(shown).collect()
    }

    /// What `compare` makes of each round's blocks of the set and of `peer`.
    fn rounds(&self, peer: &str, compare: impl Fn(&Block, &Block) -> f64) -> Option<Middle> {
        let pairs = self.blocks(SET).iter().zip(self.blocks(peer));
        Middle::of(pairs.map(|(set, peer)| compare(set, peer)))
    }

    fn relative(&self, peer: &'static str) -> Vec<String> {
        let ratio = self.rounds(peer, |set, peer| set.cpu / peer.cpu);
        let p50 = self.rounds(peer, |set, peer| set.p50 - peer.p50);
        let met = match (ratio, p50) {
            (Some(ratio), Some(p50)) if peer == FAIR => {
                let met = ratio.median <= GOAL_CPU && p50.median <= GOAL_P50;
                if met { "met" } else { "missed" }
            }
            _ => "-",
        };
        vec![
            self.what.to_owned(),
            peer.to_owned(),
            change(ratio),
            spread(self.rounds(peer, |set, peer| set.cpu - peer.cpu)),
            spread(p50),
            spread(self.rounds(peer, |set, peer| set.p99 - peer.p99)),
            met.to_owned(),
        ]
    }
}
