//! One id for equal settings, in the whole process: exact, and bounded by the settings there are.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::Settings;

type Values = Arc<[(Box<str>, Box<str>)]>;

/// As many locks: clients that set something for each of their requests meet here.
const SHELVES: usize = 16;
/// Settings a shelf holds before it is first looked for ones that nobody has any more.
const FEW: usize = 64;

#[derive(Debug, Default)]
struct Shelf {
    ids: HashMap<Values, u64>,
    /// Where to look for those again.
    sweep_at: usize,
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static SHELF: LazyLock<[Mutex<Shelf>; SHELVES]> = LazyLock::new(Default::default);
static NONE: LazyLock<Values> = LazyLock::new(|| Arc::from([]));
/// Never used twice, so that an id that outlives its settings never means others.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Settings of these values, sorted by name.
pub(super) fn intern(values: Vec<(Box<str>, Box<str>)>) -> Settings {
    if values.is_empty() {
        return Settings { id: 0, values: Arc::clone(&NONE) };
    }
    let place = usize::try_from(HASHER.hash_one(&values) % SHELVES as u64).unwrap_or_default();
    let Some(shelf) = SHELF.get(place) else {
        return Settings { id: next(), values: values.into() };
    };
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((values, id)) = shelf.ids.get_key_value(&*values) {
        return Settings { id: *id, values: Arc::clone(values) };
    }
    if shelf.ids.len() >= shelf.sweep_at {
        // Under the lock nobody can get hold of what only the shelf has.
        shelf.ids.retain(|values, _| Arc::strong_count(values) > 1);
        shelf.sweep_at = FEW.max(2 * shelf.ids.len());
    }
    let (id, values) = (next(), Values::from(values));
    shelf.ids.insert(Arc::clone(&values), id);
    Settings { id, values }
}

fn next() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_nobody_has_any_more_are_forgotten() {
        for number in 0..20_000 {
            intern(vec![("app.number".into(), format!("'{number}'").into())]);
        }
        let kept: usize = SHELF.iter().map(|shelf| shelf.lock().expect("the lock").ids.len()).sum();
        assert!(kept <= SHELVES * (FEW + 100), "{kept} are kept");
    }
}
