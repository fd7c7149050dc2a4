//! From a fault to the changed verdict, as somebody who subscribed to the topology sees it.
//!
//! The watcher runs in this process, on its default settings, connected to the servers themselves.

use std::time::Duration;

use herdsman_node::{Conninfo, NodeName};
use herdsman_sandbox::Sandbox;
use herdsman_watch::{AvailabilityConfig, Setup, Topology, Watch, WatchConfig, Watcher};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::error::BenchError;
use crate::figures::{Series, table};
use crate::{note, servers};

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    series: Vec<Series>,
}

/// A cluster that is broken and healed over and over.
struct Herd {
    sandbox: Sandbox,
    watcher: Watcher,
    interval: Duration,
}

struct Measured {
    freeze: Series,
    kill_closed: Series,
    kill_call: Series,
    failover_writable: Series,
    failover_call: Series,
    beside_writable: Series,
    beside_call: Series,
}

/// Longer than any verdict takes; a round that takes longer counts as unseen.
const PATIENCE: Duration = Duration::from_secs(15);
/// A rejoin copies a whole node where a rewind does not do.
const HEAL_WITHIN: Duration = Duration::from_secs(90);

const HEADER: [&str; 7] = ["FROM .. TO THE VERDICT", "ROUNDS", "MIN", "MEDIAN", "MAX", "GOAL", ""];

/// Breaks a cluster of three `rounds` times in every way.
pub(crate) async fn run(rounds: u32, pg_version: u32) -> Result<Report, BenchError> {
    note("reaction: starting a primary and two standbys");
    let sandbox = Sandbox::builder().standbys(2).pg_version(pg_version).start().await?;
    let herd = Herd::watch(sandbox)?;
    let mut measured = Measured::new();
    herd.whole("n1").await?;
    for round in 1..=rounds {
        note(&format!("reaction: round {round} of {rounds}"));
        herd.freeze(&mut measured).await?;
        herd.kill_and_promote(&mut measured).await?;
        herd.promote_beside(&mut measured).await?;
    }
    herd.watcher.stop().await;
    Ok(Report { series: measured.into_series() })
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let title =
            "Reaction: milliseconds until a subscriber of the watcher has the changed verdict";
        table(title, &HEADER, self.series.iter().map(Series::row))
    }
}

impl Measured {
    fn new() -> Self {
        let watch = WatchConfig::default();
        let freeze = (watch.interval + watch.timeout).as_secs_f64() * 1000.0;
        Self {
            kill_closed: Series::new("kill -9: another connection seen closed", None),
            // Judged from the call: the watcher's connection cannot close before it, and when another one does says
            // little about when the watcher's did.
            kill_call: Series::new("kill -9: the call", Some(50.0)),
            freeze: Series::new("freeze (SIGSTOP): the call", Some(freeze)),
            failover_writable: Series::new("promote, old primary dead: seen writable", Some(100.0)),
            failover_call: Series::new("promote, old primary dead: the call", None),
            beside_writable: Series::new("promote, old primary alive: seen writable", Some(250.0)),
            beside_call: Series::new("promote, old primary alive: the call", None),
        }
    }

    fn into_series(self) -> Vec<Series> {
        vec![
            self.kill_closed,
            self.kill_call,
            self.freeze,
            self.failover_writable,
            self.failover_call,
            self.beside_writable,
            self.beside_call,
        ]
    }
}

impl Herd {
    fn watch(sandbox: Sandbox) -> Result<Self, BenchError> {
        let mut watch = WatchConfig::default();
        let mut nodes = std::collections::BTreeMap::new();
        for node in sandbox.node_names() {
            let name = NodeName::new(&node)?;
            let addresses = sandbox.replication_addresses(&node)?;
            watch.replication_addresses.insert(name.clone(), addresses);
            nodes.insert(name, Conninfo::from_pairs(servers::conninfo(&sandbox, &node)?)?);
        }
        let interval = watch.interval;
        let watcher =
            Watcher::start(Setup { nodes, watch, availability: AvailabilityConfig::default() })?;
        Ok(Self { sandbox, watcher, interval })
    }

    /// Freezes the primary, and thaws it when the verdict is there.
    async fn freeze(&self, measured: &mut Measured) -> Result<(), BenchError> {
        let primary = self.primary()?;
        let lost = self.when_lost(&primary);
        let called = Instant::now();
        self.sandbox.freeze(&primary).await?;
        measured.freeze.push(millis(called, seen(lost).await));
        self.sandbox.thaw(&primary).await?;
        self.whole(&primary).await
    }

    /// Kills the primary, then promotes a standby.
    async fn kill_and_promote(&self, measured: &mut Measured) -> Result<(), BenchError> {
        let (primary, successor, other) = self.roles()?;
        self.sandbox.wait_replayed().await?;
        let (client, driver) = servers::connect(&self.sandbox, &primary, "postgres").await?;
        let closed = tokio::spawn(async move {
            timeout(PATIENCE, driver).await.ok()?.ok()?;
            Some(Instant::now())
        });
        let lost = self.when_lost(&primary);
        let called = Instant::now();
        self.sandbox.kill(&primary).await?;
        let lost = seen(lost).await;
        measured.kill_call.push(millis(called, lost));
        measured.kill_closed.push(seen(closed).await.and_then(|closed| millis(closed, lost)));
        drop(client);

        let (writable, call) = self.promote(&successor).await?;
        measured.failover_writable.push(writable);
        measured.failover_call.push(call);
        self.follow_on(&primary, &successor, &other).await
    }

