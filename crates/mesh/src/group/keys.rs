//! Finds what is known of a key, without an allocation for each.

/// Numbers of entries by the hash of their keys: open addressing, linear probing, never more than half full.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// Hash and number; `u32::MAX` is free.
    slots: Vec<(u32, u32)>,
    len: usize,
}

const FREE: (u32, u32) = (0, u32::MAX);

impl Keys {
    /// The entry of this hash for which `same` holds; where there is none, `new` is from now on.
    pub(super) fn find_or_add(
        &mut self,
        hash: u64,
        new: u32,
        mut same: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        if self.slots.len() <= self.len * 2 {
            self.grow();
        }
        let hash = fold(hash);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = place(hash) & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == FREE {
                *slot = (hash, new);
                self.len += 1;
                return None;
            }
            if slot.0 == hash && same(slot.1) {
                return Some(slot.1);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn grow(&mut self) {
        let larger = vec![FREE; (self.slots.len() * 2).max(16)];
        let mask = larger.len() - 1;
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot == FREE {
                continue;
            }
            let mut at = place(slot.0) & mask;
            while let Some(target) = self.slots.get_mut(at) {
                if *target == FREE {
                    *target = slot;
                    break;
                }
                at = (at + 1) & mask;
            }
        }
    }
}

fn fold(hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
}

fn place(hash: u32) -> usize {
    usize::try_from(hash).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_hash_are_told_apart_and_all_are_found_again() {
        let mut keys = Keys::default();
        for pass in 0..2 {
            for number in 0..1000_u32 {
                let hash = u64::from(number % 7);
                let found = keys.find_or_add(hash, number, |entry| entry == number);
                assert_eq!(found, (pass == 1).then_some(number));
            }
        }
    }
}
