//! The entries as they were at one moment, read bucket by bucket while writes go on.
//!
//! The first write to a key in a bucket that is not yet read puts the key's old entry aside (moved, or its bytes shared).
//! What is put aside is bounded by the writes since then; a whole bucket copied at its first write would be bounded only
//! by the data, as random writes reach every bucket within milliseconds.

use bytes::Bytes;
use hashbrown::HashTable;

use super::slot::Slot;
use super::{BUCKETS, Bucket, Location, spread};

/// An entry as it was, or as it was not.
struct Kept {
    /// Only its key counts if it was not there.
    slot: Slot,
    present: bool,
}

/// One moment, and how much of it has been read.
pub(super) struct Before {
    /// Buckets below are read.
    next_bucket: usize,
    kept: Vec<HashTable<Kept>>,
}

/// What was put aside of one bucket.
pub(super) struct Aside(HashTable<Kept>);

impl Before {
    /// This moment.
    pub(super) fn now() -> Before {
        Before { next_bucket: 0, kept: (0..BUCKETS).map(|_| HashTable::new()).collect() }
    }

    /// The bucket that is read next; all are read if it is [`BUCKETS`].
    pub(super) fn next_bucket(&self) -> usize {
        self.next_bucket
    }

    /// Keeps an entry that is being changed or removed, unless its key has been kept before.
    pub(super) fn preserve(&mut self, at: Location, slot: Slot) {
        self.keep(at, slot, true);
    }

    /// Keeps in mind that a key was not there.
    pub(super) fn preserve_absence(&mut self, at: Location, key: Bytes) {
        let key_bytes = key.len();
        self.keep(at, Slot::of_data(at.tag, key, key_bytes, None), false);
    }

    fn keep(&mut self, at: Location, slot: Slot, present: bool) {
        let bucket = usize::from(at.bucket);
        if bucket < self.next_bucket {
            return;
        }
        let table = &mut self.kept[bucket];
        if table.find(spread(at.tag), |kept| kept.slot.is(at.tag, slot.key())).is_none() {
            table.insert_unique(spread(at.tag), Kept { slot, present }, |kept| kept.slot.table_hash());
        }
    }

    /// Goes on by one bucket; what was put aside of it.
    ///
    /// # Panics
    /// If all are read.
    pub(super) fn read_next(&mut self) -> Aside {
        assert!(self.next_bucket < BUCKETS, "a bucket is left");
        let kept = core::mem::take(&mut self.kept[self.next_bucket]);
        self.next_bucket += 1;
        Aside(kept)
    }
}

impl Aside {
    /// The bucket's entries as they were, in no order, given those that it has now.
    pub(super) fn entries<'a>(&'a self, live: &'a Bucket) -> impl Iterator<Item = &'a Slot> {
        let unchanged = |slot: &&Slot| {
            let is_same = |kept: &Kept| kept.slot.is(slot.tag(), slot.key());
            self.0.is_empty() || self.0.find(slot.table_hash(), is_same).is_none()
        };
        live.iter().filter(unchanged).chain(self.0.iter().filter(|kept| kept.present).map(|kept| &kept.slot))
    }
}
