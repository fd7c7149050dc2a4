//! Carrying out what the machine decides.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Lsn, NodeName, Role, describe};
use herdsman_watch::Verdict;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ask::{first, open, position};
use super::command::{fill, run};
use super::machine::Act;
use crate::client;
use crate::config::SwitchoverConfig;
use crate::herd::Seat;
use crate::pool::Use;
use crate::shared::Shared;

/// A standby further behind would have everybody wait.
const MOST_LAG: u64 = 16 << 20;
/// How often something is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(5);
/// So many looks in a row must find nobody at work: one may fall between a connection's leaving its pool and its use.
const QUIET: u32 = 3;
/// A client that has been idle for so many milliseconds of the coarse clock is between two transactions.
const AT_REST: u64 = 200;
/// How long the watcher may take to see that the old primary is still there.
const SETTLE: Duration = Duration::from_secs(5);

/// What a switchover works with.
#[derive(Debug)]
pub(super) struct Hands {
    shared: Arc<Shared>,
    config: SwitchoverConfig,
    pub(super) old: Seat,
    pub(super) new: Seat,
    old_index: usize,
    tell: mpsc::UnboundedSender<String>,
    /// How far the old primary's log had come when nobody wrote any more.
    end: Option<Lsn>,
    followers: JoinSet<Result<(), String>>,
}

/// Writes are held for this switchover; dropping it lets them begin.
impl Drop for Hands {
    fn drop(&mut self) {
        self.shared.herd.end_switching();
    }
}

impl Hands {
    /// Takes the place of the one switchover there may be.
    pub(super) fn new(
        shared: &Arc<Shared>,
        target: &NodeName,
        tell: mpsc::UnboundedSender<String>,
    ) -> Result<Self, String> {
        let config = shared.config.load().switchover.clone();
        if config.demote.is_empty() {
            return Err(
                "`gateway.switchover.demote` has no command; set one, or hold writes (`herdsman hold`) while another \
                 tool switches"
                    .to_owned(),
            );
        }
        let topology = shared.herd.topology();
        let Some(primary) = topology.primary() else {
            return Err(format!(
                "there is no proven primary to take over from: {}",
                topology.verdict
            ));
        };
        if primary == target {
            return Err(format!("{target} is the primary already"));
        }
        let seats = shared.herd.seats();
        let seat = |name: &NodeName| {
            let found = seats.iter().enumerate().find(|(_, seat)| seat.name == *name);
            found.map(|(index, seat)| (index, seat.clone()))
        };
        let (_, new) = seat(target).ok_or_else(|| format!("{target} is no node of this herd"))?;
        let (old_index, old) =
            seat(primary).ok_or_else(|| format!("{primary} is no node of this herd"))?;
        if !shared.herd.begin_switching() {
            return Err("another switchover is under way".to_owned());
        }
        let shared = Arc::clone(shared);
        let followers = JoinSet::new();
        Ok(Self { shared, config, old, new, old_index, tell, end: None, followers })
    }

    pub(super) fn say(&self, text: String) {
        tracing::info!("switchover: {text}");
        // Whoever listened may have left.
        let _left = self.tell.send(text);
    }

    pub(super) async fn act(&mut self, act: Act) -> Result<(), String> {
        let (old, new) = (self.old.name.clone(), self.new.name.clone());
        match act {
            Act::Check => {
                self.say(format!("checking whether {new} can take over from {old}"));
                self.check().await
            }
            Act::Checkpoint => {
                self.say(format!("writing a checkpoint on {old}"));
                self.checkpoint().await
            }
            Act::Hold => {
                self.say("holding new transactions that write".to_owned());
                self.shared.herd.switching(true);
                Ok(())
            }
            Act::AwaitIdle => {
                self.say(format!("waiting for those that run, up to {:?}", self.config.drain));
                self.idle().await
            }
            Act::Retire => self.retire().await,
            Act::Demote => {
                self.say(format!("demoting {old}"));
                self.command(&self.config.demote, &self.old).await
            }
            Act::AwaitReplayed => {
                self.say(format!("waiting until {new} has replayed everything"));
                self.replayed().await
            }
            Act::Promote => {
                self.say(format!("promoting {new}"));
                self.promote().await
            }
            Act::FollowOthers => {
                self.follow_others();
                Ok(())
            }
            Act::AwaitPrimary => {
                self.say(format!("waiting for proof that {new} is the primary"));
                self.proven(&new, self.config.command_timeout).await
            }
            Act::AwaitOld => {
                self.say(format!("looking whether {old} is still the primary"));
                self.proven(&old, SETTLE).await
            }
            Act::Resume => {
                self.say("letting transactions begin".to_owned());
                self.shared.herd.switching(false);
                Ok(())
            }
            Act::FollowOld => self.follow_old().await,
            Act::End => Ok(()),
        }
    }

