//! The classifier that all tasks share: what is known now, and the answers given before.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::functions::hash;
use super::shape::{self, Template, shape};
use super::{Class, Functions, Why, classify};

/// Texts a reader refused that are remembered, as hashes. The oldest is forgotten: it would only be learnt again.
const REFUSED: usize = 4096;
/// Answers each thread remembers.
const ANSWERS: usize = 512;
/// Shapes each thread has at hand.
const PLACES: usize = 64;
/// Bytes by which they are told apart at once. With more of them, more would begin with a number.
const BEGINNING: usize = 16;
/// Longer texts are not remembered: they are rarely the same twice, and looking at them costs little beside running them.
const LONGEST: usize = 4096;
/// Bytes of text each thread remembers at most; when it is full, it begins anew.
const BYTES: usize = 512 * 1024;

/// Classifies statements for many tasks at once, learns, and remembers answers; no lock is taken to classify.
///
/// ```
/// use herdsman::classify::{Classifier, Kind};
///
/// let classifier = Classifier::new();
/// assert_eq!(classifier.classify("SELECT * FROM audited_view").kind, Kind::Read);
/// // … a reader answers 25006: the view calls something that writes.
/// classifier.learn_write("SELECT * FROM audited_view");
/// assert_eq!(classifier.classify("SELECT * FROM audited_view").kind, Kind::Write);
/// ```
#[derive(Debug)]
pub struct Classifier {
    state: ArcSwap<State>,
    /// That of `state`. Never used twice in a process, so that answers of different classifiers and times never mix.
    generation: AtomicU64,
    /// The refused texts, oldest first; taken only to learn.
    refused: Mutex<VecDeque<u64>>,
}

#[derive(Clone, Debug)]
struct State {
    functions: Arc<Functions>,
    refused: Arc<HashSet<u64>>,
}

impl Classifier {
    /// Knows the built-in functions only, until [`learn`](Self::learn).
    #[must_use]
    pub fn new() -> Self {
        let state = State { functions: Arc::new(Functions::builtin()), refused: Arc::default() };
        Self {
            state: ArcSwap::from_pointee(state),
            generation: AtomicU64::new(next_generation()),
            refused: Mutex::default(),
        }
    }

    /// The class of one text, as far as is known now.
    pub fn classify(&self, sql: &str) -> Class {
        if let Some(class) = self.classify_plain(sql.as_bytes()) {
            return class;
        }
        let hash = hash(sql.as_bytes());
        if sql.len() > LONGEST {
            return self.look(sql, hash);
        }
        let generation = self.generation.load(Ordering::Acquire);
        self.remembered(sql.as_bytes(), hash, generation, || self.look(sql, hash))
    }

    /// The class of a plain text: one of up to 512 bytes of ASCII with no string, quoted name or comment in it, and so with
    /// no [hint](super::hint). `None` for any other: see [`classify`](Self::classify).
    ///
    /// Cheaper than that, since texts that differ in whole numbers only are looked at once.
    ///
    /// ```
    /// use herdsman::classify::{Classifier, Kind};
    ///
    /// let classifier = Classifier::new();
    /// let class = classifier.classify_plain(b"SELECT name FROM sheep WHERE id = 407");
    /// assert_eq!(class.map(|class| class.kind), Some(Kind::Read));
    /// let class = classifier.classify_plain(b"UPDATE sheep SET name = $1 WHERE id = $2");
    /// assert_eq!(class.map(|class| class.kind), Some(Kind::Write));
    /// assert_eq!(classifier.classify_plain(b"SELECT 'a string'"), None);
    /// ```
    #[inline]
    pub fn classify_plain(&self, sql: &[u8]) -> Option<Class> {
        // Read before the state: an answer may be newer than its generation says, never older.
        let generation = self.generation.load(Ordering::Acquire);
        let latest = LATEST.with(|latest| latest.try_borrow().ok()?.find(sql, generation));
        latest.or_else(|| self.classify_shape(sql, generation))
    }

    fn classify_shape(&self, sql: &[u8], generation: u64) -> Option<Class> {
        let mut room = [0; shape::LONGEST];
        let shape = shape(sql, &mut room)?;
        let hash = hash(shape);
        let class = self.remembered(shape, hash, generation, || {
            // Its shape is of ASCII.
            let text = str::from_utf8(sql).unwrap_or_default();
            self.look(text, hash)
        });
        LATEST.with(|latest| {
            if let Ok(mut latest) = latest.try_borrow_mut() {
                latest.put(sql, Seen { generation, class, template: Template::new(shape) });
            }
        });
        Some(class)
    }

