//! From what a transaction needs to a server connection: choose, hold, queue, connect.

use std::sync::Arc;
use std::time::Duration;

use herdsman::policy::Want;
use herdsman::policy::balance::Load;
use herdsman_node::ConnectErrorKind;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Card, State};
use crate::config::Target;
use crate::herd::{Causal, Choice};
use crate::pool::{Lease, Pool, PoolError, PoolSet, Reported, Rules, TalkError};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::wire::Problem;
use crate::wire::error::code;

/// While a reader is waited for that has replayed what was written, it is looked again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Before the same node is tried again.
const BREATH: Duration = Duration::from_millis(20);

/// What a transaction needs.
#[derive(Debug)]
pub(crate) struct Need<'a> {
    pub(crate) want: Want,
    /// Another target than the database's, by a comment or a connection option.
    pub(crate) target: Option<&'a Target>,
    pub(crate) causal: &'a mut Causal,
    /// Connections that have these settings are preferred.
    pub(crate) settings: &'a Settings,
    /// Nodes that have failed it already.
    pub(crate) tried: &'a [usize],
    pub(crate) worker: usize,
    /// The pool it had last. Most have the same again, and need not look for it.
    pub(crate) last: Option<Arc<Pool>>,
}

/// A connection, if one can be had without waiting: a node is chosen and its pool has an idle connection.
///
/// # Errors
/// Where nothing can come of waiting either.
#[inline]
pub(crate) fn at_once(
    shared: &Shared,
    pools: &PoolSet,
    rules: &Rules,
    need: &mut Need<'_>,
) -> Result<Option<Lease>, Problem> {
    match choose(shared, pools, rules, need, need.tried) {
        Choice::Node { node, writer, epoch } => {
            let last = need.last.take().filter(|pool| pool.node == node);
            let pool = last.unwrap_or_else(|| pools.pool(node));
            let now = shared.clock.now();
            let Some(server) = pool.idle(need.worker, need.settings, now) else { return Ok(None) };
            let lease = Lease::new(server, pool, epoch, writer);
            if is_good(shared, &lease) {
                return Ok(Some(lease));
            }
            lease.give_back(need.worker, now);
            Ok(None)
        }
        Choice::Wait => Ok(None),
        Choice::Refuse => Err(problem(shared, rules, need)),
    }
}

/// A connection, however long it takes within the bounds of the configuration. Dropped, it leaves nothing behind.
///
/// # Errors
/// The reason, with the SQLSTATE: `57P03` while nobody may be written to (dead, split brain, no quorum: in words), `53300`
/// where a queue is full, `08006` where a node cannot be reached.
pub(crate) async fn wait(
    shared: &Arc<Shared>,
    pools: &Arc<PoolSet>,
    need: &mut Need<'_>,
    card: &Card,
) -> Result<Lease, Problem> {
    card.enter(State::Waiting, shared.clock.now());
    let began = Instant::now();
    let lease = obtain(shared, pools, need).await?;
    let waited = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    lease.pool.stats.wait.record(waited);
    Ok(lease)
}

/// As [`wait`], for a question of the gateway's own.
///
/// # Errors
/// As [`wait`].
pub(crate) async fn wait_for_us(
    shared: &Arc<Shared>,
    pools: &Arc<PoolSet>,
    need: &mut Need<'_>,
) -> Result<Lease, Problem> {
    obtain(shared, pools, need).await
}

/// What servers report of themselves to a session with `settings`, for a client that has just logged in. Asked of a server
/// once, then remembered.
///
/// # Errors
/// As [`wait`], and where a setting is refused: in the server's words.
pub(crate) async fn welcome(
    shared: &Arc<Shared>,
    pools: &Arc<PoolSet>,
    settings: &Settings,
    worker: usize,
) -> Result<Reported, Problem> {
    if let Some(reported) = pools.welcomed(settings.id) {
        return Ok(reported);
    }
    let mut tried = Vec::new();
    loop {
        let mut causal = Causal::default();
        let mut need = Need {
            want: Want::Read,
            target: None,
            causal: &mut causal,
            settings,
            tried: &tried,
            worker,
            last: None,
        };
        let mut lease = match at_once(shared, pools, &pools.rules.load_full(), &mut need)? {
            Some(lease) => lease,
            None => obtain(shared, pools, &mut need).await?,
        };
        match lease.server.apply(settings).await {
            Ok(()) => {
                let reported = Reported::from(lease.server.reported.as_slice());
                lease.give_back(worker, shared.clock.now());
                pools.keep_welcome(settings.id, Arc::clone(&reported));
                return Ok(reported);
            }
            Err(TalkError::Refused(refusal)) => {
                lease.give_back(worker, shared.clock.now());
                let message = refusal.message.message.clone();
                return Err(Problem::new(refused_as(&refusal.message.code), message));
            }
            Err(error @ TalkError::Broken(_)) => {
                // It was idle, perhaps for long; one more try finds out whether its node is at fault.
                let node = lease.pool.node;
                if tried.contains(&node) {
                    shared.herd.suspect(node);
                    return Err(Problem::new(code::CONNECTION_FAILURE, error.to_string()));
                }
                tried.push(node);
            }
        }
    }
}

