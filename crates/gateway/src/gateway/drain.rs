//! The end in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::admin::Ending;
use crate::client::{Card, Order};
use crate::config::CONSOLES;
use crate::shared::Shared;

/// How often it is looked whether everybody has left.
const LOOK: Duration = Duration::from_millis(20);
/// The same while clients leave by themselves, which may take days.
const LOOK_FOR_ALL: Duration = Duration::from_millis(200);
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

/// Accepts nobody any more, and comes back when clients have left as `how` says, however long that takes. `served` says how
/// many have been accepted and are still here.
pub(super) async fn leave(shared: &Shared, how: Ending, served: impl Fn() -> usize) {
    match how {
        Ending::AtOnce => {
            shared.draining.cancel();
            let _told = left(shared, Order::End, LAST_WORDS).await;
        }
        Ending::Transactions => {
            shared.draining.cancel();
            let _left = left(shared, Order::Drain, Duration::MAX).await;
        }
        Ending::Clients => {
            // Who has been accepted may log in and stay.
            shared.closed.cancel();
            // Who looks on from the console is not waited for: it may be who asked.
            let of_console = |card: &Arc<Card>| CONSOLES.contains(&&*card.pools.database);
            while served() > shared.clients.all().iter().filter(|card| of_console(card)).count() {
                sleep(LOOK_FOR_ALL).await;
            }
        }
    }
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
