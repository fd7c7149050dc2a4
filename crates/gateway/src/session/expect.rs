//! What the server still has to answer, in order, and what becomes of each answer.

use std::collections::VecDeque;

/// One answer that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// `ParseComplete`, of the statement with this id (0: the unnamed one).
    Parse { shown: bool, id: u64 },
    /// We say `ParseComplete` here ourselves: the server has the statement already.
    Parsed { id: u64 },
    /// `BindComplete`.
    Bind { shown: bool },
    /// `RowDescription` or `NoData`, perhaps after `ParameterDescription`.
    Describe,
    /// Rows and the end of a statement; whether its effect waits in the queue of effects.
    Execute { shown: bool, effect: bool },
    /// The row of a check of ours, and its end.
    Guard,
    /// `CloseComplete`; of a statement that made room for another, its id, else 0.
    Close { shown: bool, evicted: u64 },
    /// We say `CloseComplete` here ourselves.
    Closed,
    /// `ReadyForQuery` after `Sync`.
    Sync { shown: bool },
    /// Everything a simple query or function call answers, up to `ReadyForQuery`.
    Query { of: Of, effect: bool },
}

/// Whose simple query it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The client's.
    Client,
    /// Ours, sent ahead: its failure makes everything after it void.
    Ahead,
}

impl Expect {
    /// Whether the client is to see it.
    pub(super) const fn shown(self) -> bool {
        match self {
            Self::Parse { shown, .. }
            | Self::Bind { shown }
            | Self::Execute { shown, .. }
            | Self::Close { shown, .. }
            | Self::Sync { shown } => shown,
            Self::Query { of, .. } => matches!(of, Of::Client),
            Self::Guard => false,
            Self::Parsed { .. } | Self::Describe | Self::Closed => true,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Expects {
    queue: VecDeque<Expect>,
}

impl Expects {
    #[inline]
    pub(super) fn push(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    #[inline]
    pub(super) fn front(&self) -> Option<Expect> {
        self.queue.front().copied()
    }

    #[inline]
    pub(super) fn front_mut(&mut self) -> Option<&mut Expect> {
        self.queue.front_mut()
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Expect> {
        self.queue.pop_front()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// The server has begun to take `COPY` data for what is in front: it ignores every `Sync` behind that which it was sent
    /// already.
    pub(super) fn forget_syncs(&mut self) {
        let mut behind = false;
        self.queue.retain(|expect| {
            !std::mem::replace(&mut behind, true) || !matches!(expect, Expect::Sync { .. })
        });
    }

    /// How many `ReadyForQuery` the client still waits for.
    pub(super) fn readies(&self) -> usize {
        let ready = |expect: &&Expect| match expect {
            Expect::Sync { shown } => *shown,
            Expect::Query { of, .. } => *of == Of::Client,
            _ => false,
        };
        self.queue.iter().filter(ready).count()
    }

    /// What is to come, in order.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Expect> {
        self.queue.iter()
    }
}
