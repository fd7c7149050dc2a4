//! Running hooks: each a task that does one thing at a time.

mod keeping;
mod plan;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use herdsman_watch::Topology;
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) use keeping::{Keeper, What, keep};
pub(crate) use telling::{How, Sources, Teller, tell};

/// How long after the start nobody is missed: the watcher has to hear from the nodes first.
const SETTLING: Duration = Duration::from_secs(10);

/// Waits until it is known who is the primary, or long enough that there is none. Else every start would be told as an
/// outage, and close doors for a moment.
async fn settled(topology: &mut watch::Receiver<Arc<Topology>>) {
    let known = topology.wait_for(|topology| is_known(topology));
    let _nobody_by_then = timeout(SETTLING, known).await;
}

/// The topology, where it says who is the primary: that there is one when a hook begins is no news.
pub(crate) fn known(topology: &watch::Receiver<Arc<Topology>>) -> Option<Arc<Topology>> {
    Some(Arc::clone(&topology.borrow())).filter(|topology| is_known(topology))
}

fn is_known(topology: &Topology) -> bool {
    topology.primary().is_some() || topology.is_mesh()
}

/// A number that spreads what failed together.
fn jitter() -> f64 {
    fastrand::f64()
}

#[cfg(test)]
mod tests;
