//! In which order a switchover goes, and what follows from each failure. Pure.

/// One thing to do. Its outcome decides about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Whether the target can take over at all.
    Check,
    /// Write a checkpoint on the old primary while clients still work, so that its shutdown has little left to write.
    Checkpoint,
    /// Begin no transaction that writes.
    Hold,
    /// Wait until those that run have ended.
    AwaitIdle,
    /// Cut off what still runs on the old primary, and note how far its log has come.
    Retire,
    /// Run the command that ends the old primary's role.
    Demote,
    /// Wait until the old primary is none any more and the target has replayed everything it had.
    AwaitReplayed,
    /// Make the target primary.
    Promote,
    /// Have the other standbys follow it, beside what comes next.
    FollowOthers,
    /// Wait until the watcher has proof that the target is the primary.
    AwaitPrimary,
    /// After a failure: wait until the watcher names the old primary again.
    AwaitOld,
    /// Let transactions begin.
    Resume,
    /// Wait for the other standbys, and have the old primary follow as well.
    FollowOld,
    /// It is over.
    End,
}

/// How it ended, or would end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The target is the primary.
    Done,
    /// The target is the primary, but not everything follows it.
    DoneButFollowers,
    /// Nothing has changed.
    Unchanged,
    /// The old primary's role was to be ended, and nobody is known to be primary.
    Nobody,
}

/// A switchover's way.
#[derive(Debug)]
pub(crate) struct Machine {
    act: Act,
    forced: bool,
    ending: Ending,
    /// The first thing that went wrong, and where.
    failure: Option<(Act, String)>,
}

impl Machine {
    /// At the beginning. `forced`: transactions that do not end in time are cut off, rather than the switchover given up.
    pub(crate) const fn new(forced: bool) -> Self {
        Self { act: Act::Check, forced, ending: Ending::Unchanged, failure: None }
    }

    /// What is to be done now.
    pub(crate) const fn act(&self) -> Act {
        self.act
    }

    pub(crate) const fn ending(&self) -> Ending {
        self.ending
    }

    /// What went wrong first.
    pub(crate) fn failure(&self) -> Option<(Act, &str)> {
        self.failure.as_ref().map(|(act, why)| (*act, why.as_str()))
    }

    /// Goes on after the act was done, or was not.
    pub(crate) fn step(&mut self, outcome: Result<(), String>) {
        use Act::{
            AwaitIdle, AwaitOld, AwaitPrimary, AwaitReplayed, Check, Checkpoint, Demote, End,
            FollowOld, FollowOthers, Hold, Promote, Resume, Retire,
        };
        let done = outcome.is_ok();
        // To let transactions begin again cannot go wrong.
        if let Err(why) = outcome
            && self.act != Resume
        {
            self.failure.get_or_insert((self.act, why));
        }
        self.act = match (self.act, done) {
            (Check, true) => Checkpoint,
            (Checkpoint, true) => Hold,
            (Hold, true) => AwaitIdle,
            (AwaitIdle, true) => Retire,
            (AwaitIdle, false) if self.forced => {
                self.failure = None;
                Retire
            }
            (Retire, true) => Demote,
            (Demote, true) => AwaitReplayed,
            (AwaitReplayed, true) => Promote,
            // A promotion that failed may have happened all the same: what the watcher sees counts.
            (Promote, _) => FollowOthers,
            (FollowOthers, _) => AwaitPrimary,
            (AwaitPrimary, true) => {
                self.ending = Ending::Done;
                self.failure = None;
                Resume
            }
            // From here on the old primary may be none any more, and nothing else has been promoted: if it is one all the
            // same, then it stays one.
            (Demote | AwaitReplayed, false) => AwaitOld,
            (AwaitOld, true) | (Hold | AwaitIdle | Retire, false) => Resume,
            (AwaitOld | AwaitPrimary, false) => {
                self.ending = Ending::Nobody;
                Resume
            }
            (Resume, _) if self.ending == Ending::Done => FollowOld,
            (FollowOld, false) => {
                self.ending = Ending::DoneButFollowers;
                End
            }
            // Before the hold, nothing is to be undone.
            (Check | Checkpoint, false) | (Resume | FollowOld | End, _) => End,
        };
    }
}
