//! Prepared statements at the level of the protocol: shared texts, each client's names, what each server has.
//!
//! A client's name means something to that client only. On servers a text has the name `hm_<id>`, the same for everybody
//! who prepares it, so that one server connection parses it once for all of them. The unnamed statement stays unnamed:
//! PostgreSQL plans it for the values at hand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use crate::effects::{Effect, effect};

/// A text with the types of its parameters.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Never used twice in this process.
    pub(crate) id: u64,
    /// What it is called on servers.
    pub(crate) name: Box<[u8]>,
    pub(crate) query: Box<[u8]>,
    /// As in `Parse`: their number, and each.
    pub(crate) types: Box<[u8]>,
    /// What it leaves behind.
    pub(crate) effect: Effect,
    /// Some server has taken it.
    taken: AtomicBool,
}

impl Statement {
    /// A server has taken it.
    pub(crate) fn was_taken(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// Whether some server has taken it: then others will, too.
    pub(crate) fn is_known_good(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Texts that somebody has prepared, shared by every client. A text nobody uses any more is forgotten.
type Shelf = HashMap<(Box<[u8]>, Box<[u8]>), Weak<Statement>>;

/// As many locks, so that workers rarely meet.
const SHELVES: usize = 16;

static TEXTS: LazyLock<[Mutex<Shelf>; SHELVES]> = LazyLock::new(Default::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

fn shelf_of(query: &[u8]) -> Option<&'static Mutex<Shelf>> {
    let place = query.len().wrapping_mul(31).wrapping_add(usize::from(*query.last().unwrap_or(&0)));
    TEXTS.get(place % SHELVES)
}

/// A server has said that what it prepared of this text does not hold any more, as after a change of a table. Whoever
/// prepares the text from now on gets another statement, which every server prepares anew.
pub(crate) fn outdate(statement: &Statement) {
    let Some(shelf) = shelf_of(&statement.query) else { return };
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    // Also a newer one than this: it may be older than the change.
    shelf.remove(&(statement.query.clone(), statement.types.clone()));
}

/// The statement of this text: the one there is, or a new one.
pub(crate) fn intern(query: &[u8], types: &[u8]) -> Arc<Statement> {
    let Some(shelf) = shelf_of(query) else { return make(query, types) };
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (Box::from(query), Box::from(types));
    if let Some(statement) = shelf.get(&key).and_then(Weak::upgrade) {
        return statement;
    }
    // Where it would have to grow, those that are gone make room first.
    if shelf.len() == shelf.capacity() {
        shelf.retain(|_, statement| statement.strong_count() > 0);
    }
    let statement = make(query, types);
    shelf.insert(key, Arc::downgrade(&statement));
    statement
}

fn make(query: &[u8], types: &[u8]) -> Arc<Statement> {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    Arc::new(Statement {
        id,
        name: format!("hm_{id:x}").into_bytes().into(),
        query: query.into(),
        types: types.into(),
        effect: str::from_utf8(query).map_or(Effect::Unknown, effect),
        taken: AtomicBool::new(false),
    })
}

/// What is prepared on one server connection.
#[derive(Debug, Default)]
pub(crate) struct ServerStatements {
    /// By id, with the moment of its last use.
    there: HashMap<u64, u64>,
    moment: u64,
}

impl ServerStatements {
    /// Whether it is there; if so, it has been used now.
    #[inline]
    pub(crate) fn touch(&mut self, id: u64) -> bool {
        self.moment += 1;
        match self.there.get_mut(&id) {
            Some(used) => {
                *used = self.moment;
                true
            }
            None => false,
        }
    }

    /// It is there from now on. Returns the one that has to go for it, the one unused for longest, where there are `most`.
    pub(crate) fn add(&mut self, id: u64, most: usize) -> Option<u64> {
        let full = self.there.len() >= most.max(1);
        let oldest = self.there.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id);
        let gone = oldest.filter(|_| full);
        if let Some(gone) = gone {
            self.there.remove(&gone);
        }
        self.moment += 1;
        self.there.insert(id, self.moment);
        gone
    }

    /// It is not there after all, or no longer.
    pub(crate) fn remove(&mut self, id: u64) {
        self.there.remove(&id);
    }

    /// It is still there after all.
    pub(crate) fn restore(&mut self, id: u64) {
        self.there.insert(id, self.moment);
    }

    /// Nothing is there any more (`DISCARD ALL`, `DEALLOCATE ALL`).
    pub(crate) fn clear(&mut self) {
        self.there.clear();
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.there.len()
    }
}

/// The server's name of a statement by its id.
pub(crate) fn server_name(id: u64) -> Vec<u8> {
    format!("hm_{id:x}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_with_the_same_types_is_one_statement() {
        let one = intern(b"select $1 -- statements test", &[0, 0]);
        assert_eq!(intern(b"select $1 -- statements test", &[0, 0]).id, one.id);
        assert_ne!(intern(b"select $1 -- statements test", &[0, 1, 0, 0, 0, 23]).id, one.id);
        assert_eq!(*one.name, *server_name(one.id));
        let id = one.id;
        drop(one);
        assert_ne!(intern(b"select $1 -- statements test", &[0, 0]).id, id, "nobody used it");
    }

    #[test]
    fn an_outdated_statement_is_another_one_for_those_who_prepare_it_next() {
        let old = intern(b"select * from changed -- statements test", &[0, 0]);
        outdate(&old);
        let new = intern(b"select * from changed -- statements test", &[0, 0]);
        assert_ne!(new.id, old.id);
        assert_eq!(intern(b"select * from changed -- statements test", &[0, 0]).id, new.id);
    }

    #[test]
    fn the_one_unused_for_longest_makes_room() {
        let mut there = ServerStatements::default();
        assert_eq!((there.add(1, 2), there.add(2, 2)), (None, None));
        assert!(there.touch(1));
        assert_eq!(there.add(3, 2), Some(2));
        assert!(!there.touch(2));
        assert_eq!(there.len(), 2);
    }
}
