//! The end in order.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::Order;
use crate::shared::Shared;

/// How often it is looked whether everybody has left.
const LOOK: Duration = Duration::from_millis(20);
/// How long clients that are told to leave now get to be told so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Lets every client leave, within the bounds of the configuration.
pub(super) async fn drain(shared: &Shared) {
    let limit = shared.config.load().drain_timeout;
    shared.draining.cancel();
    if left(shared, Order::Drain, limit).await {
        return;
    }
    let clients = shared.clients.count();
    tracing::warn!(
        clients,
        "ending clients whose transactions did not end within `gateway.drain_timeout`"
    );
    let _told = left(shared, Order::End, LAST_WORDS).await;
}

/// Tells everybody, those who have just come too, and whether all have left in time.
async fn left(shared: &Shared, order: Order, limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        let cards = shared.clients.all();
        if cards.is_empty() {
            return true;
        }
        for card in cards {
            card.order(order);
        }
        sleep(LOOK).await;
    }
    shared.clients.count() == 0
}
