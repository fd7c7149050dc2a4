//! What is done by the clock: the coarse clock itself, time limits, pools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::{Card, Order, State};
use crate::config::{GatewayConfig, PoolConfig};
use crate::shared::Shared;

/// How exact the coarse clock is.
const TICK: Duration = Duration::from_millis(100);
/// Pools are swept once a second: their limits are seconds and more.
const SWEEP_EACH: u64 = 10;
/// How long a statement that was cancelled gets to end before its connection is closed, in milliseconds.
const GRACE: u64 = 1000;

/// How long a cancel request may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Keeps order until nothing new is to begin and everybody has left.
pub(super) async fn keep(shared: Arc<Shared>) -> &'static str {
    let begun = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut late = Late::default();
    let mut number = 0_u64;
    loop {
        ticks.tick().await;
        let now = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.clock.set(now);
        if shared.draining.is_cancelled() && shared.clients.count() == 0 {
            return "the janitor";
        }
        number = number.wrapping_add(1);
        if number.is_multiple_of(SWEEP_EACH) {
            shared.pools.sweep(now);
        }
        if limits_anybody(&shared.config.load()) {
            late.look(&shared, now);
        }
    }
}

/// Whether any time limit for clients is set: mostly none is, and then nobody is looked at.
fn limits_anybody(config: &GatewayConfig) -> bool {
    let pool = &config.pool;
    let general = [pool.client_idle_timeout, pool.transaction_idle_timeout, pool.query_timeout];
    let databases = config.databases.values().map(|database| &database.pool);
    let mut narrower = databases.chain(config.users.values().map(|user| &user.pool));
    general.iter().any(|limit| !limit.is_zero())
        || narrower.any(|pool| pool.query_timeout.is_some_and(|limit| !limit.is_zero()))
}

/// Statements that were cancelled for taking too long: by client, since when they run.
#[derive(Debug, Default)]
struct Late(HashMap<u64, u64>);

impl Late {
    fn look(&mut self, shared: &Shared, now: u64) {
        let mut running = HashMap::new();
        for card in shared.clients.all() {
            let rules = card.pools.rules.load();
            let (state, since) = card.state();
            let cancelled = self.0.get(&card.id) == Some(&since);
            match wanted(&rules.pool, state, now.saturating_sub(since), cancelled) {
                Wanted::Nothing => {}
                Wanted::Order(order) => card.order(order),
                Wanted::Cancel => {
                    cancel(&card);
                    running.insert(card.id, since);
                }
            }
            if cancelled {
                running.insert(card.id, since);
            }
        }
        self.0 = running;
    }
}

/// What is to be done about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Order(Order),
    /// The statement is to be cancelled at its server.
    Cancel,
}

/// `lasts` is for how long the client has been in `state`, in milliseconds.
fn wanted(pool: &PoolConfig, state: State, lasts: u64, cancelled: bool) -> Wanted {
    let over = |limit: Duration, grace: u64| {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        limit > 0 && lasts >= limit.saturating_add(grace)
    };
    match state {
        State::Idle if over(pool.client_idle_timeout, 0) => Wanted::Order(Order::Idle),
        State::InTransaction if over(pool.transaction_idle_timeout, 0) => {
            Wanted::Order(Order::IdleInTransaction)
        }
        State::Active if cancelled && over(pool.query_timeout, GRACE) => {
            Wanted::Order(Order::QueryTimeout)
        }
        State::Active if !cancelled && over(pool.query_timeout, 0) => Wanted::Cancel,
        _ => Wanted::Nothing,
    }
}

/// Has the server that works for the client cancel what it does.
fn cancel(card: &Arc<Card>) {
    let card = Arc::clone(card);
    tokio::spawn(async move { card.cancel.cancel(CANCEL_LIMIT).await });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_own_limit_and_zero_is_none() {
        let seconds = Duration::from_secs;
        let none = PoolConfig::default();
        let all = PoolConfig {
            client_idle_timeout: seconds(1),
            transaction_idle_timeout: seconds(2),
            query_timeout: seconds(3),
            ..PoolConfig::default()
        };
        let order = Wanted::Order;
        for (state, lasts, cancelled, expected) in [
            (State::Idle, 999, false, Wanted::Nothing),
            (State::Idle, 1000, false, order(Order::Idle)),
            (State::InTransaction, 1999, false, Wanted::Nothing),
            (State::InTransaction, 2000, false, order(Order::IdleInTransaction)),
            (State::Active, 2999, false, Wanted::Nothing),
            (State::Active, 3000, false, Wanted::Cancel),
            (State::Active, 3999, true, Wanted::Nothing),
            (State::Active, 4000, true, order(Order::QueryTimeout)),
            (State::Waiting, 1_000_000, false, Wanted::Nothing),
            (State::Login, 1_000_000, false, Wanted::Nothing),
        ] {
            assert_eq!(wanted(&all, state, lasts, cancelled), expected, "{state:?} for {lasts}");
            assert_eq!(wanted(&none, state, lasts, cancelled), Wanted::Nothing, "{state:?}");
        }
    }

    #[test]
    fn clients_are_looked_at_only_where_a_limit_is_set_somewhere() {
        let mut config = GatewayConfig::default();
        assert!(!limits_anybody(&config));
        config.users.entry("app".to_owned()).or_default().pool.query_timeout = Some(Duration::ZERO);
        assert!(!limits_anybody(&config));
        config.users.entry("app".to_owned()).or_default().pool.query_timeout = Some(TICK);
        assert!(limits_anybody(&config));
    }
}
