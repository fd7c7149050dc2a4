//! Reads over one, two and three readers.

use herdsman::ReplicaSet;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;

use crate::client::{Block, CONNECTIONS, Client, Workload};
use crate::error::BenchError;
use crate::figures::{Middle, change, spread, table};
use crate::overhead::Plan;
use crate::{note, servers};

/// Every round of every client.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    clients: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    client: &'static str,
    rounds: Vec<Block>,
    /// How the statements were shared among the readers, in per cent.
    shares: Vec<f64>,
}

const TASKS: usize = 32;
const NAMES: [&str; 3] = ["set, 1 reader", "set, 2 readers", "set, 3 readers"];

pub(crate) async fn run(plan: &Plan) -> Result<Report, BenchError> {
    let sandbox = servers::start(NAMES.len(), plan.pg_version).await?;
    let nodes = sandbox.node_names();
    let strings: Vec<String> =
        nodes.iter().map(|node| servers::conninfo(&sandbox, node)).collect::<Result<_, _>>()?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
    let reader = nodes.get(1).map_or("n2", String::as_str);
    let pool = pool.connect_lazy_with(servers::options(&sandbox, reader)?);
    let mut clients = vec![(Client::pool("pool, untested", pool), None)];
    for (readers, name) in (1..).zip(NAMES) {
        let mut builder = ReplicaSet::builder().max_connections(CONNECTIONS);
        for (index, conninfo) in strings.iter().take(readers + 1).enumerate() {
            builder = if index == 0 { builder.writer(conninfo) } else { builder.reader(conninfo) };
        }
        let set = builder.build()?;
        clients.push((Client::set(name, set.clone()), Some(set)));
    }
    let mut rounds = vec![Vec::new(); clients.len()];
    for round in 0..plan.rounds {
        note(&format!("readers: round {} of {}", round + 1, plan.rounds));
        let mut order: Vec<_> = clients.iter().zip(&mut rounds).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for ((client, _), blocks) in order {
            blocks.push(client.measure(Workload::Point, TASKS, plan.span).await?);
        }
    }
    let clients = clients.iter().zip(rounds).map(|((client, set), rounds)| Measured {
        client: client.name,
        rounds,
        shares: set.as_ref().map(shares).unwrap_or_default(),
    });
    Ok(Report { clients: clients.collect() })
}

fn shares(set: &ReplicaSet) -> Vec<f64> {
    let counts: Vec<u64> = set.statistics().nodes.values().map(|node| node.query_count).collect();
    let all: u64 = counts.iter().sum();
    // The writer was sent nothing.
    let readers = counts.into_iter().filter(|count| *count > 0);
    readers.map(|count| 100.0 * count as f64 / all as f64).collect()
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let one = self.clients.get(1).map_or(&[][..], |one| &one.rounds);
        let title = format!(
            "Readers: point selects by {TASKS} tasks, {CONNECTIONS} connections to each reader, all on this machine"
        );
        table(
            &title,
            &["CLIENT", "QUERIES/S", "CPU us/QUERY", "CPU BESIDE 1 READER", "SHARES %"],
            self.clients.iter().map(|measured| {
                let middle = |value: fn(&Block) -> f64| {
                    spread(Middle::of(measured.rounds.iter().map(value)))
                };
                let pairs = measured.rounds.iter().zip(one);
                let ratio = Middle::of(pairs.map(|(this, one)| this.cpu / one.cpu));
                let shares: Vec<String> =
                    measured.shares.iter().map(|share| format!("{share:.0}")).collect();
                vec![
                    measured.client.to_owned(),
                    middle(|b| b.per_second),
                    middle(|b| b.cpu),
                    change(ratio),
                    shares.join(" "),
                ]
            }),
        )
    }
}
