//! One apply session at work, with the links that feed it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use herdsman_node::{Lsn, NodeName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Target;
use super::blocked::watched;
use super::schedule::{Item, Lot, Schedule, Step};
use crate::apply::Applier;
use crate::ddl::watch::{self as ddl_watch, Seen};
use crate::engine::roster::Roster;
use crate::error::MeshError;
use crate::group::Group;
use crate::link::{Demand, FromLink, Link, Said};
use crate::setup::{Member, MemberState};
use crate::stamp::NodeId;
use crate::status::LinkBoard;

/// How often it is looked whether a source that had no progress here has some now.
const LOOK: Duration = Duration::from_secs(2);
/// How often an idle session tells that it lives.
const RENEW: Duration = Duration::from_secs(5);
/// How long links have to take leave of their sources.
const LEAVE: Duration = Duration::from_secs(3);

pub(super) struct Session<'a> {
    pub(super) target: &'a Target,
    pub(super) applier: Applier,
    pub(super) schedule: Schedule<Group>,
    pub(super) links: BTreeMap<NodeId, Running>,
    /// Links that were ever made.
    number: u64,
    tasks: JoinSet<()>,
    leave: CancellationToken,
    pub(super) hungry: watch::Sender<bool>,
    to_us: mpsc::UnboundedSender<FromLink>,
    pub(super) from_links: mpsc::UnboundedReceiver<FromLink>,
    pub(super) begun: Instant,
    /// When the member last heard from us.
    touched: Instant,
    /// Sources that have no progress here yet are asked for again then.
    look: Option<Instant>,
    /// Jobs of `mesh ddl`, and whether the tables have another form.
    seen: watch::Receiver<Seen>,
    form: Option<(i64, i64)>,
    /// A job is not looked at before.
    pub(super) job_after: Option<Instant>,
    /// Another session on the member, for what is noted of a job while the transaction is open.
    pub(super) beside: Option<tokio_postgres::Client>,
    /// Times that something was applied in a held transaction.
    pub(super) applications: u64,
    /// Groups that have not the form that the member's tables have, by source.
    pub(super) parked: BTreeMap<NodeId, VecDeque<Box<Group>>>,
    /// When it is looked again whether they can be applied.
    pub(super) look_again: Option<Instant>,
}

/// A link at work.
pub(super) struct Running {
    pub(super) member: Member,
    number: u64,
    pub(super) board: Arc<LinkBoard>,
    /// Groups of this link that wait here.
    there: Arc<AtomicUsize>,
    joining: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Running {
    /// So many of its groups are taken.
    fn waits_less(&self, groups: usize) {
        self.there.fetch_sub(groups, Ordering::AcqRel);
    }
}

impl Item for Group {
    fn rows(&self) -> u64 {
        u64::try_from(Group::rows(self)).unwrap_or(u64::MAX)
    }

