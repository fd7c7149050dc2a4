//! What the writers of versions applied of late had seen.

use std::collections::HashMap;
use std::hash::Hash;

use crate::stamp::Stamp;

/// Replaced versions that are remembered of one key.
const CHAIN: usize = 8;

/// Remembers of a bounded number of keys what was replaced by the version held: a row does not say that itself, and a
/// version that comes late could not be told from a lost one.
///
/// A restart forgets all of it, at the cost of conflicts recorded that were none.
///
/// ```
/// use herdsman_mesh::resolve::Recent;
/// use herdsman_mesh::{NodeId, Stamp};
/// let at = |micros| Stamp::new(micros, NodeId(1));
/// let mut recent = Recent::new(100);
/// recent.applied("key", None, at(3), Stamp::NONE);
/// recent.applied("key", Some(at(3)), at(5), at(3));
/// assert_eq!(recent.replaced(&"key", at(5)), [at(3), Stamp::NONE]);
/// assert!(recent.replaced(&"key", at(6)).is_empty());
/// ```
#[derive(Debug)]
pub struct Recent<K> {
    /// Two generations: when the younger is full, the older is forgotten.
    young: HashMap<K, Entry>,
    old: HashMap<K, Entry>,
    half: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// What was applied.
    of: Stamp,
    /// What it replaced, what that replaced, and so on.
    replaced: Vec<Stamp>,
}

impl<K: Hash + Eq> Recent<K> {
    /// Remembers of at least half this many keys, and of no more.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: keys.div_ceil(2).max(1) }
    }

    /// A version has taken the place of what was held.
    pub fn applied(&mut self, key: K, held: Option<Stamp>, version: Stamp, seen: Stamp) {
        let before = self.young.remove(&key).or_else(|| self.old.remove(&key));
        let mut replaced = Vec::with_capacity(2);
        replaced.push(seen);
        if let Some(before) = before.filter(|b| held == Some(seen) && b.of == seen) {
            replaced.extend(before.replaced.into_iter().take(CHAIN - 1));
        }
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Entry { of: version, replaced });
    }

    /// What the writer of the version that is held is known to have replaced, the latest first; empty if it is not
    /// known.
    #[must_use]
    pub fn replaced(&self, key: &K, held: Stamp) -> &[Stamp] {
        let entry = self.young.get(key).or_else(|| self.old.get(key));
        entry.filter(|entry| entry.of == held).map_or(&[], |entry| entry.replaced.as_slice())
    }
}
