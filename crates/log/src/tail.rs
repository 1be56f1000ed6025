//! The part of a group's log that is in memory: everything since the last checkpoint.

use alloc::collections::VecDeque;
use core::fmt;

use keypact_protocol::{Lsn, RequestId};

use crate::Entry;

/// A place in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// Index, 0 before the first entry.
    pub index: u64,
    /// The term of the entry there, 0 before the first.
    pub term: u64,
}

/// An entry and what this node knows of it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The entry.
    pub entry: Entry,
    /// Its place in this node's write-ahead log.
    pub lsn: Lsn,
    /// The local request that it answers.
    pub request: Option<RequestId>,
}

/// The tail holds as many bytes as it may. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TailFull;

impl fmt::Display for TailFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log since the last checkpoint is as large as it may get")
    }
}

impl core::error::Error for TailFull {}

/// Entries `base.index + 1 ..= last`, without gaps; appending at an index cuts off everything from there on.
///
/// Invariants: indices are contiguous; terms never fall; stamps never fall; `durable_index` never passes `last`.
#[derive(Clone, Debug)]
pub struct Tail {
    base: Position,
    base_stamp_ms: u64,
    slots: VecDeque<Slot>,
    len_bytes: usize,
    limit_bytes: usize,
    durable_index: u64,
}

impl Tail {
    /// An empty tail after `base`, whose entry had `stamp_ms`. It refuses to grow past `limit_bytes` (see [`Tail::has_room`]).
    #[must_use]
    pub fn new(base: Position, stamp_ms: u64, limit_bytes: usize) -> Tail {
        Tail {
            base,
            base_stamp_ms: stamp_ms,
            slots: VecDeque::new(),
            len_bytes: 0,
            limit_bytes,
            durable_index: base.index,
        }
    }

    /// The place before the first entry held.
    #[must_use]
    pub fn base(&self) -> Position {
        self.base
    }

    /// The stamp of the entry at the base.
    #[must_use]
    pub fn base_stamp_ms(&self) -> u64 {
        self.base_stamp_ms
    }

    /// The place of the last entry; the base if none is held.
    #[must_use]
    #[inline]
    pub fn last(&self) -> Position {
        self.slots
            .back()
            .map_or(self.base, |slot| Position { index: slot.entry.index(), term: slot.entry.term() })
    }

    /// Bytes held.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no entry is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether an entry of this many bytes fits. An empty tail takes any entry.
    ///
    /// # Errors
    /// [`TailFull`] if not.
    pub fn has_room(&self, bytes: usize) -> Result<(), TailFull> {
        let fits = self.slots.is_empty() || self.len_bytes.saturating_add(bytes) <= self.limit_bytes;
        if fits { Ok(()) } else { Err(TailFull) }
    }

    /// The stamp for the next entry: wall time, but never before the last entry's.
    #[must_use]
    pub fn next_stamp_ms(&self, wall_ms: u64) -> u64 {
        let last = self.slots.back().map_or(self.base_stamp_ms, |slot| slot.entry.header().stamp_ms);
        last.max(wall_ms)
    }

    /// The term of the entry at `index`, if it is the base or held. O(1).
    #[must_use]
    #[inline]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.slot(index).map(|slot| slot.entry.term())
        }
    }

    /// The slot at `index`. O(1).
    #[must_use]
    #[inline]
    pub fn slot(&self, index: u64) -> Option<&Slot> {
        let offset = index.checked_sub(self.base.index + 1)?;
        self.slots.get(usize::try_from(offset).ok()?)
    }

    /// Takes the request off the slot at `index`.
    pub fn take_request(&mut self, index: u64) -> Option<RequestId> {
        let offset = index.checked_sub(self.base.index + 1)?;
        self.slots.get_mut(usize::try_from(offset).ok()?)?.request.take()
    }

    /// Appends `entry` at its index; everything from there on is cut off first.
    ///
    /// # Panics
    /// If that would leave a gap, lower a term, or replace the base.
    pub fn append(&mut self, entry: Entry, lsn: Lsn, request: Option<RequestId>) {
        let index = entry.index();
        assert!(index > self.base.index, "an entry at or before the base is never replaced");
        assert!(index <= self.last().index + 1, "no gaps");
        self.truncate_from(index);
        assert!(entry.term() >= self.last().term, "terms never fall along a log");
        self.len_bytes += entry.len_bytes();
        self.slots.push_back(Slot { entry, lsn, request });
    }

    /// Cuts off everything from `index` on. O(entries cut).
    pub fn truncate_from(&mut self, index: u64) {
        assert!(index > self.base.index, "the base is never cut off");
        while self.last().index >= index {
            let slot = self.slots.pop_back().expect("last is past the base, so a slot is there");
            self.len_bytes -= slot.entry.len_bytes();
        }
        self.durable_index = self.durable_index.min(index - 1);
    }

    /// The disk has everything up to `lsn`. Returns the index up to which this log is durable. O(newly durable entries).
    pub fn durable(&mut self, lsn: Lsn) -> u64 {
        while self.slot(self.durable_index + 1).is_some_and(|slot| slot.lsn <= lsn) {
            self.durable_index += 1;
        }
        self.durable_index
    }

    /// The index up to which this log is durable.
    #[must_use]
    #[inline]
    pub fn durable_index(&self) -> u64 {
        self.durable_index
    }

    /// Slots from `index` on, in order. Empty if `index` is past the end; `None` if it is at or before the base.
    #[must_use]
    pub fn slots_from(&self, index: u64) -> Option<impl Iterator<Item = &Slot>> {
        let offset = usize::try_from(index.checked_sub(self.base.index + 1)?).ok()?;
        Some(self.slots.range(offset.min(self.slots.len())..))
    }

    /// Forgets entries up to `index`, which becomes the base. O(entries forgotten).
    ///
    /// # Panics
    /// If `index` is past the last entry.
    pub fn compact(&mut self, index: u64) {
        assert!(index <= self.last().index, "only what is held can be forgotten");
        while self.base.index < index {
            let slot = self.slots.pop_front().expect("index is at most the last");
            self.len_bytes -= slot.entry.len_bytes();
            self.base = Position { index: slot.entry.index(), term: slot.entry.term() };
            self.base_stamp_ms = slot.entry.header().stamp_ms;
        }
        self.durable_index = self.durable_index.max(index);
        assert!(self.slots.is_empty() == (self.len_bytes == 0), "bytes are counted right");
    }

    /// Forgets everything; the log now begins after `base`.
    pub fn reset(&mut self, base: Position, stamp_ms: u64) {
        *self = Tail::new(base, stamp_ms, self.limit_bytes);
    }

    /// Panics if the tail contradicts itself. O(1).
    pub fn assert_invariants(&self) {
        let last = self.last();
        assert!(last.index == self.base.index + self.slots.len() as u64, "indices are contiguous");
        assert!(last.term >= self.base.term, "terms never fall");
        assert!(self.durable_index >= self.base.index, "the base is durable");
        assert!(self.durable_index <= last.index, "only what is held can be durable");
    }
}