    fn end(&self) -> Option<Lsn> {
        self.end.map(|end| end.lsn)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(target: &'a Target, applier: Applier) -> Self {
        let (to_us, from_links) = mpsc::unbounded_channel();
        let (mut tasks, leave) = (JoinSet::new(), CancellationToken::new());
        let (sees, seen) = watch::channel(Seen::default());
        let (setup, node) = (Arc::clone(&target.setup), target.member.name.clone());
        tasks.spawn(ddl_watch::run(setup, node, sees, leave.child_token()));
        Self {
            target,
            applier,
            schedule: Schedule::new(
                target.setup.config.batch.rows,
                target.setup.config.lanes_in_use(),
            ),
            links: BTreeMap::new(),
            number: 0,
            tasks,
            leave,
            hungry: watch::Sender::new(false),
            to_us,
            from_links,
            begun: Instant::now(),
            touched: Instant::now(),
            look: None,
            seen,
            form: None,
            job_after: None,
            beside: None,
            applications: 0,
            parked: BTreeMap::new(),
            look_again: None,
        }
    }

    /// Works until told to stop; what was applied is on disk then.
    pub(super) async fn run(&mut self) -> Result<(), MeshError> {
        let mut roster = self.target.roster.clone();
        roster.mark_changed();
        loop {
            if self.target.stop.is_cancelled() {
                return self.flush_for_good().await;
            }
            let look = self.look.is_some_and(|look| look <= Instant::now());
            if !self.schedule.is_open() && (look || roster.has_changed().unwrap_or(false)) {
                let members = Arc::clone(&roster.borrow_and_update());
                self.follow(&members.members).await?;
            }
            while let Ok(said) = self.from_links.try_recv() {
                self.hear(said)?;
            }
            if !self.schedule.is_open() {
                self.forms_and_jobs().await?;
            }
            match self.schedule.next(self.begun.elapsed()) {
                Step::Apply { lots, durable } => self.apply(lots, durable).await?,
                Step::Flush => {
                    let outcome = self.applier.apply(&[], true).await?;
                    self.done(outcome.durable);
                }
                Step::Wait { .. } if self.is_silent() => {
                    self.applier.apply(&[], false).await?;
                    self.touched = Instant::now();
                }
                Step::Wait { until } => self.wait(until, &mut roster).await?,
            }
        }
    }

    /// Lets go of everything. After a good end the sources hear what is on disk, and that we go.
    pub(super) async fn end(mut self, well: bool) {
        if well {
            self.leave.cancel();
            let all = async { while self.tasks.join_next().await.is_some() {} };
            let _in_time = tokio::time::timeout(LEAVE, all).await;
        }
        // Nobody reads a slot of ours when this is over.
        self.tasks.shutdown().await;
    }

    /// Sees to jobs of `mesh ddl`, and to tables that have another form than they had.
    async fn forms_and_jobs(&mut self) -> Result<(), MeshError> {
        let (form, job) = {
            let seen = self.seen.borrow_and_update();
            (seen.form, seen.job.is_some())
        };
        if form != self.form {
            self.form = form;
            self.applier.refresh(&self.target.setup).await?;
        }
        if job {
            self.job().await?;
        }
        if self.look_again.is_some_and(|look| look <= Instant::now()) {
            self.look_at_parked().await?;
        }
        Ok(())
    }

    async fn wait(
        &mut self,
        until: Option<Duration>,
        roster: &mut watch::Receiver<Arc<Roster>>,
    ) -> Result<(), MeshError> {
        self.hungry.send_if_modified(|hungry| !std::mem::replace(hungry, true));
        let until = until.map(|until| self.begun + until);
        let silent = Some(self.touched + RENEW).filter(|_| !self.schedule.is_open());
        let job = self.job_after.filter(|_| self.seen.borrow().job.is_some());
        let until = [until, self.look, silent, self.look_again, job].into_iter().flatten().min();
        let time_is_up = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            said = self.from_links.recv() => {
                // Whoever else has something has been told at the same moment.
                tokio::task::yield_now().await;
                said.map_or(Ok(()), |said| self.hear(said))
            }
            () = self.target.stop.cancelled() => Ok(()),
            Ok(()) = self.seen.changed(), if !self.schedule.is_open() => {
                self.seen.mark_changed();
                Ok(())
            }
            _ = roster.changed(), if !self.schedule.is_open() => {
                roster.mark_changed();
                Ok(())
            }
            // Links end when they are told to, and else only by a fault of this program.
            Some(Err(fault)) = self.tasks.join_next() => Err(MeshError::refused(
                format!("node `{}`: a link to it has ended: {fault}", self.target.member.name),
                "please report it with the log",
            )),
            () = time_is_up => Ok(()),
        }
    }

    pub(super) async fn apply(
        &mut self,
        lots: Vec<Lot<Group>>,
        durable: bool,
    ) -> Result<(), MeshError> {
        let mut counts = Vec::with_capacity(lots.len());
        let mut taken = |(source, group): (NodeId, Group)| {
            if let Some(link) = self.links.get(&source) {
                link.waits_less(1);
            }
            counts.push((source, group.changes, group.transactions));
            group
        };
        let lots: Vec<Vec<Group>> =
            lots.into_iter().map(|lot| lot.into_iter().map(&mut taken).collect()).collect();
        // Where there are lanes, who has more may bring it while these are applied.
        let more = self.target.setup.config.lanes_in_use() > 1;
        self.hungry.send_if_modified(|hungry| std::mem::replace(hungry, false) || more);
        let waiting = self.applier.waiting();
        let work = self.applier.apply_lots(&lots, durable);
        let outcome = watched(self.target, &waiting, work).await?;
        self.target.board.applied(outcome.rows, outcome.conflicts);
        for (source, changes, transactions) in counts {
            if let Some(link) = self.links.get(&source) {
                link.board.applied(changes, transactions);
            }
        }
        self.done(outcome.durable);
        Ok(())
    }

    /// Whether the member has not heard from us for long.
    fn is_silent(&self) -> bool {
        !self.schedule.is_open() && self.touched.elapsed() >= RENEW
    }