async fn obtain(
    shared: &Arc<Shared>,
    pools: &Arc<PoolSet>,
    need: &mut Need<'_>,
) -> Result<Lease, Problem> {
    let (hold, most) = {
        let config = shared.config.load();
        // A switchover lets transactions end first, and whoever waits for it is not to fail by that.
        let drain = if shared.herd.is_held() && shared.herd.is_switching() {
            config.switchover.drain
        } else {
            Duration::ZERO
        };
        (config.hold.saturating_add(drain), config.hold_queue)
    };
    let until = Instant::now() + hold;
    let mut tried = need.tried.to_vec();
    let mut failure: Option<Problem> = None;
    let mut changes = shared.herd.changes();
    let mut place = None;
    loop {
        changes.borrow_and_update();
        let rules = pools.rules.load_full();
        match choose(shared, pools, &rules, need, &tried) {
            Choice::Node { node, writer, epoch } => {
                place = None;
                let deadline = Instant::now() + rules.pool.queue_timeout;
                let pool = pools.pool(node);
                let now = shared.clock.now();
                match pool.take(need.worker, need.settings, now, deadline).await {
                    Ok(server) => {
                        let lease = Lease::new(server, pool, epoch, writer);
                        if is_good(shared, &lease) {
                            return Ok(lease);
                        }
                        lease.give_back(need.worker, shared.clock.now());
                    }
                    Err(error) => {
                        let again = after(shared, node, &error, need.want, &mut tried)
                            && Instant::now() < until;
                        if !again {
                            return Err(error.into());
                        }
                        failure = Some(error.into());
                        sleep(BREATH).await;
                    }
                }
            }
            Choice::Wait => {
                if place.is_none() {
                    place = Some(
                        shared
                            .herd
                            .queue(most)
                            .ok_or_else(|| crowded(shared, &rules, need, most))?,
                    );
                }
                let look_again = async {
                    if need.causal.needs() {
                        sleep(LOOK_AGAIN).await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    // The herd outlives its clients, so this never fails.
                    _ = changes.changed() => {}
                    () = look_again => {}
                    () = sleep_until(until) => {
                        return Err(failure.unwrap_or_else(|| problem(shared, &rules, need)));
                    }
                }
            }
            Choice::Refuse => return Err(problem(shared, &rules, need)),
        }
    }
}

/// Whether it is worth choosing once more after a pool had no connection to give.
fn after(
    shared: &Shared,
    node: usize,
    error: &PoolError,
    want: Want,
    tried: &mut Vec<usize>,
) -> bool {
    let kind = match error {
        PoolError::Severed { .. } => return true,
        PoolError::Connect { error, .. } => error.kind,
        PoolError::TimedOut { failure: Some(failure), .. } => failure.kind,
        // The other nodes are not to be overrun by what one cannot carry, and a full queue is not waited for twice.
        PoolError::QueueFull { .. } | PoolError::TimedOut { .. } | PoolError::Gone { .. } => {
            return false;
        }
    };
    match kind {
        ConnectErrorKind::Refused
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::NotReady
        | ConnectErrorKind::Dropped
        | ConnectErrorKind::Unreachable => {
            shared.herd.suspect(node);
            if !tried.contains(&node) {
                tried.push(node);
            }
            true
        }
        // The node is there and does not let this login in: another one may, once.
        ConnectErrorKind::TooManyConnections
        | ConnectErrorKind::Rejected
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Other => {
            let first = want == Want::Read && !tried.contains(&node);
            if first {
                tried.push(node);
            }
            first
        }
    }
}

fn choose(
    shared: &Shared,
    pools: &PoolSet,
    rules: &Rules,
    need: &mut Need<'_>,
    tried: &[usize],
) -> Choice {
    let target = need.target.unwrap_or(&rules.target);
    let load = |node: usize| Load { in_flight: busy(&pools.pool(node)), latency: 0 };
    shared.herd.choose(need.want, target, rules.group.as_ref(), need.causal, tried, load)
}

/// Whether what was chosen before the connection was taken is still so. Once it is taken it is counted, and whoever waits
/// for transactions to end waits for this one.
fn is_good(shared: &Shared, lease: &Lease) -> bool {
    shared.herd.is_still(lease.pool.node, lease.writer, lease.epoch)
}

fn busy(pool: &Pool) -> u32 {
    u32::try_from(pool.busy()).unwrap_or(u32::MAX)
}

fn problem(shared: &Shared, rules: &Rules, need: &Need<'_>) -> Problem {
    let target = need.target.unwrap_or(&rules.target);
    shared.herd.problem(need.want, target, rules.group.as_ref(), need.causal)
}

fn crowded(shared: &Shared, rules: &Rules, need: &Need<'_>, most: usize) -> Problem {
    let why = problem(shared, rules, need).message;
    Problem::new(code::TOO_MANY, format!("{most} clients wait already (`hold_queue`); {why}"))
        .hint("try again later")
}

/// The SQLSTATE of a refused setting, of which there are few.
fn refused_as(state: &str) -> &'static str {
    match state {
        "42501" => "42501",
        "42704" => "42704",
        "55P02" => "55P02",
        "42601" => code::SYNTAX,
        _ => "22023",
    }
}