    /// Promotes a standby while the primary runs on.
    async fn promote_beside(&self, measured: &mut Measured) -> Result<(), BenchError> {
        let (primary, successor, other) = self.roles()?;
        self.sandbox.wait_replayed().await?;
        let (writable, call) = self.promote(&successor).await?;
        measured.beside_writable.push(writable);
        measured.beside_call.push(call);
        self.follow_on(&primary, &successor, &other).await
    }

    /// Promotes, and tells the milliseconds from the first writable moment, and from the call, to the verdict.
    async fn promote(&self, node: &str) -> Result<(Option<f64>, Option<f64>), BenchError> {
        let (client, _ends_with_the_client) =
            servers::connect(&self.sandbox, node, "template1").await?;
        let writable = tokio::spawn(first_writable(client));
        let name = node.to_owned();
        let named = self.when(move |t| t.primary().is_some_and(|n| n.as_str() == name));
        let called = Instant::now();
        self.sandbox.promote(node).await?;
        let (writable, named) = (seen(writable).await, seen(named).await);
        let from_writable = writable.and_then(|writable| millis(writable, named));
        Ok((from_writable, millis(called, named)))
    }

    /// Everybody behind the new primary.
    async fn follow_on(&self, old: &str, primary: &str, other: &str) -> Result<(), BenchError> {
        self.sandbox.follow(other, primary).await?;
        self.sandbox.rejoin(old).await?;
        // A standby that had got further than the promoted one cannot follow it.
        if timeout(PATIENCE, self.sandbox.wait_streaming(other)).await.is_err() {
            self.sandbox.rejoin(other).await?;
        }
        self.whole(primary).await
    }

    /// Waits until the verdict and all nodes agree on this primary, and then for a random part of the interval, so that
    /// rounds do not fall into step with probes.
    async fn whole(&self, primary: &str) -> Result<(), BenchError> {
        let name = primary.to_owned();
        let healed = move |t: &Topology| {
            t.primary().is_some_and(|n| n.as_str() == name)
                && t.nodes.iter().filter(|(n, _)| n.as_str() != name).all(|(_, view)| {
                    view.follows.as_ref().is_some_and(|n| n.as_str() == name) && !view.fenced
                })
        };
        let watch = self.watcher.watch();
        if timeout(HEAL_WITHIN, until(&watch, healed)).await.is_err() {
            let last = watch.topology().verdict.to_string();
            let what = format!("a whole cluster behind {primary}");
            return Err(servers::not_seen(what, HEAL_WITHIN, last));
        }
        sleep(self.interval.mul_f64(2.0 + fastrand::f64())).await;
        Ok(())
    }

    /// The primary, the standby to promote, and the other one.
    fn roles(&self) -> Result<(String, String, String), BenchError> {
        let primary = self.primary()?;
        let mut others = self.sandbox.node_names();
        others.retain(|node| *node != primary);
        fastrand::shuffle(&mut others);
        match (others.pop(), others.pop()) {
            (Some(successor), Some(other)) => Ok((primary, successor, other)),
            _ => Err(servers::not_seen("two standbys", Duration::ZERO, "fewer")),
        }
    }

    fn primary(&self) -> Result<String, BenchError> {
        let topology = self.watcher.watch().topology();
        topology.primary().map(ToString::to_string).ok_or_else(|| {
            servers::not_seen("a primary", Duration::ZERO, topology.verdict.to_string())
        })
    }

    fn when_lost(&self, primary: &str) -> JoinHandle<Option<Instant>> {
        let primary = primary.to_owned();
        self.when(move |t| t.primary().is_none_or(|n| n.as_str() != primary))
    }

    /// The moment a topology first looks like this.
    fn when(
        &self,
        looks: impl Fn(&Topology) -> bool + Send + 'static,
    ) -> JoinHandle<Option<Instant>> {
        let watch = self.watcher.watch();
        tokio::spawn(async move {
            timeout(PATIENCE, until(&watch, looks)).await.ok()?;
            Some(Instant::now())
        })
    }
}

async fn until(watch: &Watch, looks: impl Fn(&Topology) -> bool) {
    let mut changes = watch.subscribe();
    while !looks(&changes.borrow_and_update()) {
        if changes.changed().await.is_err() {
            // The watcher has ended: this will never be seen, which the caller's patience finds out.
            return std::future::pending().await;
        }
    }
}

/// Asks a server over and over whether it has left recovery.
async fn first_writable(client: tokio_postgres::Client) -> Option<Instant> {
    const PAUSE: Duration = Duration::from_millis(1);
    let asking = async {
        loop {
            let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.ok()?;
            if !row.try_get::<_, bool>(0).ok()? {
                return Some(Instant::now());
            }
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, asking).await.ok().flatten()
}

async fn seen(when: JoinHandle<Option<Instant>>) -> Option<Instant> {
    when.await.ok().flatten()
}

/// From one moment to another; below zero where the other was first.
fn millis(from: Instant, to: Option<Instant>) -> Option<f64> {
    let to = to?;
    let (after, before) = (to.saturating_duration_since(from), from.saturating_duration_since(to));
    Some((after.as_secs_f64() - before.as_secs_f64()) * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_was_there_first_counts_below_zero() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        assert_eq!(millis(now, Some(later)), Some(5.0));
        assert_eq!(millis(later, Some(now)), Some(-5.0));
        assert_eq!(millis(now, None), None);
    }
}
