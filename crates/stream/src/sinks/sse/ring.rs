//! The last events. Pure.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use herdsman_node::Lsn;
use herdsman_wal::{Glob, Relation};

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    commit_lsn: Lsn,
    ordinal: u64,
}

/// One change as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: Option<Id>,
    pub(super) tables: Box<[Arc<Relation>]>,
    pub(super) text: Bytes,
}

/// The last events, numbered from the first one ever.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    /// Number of the oldest that is there.
    first: u64,
    bytes: usize,
    /// Name of the newest that is no longer there.
    forgotten: Option<Id>,
    keep: usize,
    keep_bytes: usize,
}

/// What is ready for a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// These bytes, after which it stands at this number.
    Text(Vec<u8>, u64),
    /// Nothing that it wants.
    Nothing(u64),
    /// Its next event is no longer there.
    Lagged,
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// After everything that has been, or after what it has seen.
    At(u64),
    /// At the oldest there is: between that and what it has seen, something may be missing.
    Gap(u64),
}

/// Bytes copied for a subscriber at once.
const PORTION: usize = 256 * 1024;

impl Default for Ring {
    fn default() -> Self {
        let (keep, keep_bytes) = (1000, 16 << 20);
        Self { events: VecDeque::new(), first: 0, bytes: 0, forgotten: None, keep, keep_bytes }
    }
}

impl Ring {
    pub(super) fn bound(&mut self, keep: usize, keep_bytes: usize) {
        (self.keep, self.keep_bytes) = (keep, keep_bytes);
        self.shrink();
    }

    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.text.len();
        self.events.push_back(event);
        self.shrink();
    }

    /// Where to begin for who has seen `last`, or comes for the first time.
    pub(super) fn begin(&self, last: Option<Option<Id>>) -> Begin {
        let Some(last) = last else { return Begin::At(self.end()) };
        let after = |seen: Id| {
            let place = self.events.iter().rposition(|event| event.id == Some(seen));
            let offset = place.map(|place| place + 1).or((self.forgotten == last).then_some(0))?;
            Some(self.first + u64::try_from(offset).unwrap_or(0))
        };
        // A name that is none was never given: somebody else's.
        last.and_then(after).map_or(Begin::Gap(self.first), Begin::At)
    }

    /// What is there from `number` on, for who wants these tables.
    pub(super) fn read(&self, number: u64, tables: &[Glob]) -> Ready {
        let Some(skip) = number.checked_sub(self.first) else { return Ready::Lagged };
        let (mut text, mut next) = (Vec::new(), number);
        for event in self.events.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
            if text.len() >= PORTION {
                break;
            }
            next += 1;
            if event.is_wanted(tables) {
                text.extend_from_slice(&event.text);
            }
        }
        if text.is_empty() { Ready::Nothing(next) } else { Ready::Text(text, next) }
    }

    /// Name of the event before `number`, where it has one.
    pub(super) fn name_before(&self, number: u64) -> Option<Id> {
        let place = number.checked_sub(self.first)?;
        match usize::try_from(place).ok()?.checked_sub(1) {
            Some(place) => self.events.get(place)?.id,
            None => self.forgotten,
        }
    }

    fn end(&self) -> u64 {
        self.first + u64::try_from(self.events.len()).unwrap_or(0)
    }

    fn shrink(&mut self) {
        while self.events.len() > self.keep
            || (self.bytes > self.keep_bytes && self.events.len() > 1)
        {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= event.text.len();
            self.first += 1;
            self.forgotten = event.id;
        }
    }
}

impl Event {
    fn is_wanted(&self, wanted: &[Glob]) -> bool {
        let any =
            |table: &Relation| wanted.iter().any(|glob| glob.matches(&table.schema, &table.name));
        wanted.is_empty() || self.tables.iter().any(|table| any(table))
    }
}

impl From<(Lsn, u64)> for Id {
    fn from((commit_lsn, ordinal): (Lsn, u64)) -> Self {
        Self { commit_lsn, ordinal }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.commit_lsn, self.ordinal)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (lsn, ordinal) = text.rsplit_once('/').ok_or(())?;
        let commit_lsn = lsn.parse().map_err(|_| ())?;
        Ok(Self { commit_lsn, ordinal: ordinal.parse().map_err(|_| ())? })
    }
}
