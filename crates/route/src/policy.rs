//! Which node a statement goes to: facts about every node become a [`Plan`], and the plan answers each statement.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

pub(crate) mod balance;
mod seats;

#[cfg(test)]
mod tests;

use std::time::Duration;

use herdsman_watch::MaxLag;

use crate::config::Fallback;
pub(crate) use seats::{Facts, Lag, Part, plan};

/// Who may be used for what, right now. Replaced as a whole on every change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Nodes that may be written to.
    pub(crate) writers: Vec<Seat>,
    /// Nodes that may be read, those in our zone first.
    pub(crate) readers: Vec<Seat>,
    /// How many of `readers` are in our zone, or all if none is.
    pub(crate) near: usize,
    /// Why each other node may not be written to, by node, for errors.
    pub(crate) no_writer: String,
    /// Why each other node may not be read, by node, for errors.
    pub(crate) no_reader: String,
}

/// A node that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Its index in the set.
    pub(crate) node: usize,
    /// Its share of the load: weight times how far it has come in its slow start.
    pub(crate) share: u32,
}

/// The rules of a set that do not change.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) max_lag: MaxLag,
    pub(crate) slow_start: Duration,
}

/// What a statement wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// A node to read.
    Read,
    /// A node to write to.
    Write,
}

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// To this reader.
    Reader(usize),
    /// To this writer.
    Writer(usize),
    /// Nowhere yet: wait for the plan to change.
    Wait,
    /// Nowhere: the fallback is an error.
    Refuse,
}

impl Plan {
    /// Chooses for a statement that wants `want`, has failed on the nodes `tried`, and may only read from readers that
    /// `fit` (those that have replayed what its session wrote). `pick` balances among seats and is never given none.
    ///
    /// A node that failed this statement is used for it again only when there is no other: it may have come back.
    pub(crate) fn choose(
        &self,
        want: Want,
        fallback: Fallback,
        tried: &[usize],
        fit: Option<&dyn Fn(usize) -> bool>,
        mut pick: impl FnMut(&[Seat]) -> usize,
    ) -> Choice {
        if want == Want::Read {
            if let Some(node) = self.reader(tried, fit, &mut pick) {
                return Choice::Reader(node);
            }
            match fallback {
                Fallback::Error => return Choice::Refuse,
                Fallback::Wait => return Choice::Wait,
                Fallback::Writer => {}
            }
        }
        match among(&self.writers, tried, None, &mut pick) {
            Some(node) => Choice::Writer(node),
            None if want == Want::Read => self
                .reader(&[], fit, &mut pick)
                .map_or_else(|| self.writer_again(&mut pick), Choice::Reader),
            None => self.writer_again(&mut pick),
        }
    }

    fn reader(
        &self,
        tried: &[usize],
        fit: Option<&dyn Fn(usize) -> bool>,
        pick: &mut impl FnMut(&[Seat]) -> usize,
    ) -> Option<usize> {
        let (near, far) = self.readers.split_at_checked(self.near)?;
        among(near, tried, fit, pick).or_else(|| among(far, tried, fit, pick))
    }

    fn writer_again(&self, pick: &mut impl FnMut(&[Seat]) -> usize) -> Choice {
        among(&self.writers, &[], None, pick).map_or(Choice::Wait, Choice::Writer)
    }

    /// Whether `node` may be written to.
    pub(crate) fn writes(&self, node: usize) -> bool {
        self.writers.iter().any(|seat| seat.node == node)
    }

    /// Whether `node` may be read as a reader.
    pub(crate) fn reads(&self, node: usize) -> bool {
        self.readers.iter().any(|seat| seat.node == node)
    }
}

/// One of `seats` that was not tried and fits. Allocates only if there is something to leave out.
fn among(
    seats: &[Seat],
    tried: &[usize],
    fit: Option<&dyn Fn(usize) -> bool>,
    pick: &mut impl FnMut(&[Seat]) -> usize,
) -> Option<usize> {
    if tried.is_empty() && fit.is_none() {
        return (!seats.is_empty()).then(|| pick(seats));
    }
    let open = |seat: &&Seat| !tried.contains(&seat.node) && fit.is_none_or(|fit| fit(seat.node));
    let left: Vec<Seat> = seats.iter().filter(open).copied().collect();
    (!left.is_empty()).then(|| pick(&left))
}