    async fn check(&self) -> Result<(), String> {
        let topology = self.shared.herd.topology();
        let new = &self.new.name;
        let view =
            topology.nodes.get(new).ok_or_else(|| format!("{new} is unknown to the watcher"))?;
        if view.role != Role::Standby || !view.readable {
            let why = view.reasons.join(", ");
            return Err(format!(
                "{new} is no standby that may be read ({} {why})",
                view.role.as_str()
            ));
        }
        if view.follows.as_ref() != Some(&self.old.name) {
            return Err(format!("{new} does not stream from {}", self.old.name));
        }
        let behind = view.lag.map_or(0, |lag| lag.bytes);
        if behind > MOST_LAG {
            return Err(format!(
                "{new} is {behind} bytes behind, at most {MOST_LAG} are waited for; try again when it has caught up"
            ));
        }
        if self.config.promote.is_empty() {
            let sql =
                "SELECT has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')::text";
            let may = first(&open(&self.new).await?, sql).await?;
            if may.first().and_then(Option::as_deref) != Some("true") {
                return Err(format!(
                    "role {} may not promote {new}; run there: GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO it, \
                     or set `gateway.switchover.promote`",
                    self.new.conninfo.user
                ));
            }
        }
        Ok(())
    }

    async fn checkpoint(&self) -> Result<(), String> {
        let client = open(&self.old).await?;
        match timeout(self.config.command_timeout, client.batch_execute("CHECKPOINT")).await {
            Ok(Ok(())) => Ok(()),
            // Without it the shutdown takes longer, that is all.
            Ok(Err(error)) if error.code().is_some_and(|code| code.code() == "42501") => {
                self.say(format!(
                    "role {} may not (GRANT pg_checkpoint would let it): the pause will be longer",
                    self.old.conninfo.user
                ));
                Ok(())
            }
            Ok(Err(error)) => {
                Err(format!("no checkpoint on {}: {}", self.old.name, describe(&error)))
            }
            Err(_) => Err(format!(
                "the checkpoint on {} took longer than {:?} (`switchover.command_timeout`)",
                self.old.name, self.config.command_timeout
            )),
        }
    }

