//! When keys expire: an ordered index from deadlines to places.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use super::Location;

/// How many entries have each (deadline, location). Two keys with equal tags may share both, so they are counted.
#[derive(Default)]
pub(crate) struct Deadlines {
    entries: BTreeMap<(u64, u64), u32>,
    len: usize,
    /// Flushed, waiting to be freed bit by bit.
    discarded: Vec<btree_map::IntoIter<(u64, u64), u32>>,
}

impl Deadlines {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, deadline: u64, at: Location) {
        *self.entries.entry((deadline, at.rank())).or_insert(0) += 1;
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, deadline: u64, at: Location) {
        let key = (deadline, at.rank());
        let count = self.entries.get_mut(&key).expect("only what was inserted is removed");
        *count -= 1;
        if *count == 0 {
            self.entries.remove(&key);
        }
        self.len -= 1;
    }

    pub(crate) fn clear(&mut self) {
        let flushed = core::mem::take(&mut self.entries);
        if !flushed.is_empty() {
            self.discarded.push(flushed.into_iter());
        }
        self.len = 0;
    }

    /// Takes over what another has flushed.
    pub(crate) fn take_discarded(&mut self, other: &mut Deadlines) {
        self.discarded.append(&mut other.discarded);
    }

    /// Frees up to `limit` flushed deadlines; whether there are more.
    pub(crate) fn free(&mut self, limit: usize) -> bool {
        let Some(flushed) = self.discarded.last_mut() else { return false };
        if flushed.by_ref().take(limit).count() < limit {
            self.discarded.pop();
        }
        true
    }

    /// Whether flushed deadlines wait to be freed.
    pub(crate) fn has_discarded(&self) -> bool {
        !self.discarded.is_empty()
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    /// The earliest deadline if it is at or before `until_ms`, and whose it is.
    #[inline]
    pub(crate) fn first_until(&self, until_ms: u64) -> Option<(u64, Location)> {
        let (&(deadline, rank), _) = self.entries.first_key_value()?;
        (deadline <= until_ms).then(|| (deadline, Location::of_rank(rank)))
    }

    /// Whether there is a deadline between the two, both included.
    pub(crate) fn any_in(&self, from_ms: u64, to_ms: u64) -> bool {
        assert!(from_ms <= to_ms, "a range has a start before its end");
        self.entries.range((from_ms, 0)..=(to_ms, u64::MAX)).next().is_some()
    }

    /// How many deadlines are at or before `until_ms`; stops at `limit` places.
    pub(crate) fn count_until(&self, until_ms: u64, limit: usize) -> usize {
        let range = (Bound::Unbounded, Bound::Included((until_ms, u64::MAX)));
        self.entries.range(range).take(limit).map(|(_, &count)| count as usize).sum()
    }

    pub(crate) fn contains(&self, deadline: u64, at: Location) -> bool {
        self.entries.contains_key(&(deadline, at.rank()))
    }
}