    pub(super) fn done(&mut self, durable: bool) {
        self.touched = Instant::now();
        self.schedule.applied(durable, self.begun.elapsed());
        if !durable {
            return;
        }
        for (source, position) in self.schedule.confirmed() {
            if let Some(link) = self.links.get(&source) {
                link.board.confirm(position);
            }
        }
    }

    /// Everything that was applied goes to disk, and the sources hear of it.
    async fn flush_for_good(&mut self) -> Result<(), MeshError> {
        // An open transaction goes with the session, and comes again.
        if self.schedule.is_flush_wanted() && !self.schedule.is_open() {
            let outcome = self.applier.apply(&[], true).await?;
            self.done(outcome.durable);
        }
        Ok(())
    }

    pub(super) fn hear(&mut self, said: FromLink) -> Result<(), MeshError> {
        let FromLink { source, number, what } = said;
        let Some(link) = self.links.get(&source).filter(|link| link.number == number) else {
            return Ok(());
        };
        match what {
            Said::Group(group) => return self.take_in(source, group),
            Said::BrokenWithin => {
                let (mut dropped, open) = self.schedule.broken_within(source);
                if open {
                    return Err(self.broken(&link.member.name));
                }
                // What waits and goes on comes again.
                if let Some(parked) = self.parked.get_mut(&source) {
                    while parked.pop_back_if(|group| group.end.is_none()).is_some() {
                        dropped += 1;
                    }
                    if parked.is_empty() {
                        self.parked.remove(&source);
                    }
                }
                link.waits_less(dropped);
            }
        }
        Ok(())
    }

    /// A transaction that is half applied will not come to its end in this session.
    fn broken(&self, from: &NodeName) -> MeshError {
        MeshError::BrokenWithin { node: self.target.member.name.clone(), from: from.clone() }
    }

    /// Makes a link for each member that has none, and ends those of who is no more.
    async fn follow(&mut self, members: &[Member]) -> Result<(), MeshError> {
        let gone: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(id, _)| !members.iter().any(|member| member.id == **id))
            .map(|(id, _)| *id)
            .collect();
        let joining = |id: NodeId| {
            let mut all = members.iter();
            all.any(|member| member.id == id && member.state == MemberState::Joining)
        };
        let we_join = joining(self.target.member.id);
        for (id, link) in &self.links {
            link.joining.store(we_join || joining(*id), Ordering::Relaxed);
        }
        for id in gone {
            let Some(link) = self.links.remove(&id) else { continue };
            link.stop.cancel();
            self.target.board.forget(&link.member.name);
            self.parked.remove(&id);
            if self.schedule.remove(id) {
                return Err(self.broken(&link.member.name));
            }
        }
        self.look = None;
        let new: Vec<&Member> =
            members.iter().filter(|member| !self.links.contains_key(&member.id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        // A copy may just have ended.
        self.applier.look_at_evicted().await?;
        let progress = self.applier.progress().await?;
        for member in new {
            match progress.get(&member.id) {
                Some(progress) => {
                    self.begin(member, progress.lsn, we_join || joining(member.id));
                }
                // Whoever prepares the member has not come that far, or this is being undone.
                None => self.look = Some(Instant::now() + LOOK),
            }
        }
        Ok(())
    }

    fn begin(&mut self, member: &Member, applied: Lsn, joining: bool) {
        let Some(info) = self.target.setup.nodes.get(&member.name) else {
            // The engine has said so.
            return;
        };
        self.number += 1;
        self.schedule.add(member.id, applied, self.begun.elapsed());
        let board = self.target.board.link(&member.name);
        let (there, stop) = (Arc::new(AtomicUsize::new(0)), self.leave.child_token());
        let joining = Arc::new(AtomicBool::new(joining));
        let link = Link {
            setup: Arc::clone(&self.target.setup),
            source: member.clone(),
            target: self.target.member.clone(),
            info: info.clone(),
            joining: Arc::clone(&joining),
            number: self.number,
            handed: applied,
            board: Arc::clone(&board),
            demand: Demand {
                hungry: self.hungry.subscribe(),
                there: Arc::clone(&there),
                most: self.target.setup.config.lanes_in_use(),
            },
            pauses: self.target.pauses.clone(),
            out: self.to_us.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn(link.run());
        let number = self.number;
        let running = Running { member: member.clone(), number, board, there, joining, stop };
        self.links.insert(member.id, running);
    }
}