    /// Waits until no transaction runs on the old primary.
    async fn idle(&self) -> Result<(), String> {
        let deadline = Instant::now() + self.config.drain;
        let mut quiet = 0;
        loop {
            let busy = self.busy();
            quiet = if busy == 0 { quiet + 1 } else { 0 };
            if quiet >= QUIET {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{busy} transactions on {} did not end within {:?} (`switchover.drain`); end them, allow more time, \
                     or use force to cut them off",
                    self.old.name, self.config.drain
                ));
            }
            sleep(LOOK).await;
        }
    }

    /// How many clients have a connection to the old primary and are not between two transactions.
    fn busy(&self) -> usize {
        let at_work = |doing: Use| matches!(doing, Use::Writer | Use::Reader | Use::Taken);
        let pools = self.shared.pools.all().into_iter().flat_map(|set| set.pools());
        let leased: usize = pools
            .filter(|pool| pool.node == self.old_index)
            .map(|pool| pool.servers().iter().filter(|server| at_work(server.doing())).count())
            .sum();
        let now = self.shared.clock.now();
        let kept = self.shared.clients.all().iter().filter(|card| self.keeps(card, now)).count();
        leased.saturating_sub(kept)
    }

    /// Whether the client keeps a connection to the old primary between two transactions: as in a session. Only after a
    /// while, so that one that is just beginning or ending is not taken for that.
    fn keeps(&self, card: &client::Card, now: u64) -> bool {
        let node = card.node.load(std::sync::atomic::Ordering::Relaxed);
        let (state, since) = card.state();
        usize::try_from(node).ok() == self.old_index.checked_add(1)
            && state == client::State::Idle
            && now.saturating_sub(since) >= AT_REST
    }

    async fn retire(&mut self) -> Result<(), String> {
        // First what could fail.
        let client = open(&self.old).await?;
        self.shared.herd.retire(self.old_index);
        let row = first(&client, "SELECT pg_current_wal_insert_lsn()::text").await?;
        let lsn = row.first().cloned().flatten().and_then(|lsn| lsn.parse().ok());
        self.end =
            Some(lsn.ok_or_else(|| format!("{} does not say how far it is", self.old.name))?);
        Ok(())
    }

    /// Waits until the old primary is none any more and the target has all of its log. What an orderly shutdown writes last
    /// is a checkpoint after everything else, which goes to the standbys too: so the target must come past the last position
    /// that was seen.
    async fn replayed(&self) -> Result<(), String> {
        let end = self.end.unwrap_or_default();
        let deadline = Instant::now() + self.config.command_timeout;
        let client = open(&self.new).await?;
        let mut last = None;
        loop {
            let still_primary = self.says_primary();
            let at = position(&client).await?;
            let complete = at.replayed > end && at.replayed >= at.received;
            if complete && !still_primary && !at.streams && last == Some(at.replayed) {
                return self.as_far_as_old(at.replayed).await;
            }
            last = Some(at.replayed);
            if Instant::now() >= deadline {
                let (old, new) = (&self.old.name, &self.new.name);
                return Err(if still_primary {
                    format!("{old} is still a primary although `switchover.demote` was run")
                } else {
                    format!(
                        "{new} has not received everything from {old}: it is at {}, and {old} ended after {end}",
                        at.replayed
                    )
                });
            }
            sleep(LOOK).await;
        }
    }

    /// Where the old primary came back as a standby at once, it can be asked how far it is.
    async fn as_far_as_old(&self, replayed: Lsn) -> Result<(), String> {
        let Ok(client) = open(&self.old).await else { return Ok(()) };
        let Ok(at) = position(&client).await else { return Ok(()) };
        if at.replayed <= replayed {
            return Ok(());
        }
        let (old, new) = (&self.old.name, &self.new.name);
        Err(format!("{old} has log up to {}, {new} only up to {replayed}", at.replayed))
    }

    /// Whether the old primary was a primary when it was last heard.
    fn says_primary(&self) -> bool {
        let topology = self.shared.herd.topology();
        topology.nodes.get(&self.old.name).is_some_and(|view| view.role == Role::Primary)
    }

    async fn promote(&self) -> Result<(), String> {
        if !self.config.promote.is_empty() {
            return self.command(&self.config.promote, &self.new).await;
        }
        // Without waiting there: that looks only every tenth of a second.
        let client = open(&self.new).await?;
        first(&client, "SELECT pg_promote(false)::text").await.map(drop)
    }

    /// Waits until the watcher names this node the primary.
    async fn proven(&self, name: &NodeName, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        let mut changes = self.shared.herd.changes();
        loop {
            changes.borrow_and_update();
            let topology = self.shared.herd.topology();
            if matches!(&topology.verdict, Verdict::Primary { node, .. } if node == name) {
                return Ok(());
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(deadline) => {
                    return Err(format!("the watcher does not name {name} the primary within {limit:?}: {}", topology.verdict));
                }
            }
        }
    }

    fn follow_others(&mut self) {
        if self.config.follow.is_empty() {
            return;
        }
        let topology = self.shared.herd.topology();
        for seat in self.shared.herd.seats().iter() {
            let other = seat.name != self.old.name && seat.name != self.new.name;
            let standby = topology.nodes.get(&seat.name).is_some_and(|v| v.role == Role::Standby);
            if other && standby {
                self.say(format!("having {} follow {}", seat.name, self.new.name));
                let argv = fill(&self.config.follow, seat, self.new.name.as_str());
                let limit = self.config.command_timeout;
                self.followers.spawn(async move { run(&argv, limit).await });
            }
        }
    }

    async fn follow_old(&mut self) -> Result<(), String> {
        let mut problems = Vec::new();
        if !self.config.follow.is_empty() {
            self.say(format!("having {} follow {}", self.old.name, self.new.name));
            problems.extend(self.command(&self.config.follow, &self.old).await.err());
        }
        while let Some(outcome) = self.followers.join_next().await {
            problems.extend(outcome.unwrap_or_else(|error| Err(error.to_string())).err());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    async fn command(&self, command: &[String], about: &Seat) -> Result<(), String> {
        let argv = fill(command, about, self.new.name.as_str());
        run(&argv, self.config.command_timeout).await
    }
}
