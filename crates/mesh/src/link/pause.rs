//! Which links are held.

use std::collections::BTreeSet;

use crate::status::LinkName;

/// Which links are held: all or none, and those that are the exception.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pauses {
    all: bool,
    except: BTreeSet<LinkName>,
}

impl Pauses {
    /// Holds a link, or all of them, or lets go of it.
    pub(crate) fn set(&mut self, link: Option<&LinkName>, paused: bool) {
        match link {
            None => *self = Self { all: paused, except: BTreeSet::new() },
            Some(link) if paused == self.all => {
                self.except.remove(link);
            }
            Some(link) => {
                self.except.insert(link.clone());
            }
        }
    }

    /// Whether it is held.
    pub(crate) fn holds(&self, link: &LinkName) -> bool {
        self.all != self.except.contains(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(source: &str, target: &str) -> LinkName {
        let name = |name| herdsman_node::NodeName::new(name).unwrap();
        LinkName { source: name(source), target: name(target) }
    }

    #[test]
    fn the_last_word_about_a_link_counts() {
        let (ab, ba) = (link("a", "b"), link("b", "a"));
        let mut pauses = Pauses::default();
        let steps: [(Option<&LinkName>, bool, bool, bool); 7] = [
            (Some(&ab), true, true, false),
            (None, true, true, true),
            (Some(&ab), false, false, true),
            (Some(&ab), true, true, true),
            (Some(&ba), false, true, false),
            (None, false, false, false),
            (Some(&ba), true, false, true),
        ];
        for (which, paused, holds_ab, holds_ba) in steps {
            pauses.set(which, paused);
            assert_eq!((pauses.holds(&ab), pauses.holds(&ba)), (holds_ab, holds_ba), "{pauses:?}");
        }
    }
}
