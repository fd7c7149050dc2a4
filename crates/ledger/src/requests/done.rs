//! Which requests of a partition are answered, and so up to where nothing need be read again.

use std::collections::BTreeMap;

/// One partition's. Requests are taken in order and answered in any.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Taken, from the first one that is not answered on; whether it is answered.
    open: BTreeMap<i64, bool>,
}

impl Marks {
    /// A record was taken. One that comes again, after the partition was somebody else's for a while, begins anew.
    pub(super) fn take(&mut self, offset: i64) {
        let next = self.open.last_key_value().is_none_or(|(last, _)| offset > *last);
        if !next {
            self.open.clear();
        }
        self.open.insert(offset, false);
    }

    /// It needs no more doing. From where on the rest is, if that has moved.
    pub(super) fn finish(&mut self, offset: i64) -> Option<i64> {
        *self.open.get_mut(&offset)? = true;
        let mut moved = None;
        while let Some(first) = self.open.first_entry()
            && *first.get()
        {
            moved = Some(first.key().saturating_add(1));
            first.remove();
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_out_of_order_moves_nothing_until_the_first_one_is() {
        let mut marks = Marks::default();
        for offset in [3, 4, 5, 9] {
            marks.take(offset);
        }
        assert_eq!(marks.finish(4), None);
        assert_eq!(marks.finish(9), None);
        assert_eq!(marks.finish(3), Some(5));
        assert_eq!(marks.finish(5), Some(10));
        assert_eq!(marks.finish(5), None, "answered twice");
    }

    #[test]
    fn a_partition_that_comes_back_begins_anew() {
        let mut marks = Marks::default();
        (3..6).for_each(|offset| marks.take(offset));
        assert_eq!(marks.finish(5), None);
        marks.take(4);
        assert_eq!(marks.finish(3), None, "it is not waited for any more");
        assert_eq!(marks.finish(4), Some(5));
    }
}
