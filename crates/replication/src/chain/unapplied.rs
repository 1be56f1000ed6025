//! Which keys have entries that are not applied yet: reads of all others need not ask anybody (CRAQ's "clean" objects).

use alloc::collections::BTreeMap;

use super::config::KeysOf;

/// Keys with unapplied entries, each with the last of them.
///
/// Bounded by the tail: at most as many keys as its entries write.
#[derive(Debug)]
pub(super) struct Unapplied {
    keys_of: KeysOf,
    by_key: BTreeMap<u64, u64>,
    /// The last entry that may write any key.
    all: u64,
}

impl Unapplied {
    pub(super) fn new(keys_of: KeysOf) -> Unapplied {
        Unapplied { keys_of, by_key: BTreeMap::new(), all: 0 }
    }

    /// An entry was appended. O(its keys).
    pub(super) fn add(&mut self, index: u64, command: &[u8]) {
        assert!(index > 0, "0 says that there is none");
        let mut marked = false;
        let by_key = &mut self.by_key;
        (self.keys_of)(command, &mut |key| {
            marked = true;
            let before = by_key.insert(key, index);
            assert!(before.is_none_or(|before| before <= index), "entries are added in order");
        });
        if !marked {
            self.all = self.all.max(index);
        }
    }

    /// The entry was applied.
    pub(super) fn applied(&mut self, index: u64, command: &[u8]) {
        let by_key = &mut self.by_key;
        (self.keys_of)(command, &mut |key| {
            if by_key.get(&key).is_some_and(|last| *last <= index) {
                by_key.remove(&key);
            }
        });
        if self.all <= index {
            self.all = 0;
        }
        assert!(self.all == 0 || self.all > index, "entries are applied in order");
    }

    /// Forgets everything: what is unapplied will be added again.
    pub(super) fn clear(&mut self) {
        *self = Unapplied::new(self.keys_of);
    }

    /// Whether an unapplied entry may write this key; `None`: any key.
    pub(super) fn may_write(&self, key: Option<u64>) -> bool {
        self.all > 0 || key.map_or(!self.by_key.is_empty(), |key| self.by_key.contains_key(&key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all == 0 && self.by_key.is_empty()
    }
}
