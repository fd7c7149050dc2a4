//! From an entry to the word about it: when it may be put into the log, what came of it, and who has it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::BREATH_MS;
use crate::{
    Offset,
    engine::{
        Ack, Condition, Ledger, Member, RequestError, Settings,
        lag::{Pace, required},
        waiting::{Seat, Word},
    },
    entry::{Attempt, Entry},
    log::AppendError,
};

/// How often nodes that are too far behind are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Ledger {
    /// Puts an entry into the log and waits until a node has decided about it. When it is not known whether the log has
    /// it, it is called off: then the order decides. `node` is where it ran, if it changes something.
    pub(super) async fn settle(
        &self,
        seat: &mut Seat<'_>,
        node: Option<&str>,
        entry: &Entry,
        Attempt { request, number }: Attempt,
        deadline: Instant,
    ) -> Result<Word, RequestError> {
        let unknown = || RequestError::Unknown(request);
        let body = self.encode(entry)?;
        if let Some(node) = node {
            self.room(node, deadline).await?;
        }
        let span = tracing::debug_span!(target: "otel", "ledger append", otel.kind = "producer", herdsman.bytes = body.len());
        let appending = self.shared.log.append(body).instrument(span);
        match tokio::time::timeout_at(deadline, appending).await {
            Ok(Ok(_)) => {
                let word = tokio::time::timeout_at(deadline, seat.word(number)).await;
                return word.ok().flatten().ok_or_else(unknown);
            }
            Ok(Err(AppendError::Rejected(why))) => return Err(RequestError::NotTaken(why)),
            Ok(Err(AppendError::Unknown(why))) => {
                tracing::debug!(%request, why, "waiting for an entry to be read back");
            }
            Err(_) => return Err(unknown()),
        }
        let patience = deadline.min(Instant::now() + self.shared.settings.cancel_after);
        if let Ok(Some(word)) = tokio::time::timeout_at(patience, seat.word(number)).await {
            return Ok(word);
        }
        let cancel = self.encode(&Entry::Cancel { request })?;
        let called_off = async {
            // Sent until it is surely there; more than one do no harm.
            while let Err(error) = self.shared.log.append(cancel.clone()).await {
                tracing::debug!(%request, %error, "calling it off once more");
                tokio::time::sleep(Duration::from_millis(BREATH_MS)).await;
            }
            seat.word(number).await
        };
        tokio::time::timeout_at(deadline, called_off).await.ok().flatten().ok_or_else(unknown)
    }

    /// Waits until those that answers wait for are not too far behind: who writes is slowed down to the slowest of them.
    /// `node` is where it ran.
    async fn room(&self, node: &str, deadline: Instant) -> Result<(), RequestError> {
        let Settings { ack, most_behind, .. } = self.shared.settings;
        loop {
            let pace = |it: &Member| {
                let status = it.status.borrow();
                Pace {
                    applied: status.applied,
                    out: matches!(status.condition, Condition::Fenced(_)),
                    own: it.node.name() == node,
                }
            };
            let nodes: Vec<Pace> = self.shared.members.iter().map(pace).collect();
            let furthest = nodes.iter().map(|it| it.applied.0).max().unwrap_or_default();
            let end = self.last_end().map_or(0, |end| end.0.saturating_sub(1)).max(furthest);
            let behind = match required(&nodes, ack) {
                Some(applied) => end.saturating_sub(applied.0),
                None => return Ok(()),
            };
            if behind <= most_behind {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(RequestError::NotTaken(format!(
                    "the nodes that it would wait for are {behind} entries behind, and {most_behind} are allowed; `herdsman ledger status` says which"
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether as many nodes have come to `at` as are to.
    pub(super) async fn acknowledged(&self, node: &str, at: Offset, deadline: Instant) -> bool {
        let left = || deadline.saturating_duration_since(Instant::now());
        let all = self.shared.members.len();
        let wanted = match self.shared.settings.ack {
            Ack::Local => return self.reached(node, at, left()).await.is_ok(),
            Ack::Majority => all / 2 + 1,
            Ack::All => all,
        };
        let mut waits: futures_util::stream::FuturesUnordered<_> =
            self.shared.members.iter().map(|it| self.reached(it.node.name(), at, left())).collect();
        let mut have = 0;
        while let Some(reached) = futures_util::StreamExt::next(&mut waits).await {
            have += usize::from(reached.is_ok());
            if have >= wanted {
                return true;
            }
        }
        false
    }
}
