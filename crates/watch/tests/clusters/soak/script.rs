//! One cycle: what is done to the herd and, from it, what is true when.

use std::time::Duration;

use herdsman_sandbox::{Fault, RejoinBy, Sandbox};
use tokio::time::{Instant, sleep};

use super::plan::{Kind, Plan};
use super::truth::Truth;

/// Who plays which part.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    /// The primary when the cycle begins.
    pub(super) old: String,
    /// Its timeline.
    pub(super) timeline: u32,
    /// The standby that is promoted, or hit.
    pub(super) chosen: String,
    /// The other standby.
    pub(super) other: String,
}

/// What a verdict has to say while something is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The truth is changing.
    Anything,
    /// This node is the primary and can be proven to be.
    Named(String),
    /// This node is the new primary; if it lacks what the old one acknowledged, nobody may be named instead.
    NamedUnlessLost(String),
    /// This node is gone, and nobody has taken over.
    NotNamed(String),
}

/// Something that is true from `at` until the next stage.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) at: Instant,
    pub(super) expect: Expect,
}

/// What happened in a cycle, as far as those who did it know.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) cast: Cast,
    pub(super) started: Instant,
    pub(super) stages: Vec<Stage>,
    pub(super) deeds: Vec<(Instant, String)>,
    /// When the old primary stopped being reachable for clients, or was superseded.
    pub(super) lost: Option<Instant>,
    /// When the old primary was reachable again, still the primary.
    pub(super) returned: Option<Instant>,
    /// When the new primary was first seen to take writes.
    pub(super) observable: Option<Instant>,
    /// When the other standby was told to follow it.
    pub(super) repointed: Option<Instant>,
}

/// The cast at work on the herd.
pub(super) struct Script<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) truth: &'a Truth,
    pub(super) record: Record,
}

type Done = Result<(), String>;

impl Record {
    pub(super) fn new(cast: Cast) -> Self {
        let started = Instant::now();
        // The herd was settled before, so this has been true for long.
        let settled = started.checked_sub(Duration::from_secs(60)).unwrap_or(started);
        let stages = vec![Stage { at: settled, expect: Expect::Named(cast.old.clone()) }];
        let (deeds, lost, returned, observable, repointed) = (Vec::new(), None, None, None, None);
        Self { cast, started, stages, deeds, lost, returned, observable, repointed }
    }

    /// The primary when the cycle ends.
    pub(super) fn last_primary(&self) -> &str {
        if self.observable.is_some() { &self.cast.chosen } else { &self.cast.old }
    }

    pub(super) fn promoted(&self) -> bool {
        self.observable.is_some()
    }
}

