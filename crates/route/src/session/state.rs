//! What a session knows of its own writes: a state machine without clock, lock or server.

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use super::SessionToken;

/// What a read of the session must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing was written: any reader will do.
    Nothing,
    /// A reader that has replayed this, or the writer.
    Token(SessionToken),
    /// Something was written and its position is not known: ask the writer for it, or read there.
    AskWriter,
    /// Only the writer: what is written cannot be told by a position yet.
    Writer,
}

/// A moment in a session: the writes acknowledged before it are those a position asked after it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// What can be told of a session to whoever goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has nothing to tell.
    Nothing,
    /// This stands for all of it.
    Token(SessionToken),
    /// The writer's position is to be asked first.
    Ask,
    /// Something is still being written: a position asked now would not stand for it.
    Unfinished,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Committed,
    RolledBack,
    /// The commit was sent and its answer was not seen.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Stands for every write up to `settled`, and for what was observed.
    token: Option<SessionToken>,
    /// Writes acknowledged so far, and whatever else has put the token out of date.
    writes: u64,
    /// How many of them the token stands for.
    settled: u64,
    /// Transactions under way whose end will be seen.
    transactions: u32,
    /// Autocommitted writes without an answer so far.
    in_flight: u32,
    /// Something was or may yet be committed without us seeing it.
    unseen: bool,
}

impl State {
    /// A write was acknowledged.
    pub(super) const fn wrote(&mut self) {
        self.writes = self.writes.saturating_add(1);
    }

    /// From now on something may be committed without us seeing it.
    pub(super) const fn began(&mut self) {
        self.unseen = true;
    }

    /// An autocommitted write is about to be sent.
    pub(super) const fn sent(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// The answer to what was sent has come, or will never be seen.
    pub(super) const fn answered(&mut self, seen: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if seen {
            self.wrote();
        } else {
            self.began();
        }
    }

    /// A transaction was opened whose end will be seen.
    pub(super) const fn opened(&mut self) {
        self.transactions = self.transactions.saturating_add(1);
    }

    /// Such a transaction ended.
    pub(super) const fn closed(&mut self, end: End) {
        self.transactions = self.transactions.saturating_sub(1);
        match end {
            End::Committed => self.wrote(),
            End::RolledBack => {}
            End::Unknown => self.began(),
        }
    }

    /// Another's writes are to be respected, too.
    pub(super) fn observe(&mut self, token: SessionToken) {
        if self.token.is_some_and(|known| known.system_id != token.system_id) {
            // One of the two is forgotten, so neither may be taken for all there is: only the writer can say.
            self.wrote();
        }
        self.token = Some(self.token.map_or(token, |known| known.max(token)));
    }

    pub(super) const fn needs(&self) -> Needs {
        match self.token {
            _ if self.unseen || self.transactions > 0 => Needs::Writer,
            _ if self.dirty() => Needs::AskWriter,
            Some(token) => Needs::Token(token),
            None => Needs::Nothing,
        }
    }

    pub(super) const fn pending(&self) -> Option<Mark> {
        // What is not seen may be committed at any time, so no answer is ever the last.
        if self.dirty() || self.unseen { Some(Mark(self.writes)) } else { None }
    }

    pub(super) fn settle(&mut self, mark: Mark, token: SessionToken) {
        let newest = mark.0 == self.writes;
        self.observe(token);
        // Writes after the mark may be later than the position that was asked for. A token of another cluster that gives
        // way to the newest answer is settled with it, and answers to older questions stay older.
        self.settled = if newest { self.writes } else { self.settled.max(mark.0) };
    }

    pub(super) const fn ending(&self) -> Ending {
        match self.token {
            _ if self.transactions > 0 || self.in_flight > 0 => Ending::Unfinished,
            _ if self.pending().is_some() => Ending::Ask,
            Some(token) => Ending::Token(token),
            None => Ending::Nothing,
        }
    }

    const fn dirty(&self) -> bool {
        self.writes > self.settled
    }
}