    /// What was answered before to this key, else what `look` says.
    fn remembered(
        &self,
        key: &[u8],
        hash: u64,
        generation: u64,
        look: impl Fn() -> Class,
    ) -> Class {
        ANSWERED.with(|answers| {
            let Ok(mut answers) = answers.try_borrow_mut() else { return look() };
            answers.find(key, hash, generation).unwrap_or_else(|| {
                let class = look();
                answers.put(key, hash, generation, class);
                class
            })
        })
    }

    /// Replaces what is known of functions.
    pub fn learn(&self, functions: Functions) {
        let _learning = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = Arc::clone(&self.state.load().refused);
        self.publish(State { functions: Arc::new(functions), refused });
    }

    /// A server refused this text in a read-only transaction (`25006`): from now on it is a write, and so is what differs
    /// from it in whole numbers only. Up to 4096 texts are remembered, then the oldest is forgotten.
    pub fn learn_write(&self, sql: &str) {
        let mut order = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load_full();
        let mut room = [0; shape::LONGEST];
        let hash = hash(shape(sql.as_bytes(), &mut room).unwrap_or(sql.as_bytes()));
        let mut refused = HashSet::clone(&state.refused);
        if !refused.insert(hash) {
            return;
        }
        order.push_back(hash);
        if order.len() > REFUSED
            && let Some(oldest) = order.pop_front()
        {
            refused.remove(&oldest);
        }
        self.publish(State { functions: Arc::clone(&state.functions), refused: Arc::new(refused) });
    }

    fn publish(&self, state: State) {
        self.state.store(Arc::new(state));
        self.generation.store(next_generation(), Ordering::Release);
    }

    fn look(&self, sql: &str, hash: u64) -> Class {
        let state = self.state.load();
        let class = classify(sql, &state.functions);
        if class.is_read() && state.refused.contains(&hash) {
            return Class::write(Why::RefusedBefore);
        }
        class
    }
}

impl Default for Classifier {
    fn default() -> Self {
        Self::new()
    }
}

fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

thread_local! {
    static ANSWERED: RefCell<Answers> = const { RefCell::new(Answers { slots: Vec::new(), bytes: 0 }) };
}

thread_local! {
    static LATEST: RefCell<Latest> = const { RefCell::new(Latest([const { None }; PLACES])) };
}

/// The latest shapes of one thread, by how texts begin.
struct Latest([Option<Seen>; PLACES]);

struct Seen {
    generation: u64,
    class: Class,
    template: Template,
}

impl Latest {
    #[inline]
    fn find(&self, sql: &[u8], generation: u64) -> Option<Class> {
        let seen = self.0.get(place(sql)?)?.as_ref()?;
        (seen.generation == generation && seen.template.fits(sql)).then_some(seen.class)
    }

    fn put(&mut self, sql: &[u8], seen: Seen) {
        if let Some(slot) = place(sql).and_then(|place| self.0.get_mut(place)) {
            *slot = Some(seen);
        }
    }
}

#[inline]
fn place(sql: &[u8]) -> Option<usize> {
    Some(usize::try_from(hash(sql.first_chunk::<BEGINNING>()?)).unwrap_or_default() % PLACES)
}

/// The answers one thread remembers: the hash of a text decides its slot, and the newest answer keeps it.
struct Answers {
    slots: Vec<Option<Answer>>,
    bytes: usize,
}

struct Answer {
    hash: u64,
    generation: u64,
    /// The text, or its shape where it has one. No text has the shape of another for its own.
    key: Box<[u8]>,
    class: Class,
}

impl Answers {
    #[inline]
    fn find(&self, key: &[u8], hash: u64, generation: u64) -> Option<Class> {
        let answer = self.slots.get(slot(hash))?.as_ref()?;
        let same = answer.hash == hash && answer.generation == generation && *answer.key == *key;
        same.then_some(answer.class)
    }

    fn put(&mut self, key: &[u8], hash: u64, generation: u64, class: Class) {
        if self.bytes + key.len() > BYTES || self.slots.is_empty() {
            self.slots.clear();
            self.slots.resize_with(ANSWERS, || None);
            self.bytes = 0;
        }
        if let Some(slot) = self.slots.get_mut(slot(hash)) {
            let answer = Answer { hash, generation, key: key.into(), class };
            self.bytes += key.len();
            self.bytes -= slot.replace(answer).map_or(0, |old| old.key.len());
        }
    }
}

#[inline]
fn slot(hash: u64) -> usize {
    usize::try_from(hash % ANSWERS as u64).unwrap_or_default()
}
