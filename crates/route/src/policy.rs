//! Which node a statement goes to: facts about every node become a [`Plan`], and the plan answers each statement.
//!
//! Nothing here does I/O, reads a clock or draws a random number. The library and the gateway decide by the same plan.
//!
//! ```
//! use herdsman::Fallback;
//! use herdsman::policy::{Choice, Facts, Health, Part, Rules, Want, plan};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let seen = |name: &str, primary| Facts {
//!     name: name.parse().unwrap(),
//!     health: Health::Unknown,
//!     error: None,
//!     part: Part::Seen { primary, readable: !primary, reason: "is a standby".to_owned() },
//!     in_recovery: Some(!primary),
//!     lag: None,
//!     weight: 1,
//!     near: true,
//! };
//! let plan = plan(&[seen("n1", true), seen("n2", false)], &Rules::default(), tokio::time::Instant::now());
//! let choose = |want| plan.choose(want, Fallback::Writer, &[], None, |seats| seats[0].node);
//! assert_eq!(choose(Want::Write), Choice::Writer(0));
//! assert_eq!(choose(Want::Read), Choice::Reader(1));
//! assert_eq!(plan.no_writer, "n2 is a standby");
//! # });
//! ```

pub mod balance;
mod health;
mod seats;

#[cfg(test)]
mod tests;

use std::time::Duration;

use herdsman_watch::MaxLag;

use crate::config::Fallback;
pub use health::Health;
pub use seats::{Facts, Lag, Part, plan};

/// Who may be used for what, right now. Replaced as a whole on every change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes that may be written to.
    pub writers: Vec<Seat>,
    /// Nodes that may be read, those in our zone first.
    pub readers: Vec<Seat>,
    /// How many of `readers` are in our zone, or all if none is.
    pub near: usize,
    /// Why each other node may not be written to, by node, for errors.
    pub no_writer: String,
    /// Why each other node may not be read, by node, for errors.
    pub no_reader: String,
}

/// A node that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its index in the set.
    pub node: usize,
    /// Its share of the load: weight times how far it has come in its slow start.
    pub share: u32,
}

/// The rules of a set that do not change.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A reader further behind is not read.
    pub max_lag: MaxLag,
    /// How long a node that came back takes to its full share.
    pub slow_start: Duration,
}

/// No bound on lag, no slow start.
impl Default for Rules {
    fn default() -> Self {
        Self { max_lag: MaxLag { bytes: None, time: None }, slow_start: Duration::ZERO }
    }
}

/// What a statement wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A node to read.
    Read,
    /// A node to write to.
    Write,
}

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
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
    pub fn choose(
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
    #[must_use]
    pub fn writes(&self, node: usize) -> bool {
        self.writers.iter().any(|seat| seat.node == node)
    }

    /// Whether `node` may be read as a reader.
    #[must_use]
    pub fn reads(&self, node: usize) -> bool {
        self.readers.iter().any(|seat| seat.node == node)
    }
}

/// Up to this many seats are picked among without allocating.
const FEW: usize = 16;

/// One of `seats` that was not tried and fits.
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
    let left = seats.iter().filter(open).copied();
    let mut few = [Seat { node: 0, share: 0 }; FEW];
    if seats.len() > FEW {
        let left: Vec<Seat> = left.collect();
        return (!left.is_empty()).then(|| pick(&left));
    }
    let mut count = 0;
    for (place, seat) in few.iter_mut().zip(left) {
        *place = seat;
        count += 1;
    }
    few.get(..count).filter(|left| !left.is_empty()).map(pick)
}