impl Script<'_> {
    /// Does what is planned. At its end every node runs and is reachable, and follows the last primary or is it.
    pub(super) async fn play(&mut self, plan: &Plan) -> Done {
        let old = self.record.cast.old.clone();
        match plan.kind {
            Kind::PromotedBesideTheOld => {
                self.promote().await?;
                self.settle_followers(plan).await
            }
            Kind::KilledThenPromoted => {
                self.kill_old().await?;
                sleep(plan.until_promotion).await;
                self.promote().await?;
                self.settle_followers(plan).await
            }
            Kind::ZombieRestart => {
                self.kill_old().await?;
                sleep(plan.until_promotion).await;
                self.promote().await?;
                self.start(&old).await?;
                sleep(plan.hold / 2).await;
                self.settle_followers(plan).await
            }
            Kind::StalePromoted => {
                let chosen = self.record.cast.chosen.clone();
                self.deed(format!("partition {old} from {chosen}"));
                self.sandbox.partition(&old, &chosen).map_err(words)?;
                sleep(plan.hold).await;
                if plan.early_return {
                    self.kill_old().await?;
                    sleep(plan.until_promotion).await;
                }
                self.promote().await?;
                self.sandbox.heal();
                self.settle_followers(plan).await
            }
            Kind::CrashRestart => {
                self.kill_old().await?;
                sleep(plan.hold).await;
                self.restart_old().await
            }
            Kind::PlannedRestart => {
                self.stop_old().await?;
                sleep(plan.hold).await;
                self.restart_old().await
            }
            Kind::Switchover => {
                self.stop_old().await?;
                self.promote().await?;
                self.repoint().await?;
                self.rejoin_old().await
            }
            Kind::Frozen | Kind::FrozenThenPromoted => self.freeze_old(plan).await,
            Kind::Blackholed | Kind::BlackholedThenPromoted => {
                self.unreachable_old(plan, Fault::Stall, false).await
            }
            Kind::Cut | Kind::CutThenPromoted => {
                self.unreachable_old(plan, Fault::Cut, false).await
            }
            Kind::Isolated | Kind::IsolatedThenPromoted => {
                self.unreachable_old(plan, Fault::Stall, true).await
            }
            Kind::StandbyKilled
            | Kind::StandbyFrozen
            | Kind::StandbyBlackholed
            | Kind::StandbyCut
            | Kind::PartitionedFromStandby
            | Kind::StandbysPartitioned => self.hit_standby(plan).await,
        }
    }

    /// Waits until both standbys follow the last primary; brings back who does not come by itself.
    pub(super) async fn heal(&mut self) -> Done {
        self.sandbox.heal();
        let primary = self.record.last_primary().to_owned();
        for node in self.sandbox.node_names() {
            if node == primary {
                continue;
            }
            if let Err(why) = self.truth.follows(self.sandbox, &node, &primary).await {
                self.deed(format!("{node} does not follow, rejoin: {why}"));
                self.rejoin(&node, &primary).await?;
            }
        }
        Ok(())
    }

    fn deed(&mut self, what: impl Into<String>) {
        self.record.deeds.push((Instant::now(), what.into()));
    }

    fn expect_at(&mut self, at: Instant, expect: Expect) {
        self.record.stages.push(Stage { at, expect });
    }

    fn expect(&mut self, expect: Expect) {
        self.expect_at(Instant::now(), expect);
    }

    /// The old primary starts to be unreachable: the clock of the withdrawal runs from here.
    fn losing(&mut self, how: &str) {
        self.record.lost = Some(Instant::now());
        self.deed(format!("{how} {}", self.record.cast.old));
        self.expect(Expect::Anything);
    }

    fn lost(&mut self) {
        self.expect(Expect::NotNamed(self.record.cast.old.clone()));
    }

    fn returned_at(&mut self, at: Instant) {
        self.record.returned = Some(at);
        self.record.deeds.push((at, "the old primary is back".to_owned()));
        self.expect_at(at, Expect::Named(self.record.cast.old.clone()));
    }

    fn returned(&mut self) {
        self.returned_at(Instant::now());
    }

    async fn kill_old(&mut self) -> Done {
        self.losing("kill -9");
        self.sandbox.kill(&self.record.cast.old).await.map_err(words)?;
        self.lost();
        Ok(())
    }

    async fn stop_old(&mut self) -> Done {
        self.losing("stop");
        self.sandbox.stop(&self.record.cast.old).await.map_err(words)?;
        self.lost();
        Ok(())
    }

    /// The old primary starts again as what it was, and nobody has taken over.
    async fn restart_old(&mut self) -> Done {
        let Cast { old, timeline, .. } = self.record.cast.clone();
        self.expect(Expect::Anything);
        let began = Instant::now();
        self.start(&old).await?;
        let observable = self.truth.observable(&old, began, timeline - 1).await?;
        self.returned_at(observable);
        Ok(())
    }

    async fn start(&mut self, node: &str) -> Done {
        self.deed(format!("start {node}"));
        self.sandbox.start(node).await.map_err(words)?;
        self.deed(format!("started {node}"));
        Ok(())
    }

    async fn promote(&mut self) -> Done {
        let Cast { chosen, timeline, .. } = self.record.cast.clone();
        self.deed(format!("promote {chosen}"));
        let began = Instant::now();
        // An unreachable primary stays unreachable; only one that lives is superseded by and by.
        if self.record.lost.is_none() {
            self.expect(Expect::Anything);
        }
        self.sandbox.promote(&chosen).await.map_err(words)?;
        let observable = self.truth.observable(&chosen, began, timeline).await?;
        self.record.observable = Some(observable);
        self.record.lost.get_or_insert(observable);
        self.record.deeds.push((observable, format!("{chosen} takes writes")));
        self.expect_at(observable, Expect::NamedUnlessLost(chosen));
        Ok(())
    }

    /// The other standby follows the new primary, by a rewind if it has diverged.
    async fn repoint(&mut self) -> Done {
        let Cast { chosen, other, .. } = self.record.cast.clone();
        self.deed(format!("repoint {other}"));
        self.record.repointed = Some(Instant::now());
        self.sandbox.follow(&other, &chosen).await.map_err(words)?;
        if let Err(why) = self.truth.follows(self.sandbox, &other, &chosen).await {
            self.deed(format!("{other} has diverged, rejoin: {why}"));
            self.rejoin(&other, &chosen).await?;
        }
        self.deed(format!("{other} follows {chosen}"));
        self.expect(Expect::Named(chosen));
        Ok(())
    }

    async fn rejoin_old(&mut self) -> Done {
        let Cast { old, chosen, .. } = self.record.cast.clone();
        self.deed(format!("rejoin {old}"));
        self.rejoin(&old, &chosen).await
    }

    async fn rejoin(&mut self, node: &str, upstream: &str) -> Done {
        let way = RejoinBy::default();
        let how = self.sandbox.rejoin_from(node, upstream, way).await.map_err(words)?;
        self.deed(format!("{node} rejoined {upstream}: {how:?}"));
        Ok(())
    }

    /// After a promotion: the other standby is repointed, the old primary becomes a standby.
    async fn settle_followers(&mut self, plan: &Plan) -> Done {
        sleep(plan.until_repoint).await;
        self.repoint().await?;
        self.rejoin_old().await
    }

    async fn freeze_old(&mut self, plan: &Plan) -> Done {
        let old = self.record.cast.old.clone();
        self.losing("freeze");
        self.sandbox.freeze(&old).await.map_err(words)?;
        self.lost();
        if plan.kind == Kind::Frozen {
            sleep(plan.hold).await;
            self.sandbox.thaw(&old).await.map_err(words)?;
            self.returned();
            return Ok(());
        }
        self.replace_the_absent(plan).await
    }

    /// The old primary runs on, but clients do not reach it; with `alone`, neither do other nodes.
    async fn unreachable_old(&mut self, plan: &Plan, fault: Fault, alone: bool) -> Done {
        let old = self.record.cast.old.clone();
        self.losing(&format!(
            "{fault:?}{}",
            if alone { " everything around" } else { " the clients of" }
        ));
        if alone {
            self.sandbox.cut_off(&old).map_err(words)?;
        } else {
            self.sandbox.client_proxy(&old).map_err(words)?.set(fault);
        }
        self.lost();
        let promoted = matches!(
            plan.kind,
            Kind::BlackholedThenPromoted | Kind::CutThenPromoted | Kind::IsolatedThenPromoted
        );
        if !promoted {
            sleep(plan.hold).await;
            self.sandbox.reconnect(&old).map_err(words)?;
            self.returned();
            return Ok(());
        }
        self.replace_the_absent(plan).await
    }

    /// The old primary is away; another takes over before it comes back, sooner or later.
    async fn replace_the_absent(&mut self, plan: &Plan) -> Done {
        sleep(plan.until_promotion).await;
        self.promote().await?;
        if plan.early_return {
            sleep(plan.hold / 4).await;
            self.bring_back().await?;
        }
        sleep(plan.until_repoint).await;
        self.repoint().await?;
        if !plan.early_return {
            sleep(plan.hold / 4).await;
            self.bring_back().await?;
        }
        sleep(plan.hold / 4).await;
        self.rejoin_old().await
    }

    /// The old primary is heard again, whatever kept it away.
    async fn bring_back(&mut self) -> Done {
        let old = self.record.cast.old.clone();
        self.deed(format!("reconnect and thaw {old}"));
        self.sandbox.reconnect(&old).map_err(words)?;
        self.sandbox.thaw(&old).await.map_err(words)
    }

    /// Faults that leave the primary alone: nothing may happen to the verdict.
    async fn hit_standby(&mut self, plan: &Plan) -> Done {
        let Cast { old, chosen, other, .. } = self.record.cast.clone();
        let fault = if plan.break_links { Fault::Cut } else { Fault::Stall };
        self.deed(format!("{} ({chosen})", plan.kind));
        match plan.kind {
            Kind::StandbyKilled => self.sandbox.kill(&chosen).await,
            Kind::StandbyFrozen => self.sandbox.freeze(&chosen).await,
            Kind::StandbyBlackholed => self.sandbox.cut_off(&chosen),
            Kind::StandbyCut => {
                self.sandbox.client_proxy(&chosen).map(|proxy| proxy.set(Fault::Cut))
            }
            Kind::StandbysPartitioned => self.sandbox.partition_by(&chosen, &other, fault),
            _ => self.sandbox.partition_by(&old, &chosen, fault),
        }
        .map_err(words)?;
        sleep(plan.hold).await;
        match plan.kind {
            Kind::StandbyKilled => self.start(&chosen).await?,
            Kind::StandbyFrozen => self.sandbox.thaw(&chosen).await.map_err(words)?,
            _ => self.sandbox.heal(),
        }
        self.deed("over");
        Ok(())
    }
}

fn words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
