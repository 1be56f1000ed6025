//! The entries since the last checkpoint, in memory.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use keypact_protocol::{Lsn, RequestId};

use super::record::{Entry, Viewstamp};

/// An entry, where its record stands, and whose request it answers.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    pub(super) lsn: Lsn,
    pub(super) request: Option<RequestId>,
}

/// A run of entries behind a checkpoint, without gaps.
#[derive(Debug)]
pub(super) struct Log {
    base: Viewstamp,
    base_stamp_ms: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Up to here everything is on this member's disk.
    durable: u64,
}

impl Log {
    pub(super) fn new(base: Viewstamp, base_stamp_ms: u64) -> Log {
        Log { base, base_stamp_ms, slots: VecDeque::new(), bytes: 0, durable: base.position }
    }

    pub(super) fn base(&self) -> Viewstamp {
        self.base
    }

    pub(super) fn base_stamp_ms(&self) -> u64 {
        self.base_stamp_ms
    }

    pub(super) fn last(&self) -> Viewstamp {
        self.slots.back().map_or(self.base, |slot| slot.entry.at)
    }

    pub(super) fn last_stamp_ms(&self) -> u64 {
        self.slots.back().map_or(self.base_stamp_ms, |slot| slot.entry.stamp_ms)
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn place(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.base.position + 1)?).ok()
    }

    pub(super) fn slot(&self, position: u64) -> Option<&Slot> {
        self.slots.get(self.place(position)?)
    }

    pub(super) fn take_request(&mut self, position: u64) -> Option<RequestId> {
        let place = self.place(position)?;
        self.slots.get_mut(place)?.request.take()
    }

    /// All requests that wait, in order; none waits any more.
    pub(super) fn take_requests(&mut self) -> Vec<RequestId> {
        let requests = self.slots.iter_mut().filter_map(|slot| slot.request.take()).collect();
        assert!(self.slots.iter().all(|slot| slot.request.is_none()), "nobody waits any more");
        requests
    }

    /// The name of the entry at a position: in the log, or the last one before it.
    pub(super) fn at(&self, position: u64) -> Option<Viewstamp> {
        if position == self.base.position {
            return Some(self.base);
        }
        self.slot(position).map(|slot| slot.entry.at)
    }

    pub(super) fn push(&mut self, entry: Entry, lsn: Lsn, request: Option<RequestId>) {
        let last = self.last();
        assert!(entry.at.position == last.position + 1, "the log has no gap");
        assert!(entry.at.epoch >= last.epoch, "epochs never fall along the log");
        assert!(self.slots.back().is_none_or(|slot| slot.lsn < lsn), "records stand in the log's order");
        self.bytes += entry.len_bytes();
        self.slots.push_back(Slot { entry, lsn, request });
    }

    /// Drops everything from `position` on; how many that were.
    pub(super) fn truncate_from(&mut self, position: u64) -> u64 {
        let place = self.place(position).expect("what a checkpoint covers is never cut off");
        let cut = self.slots.drain(place.min(self.slots.len())..);
        let mut count = 0;
        for slot in cut {
            assert!(slot.request.is_none(), "who has requests cuts off nothing");
            self.bytes -= slot.entry.len_bytes();
            count += 1;
        }
        self.durable = self.durable.min(position - 1);
        assert!(self.last().position < position, "nothing from there on is left");
        count
    }

    /// Records up to here are on the disk.
    pub(super) fn written(&mut self, lsn: Lsn) {
        while self.slot(self.durable + 1).is_some_and(|slot| slot.lsn <= lsn) {
            self.durable += 1;
        }
        assert!(self.durable <= self.last().position, "only what was appended is durable");
    }

    /// A checkpoint covers everything up to here.
    pub(super) fn compact(&mut self, position: u64) {
        assert!(position <= self.durable, "a checkpoint covers what is durable");
        while self.slots.front().is_some_and(|slot| slot.entry.at.position <= position) {
            let slot = self.slots.pop_front().expect("front was there");
            assert!(slot.request.is_none(), "what a checkpoint covers was delivered");
            self.bytes -= slot.entry.len_bytes();
            (self.base, self.base_stamp_ms) = (slot.entry.at, slot.entry.stamp_ms);
        }
        assert!(self.base.position == position, "a checkpoint ends at an entry");
    }

    /// A snapshot takes the place of everything.
    pub(super) fn reset(&mut self, base: Viewstamp, stamp_ms: u64) {
        assert!(self.slots.iter().all(|slot| slot.request.is_none()), "who has requests takes no snapshot");
        *self = Log::new(base, stamp_ms);
        assert!(self.is_empty() && self.bytes == 0, "nothing stands behind a snapshot");
    }

    /// Entries from a position on, at most so many bytes and so many; at least one, if there is one.
    pub(super) fn batch(&self, from: u64, max_bytes: usize, max_count: u64) -> Vec<Entry> {
        let Some(place) = self.place(from) else { return Vec::new() };
        let mut bytes = 0;
        let mut batch = Vec::new();
        for slot in self.slots.iter().skip(place).take(usize::try_from(max_count).unwrap_or(usize::MAX)) {
            bytes += slot.entry.len_bytes();
            if bytes > max_bytes && !batch.is_empty() {
                break;
            }
            batch.push(slot.entry.clone());
        }
        assert!(batch.len() as u64 <= max_count, "no more than there is room for");
        assert!(batch.first().is_none_or(|entry: &Entry| entry.at.position == from), "it begins there");
        batch
    }

    pub(super) fn assert_invariants(&self) {
        let len = self.slots.len() as u64;
        assert!(self.last().position == self.base.position + len, "positions have no gap");
        assert!(
            self.base.position <= self.durable && self.durable <= self.last().position,
            "durable is in it"
        );
        assert!(self.bytes >= self.slots.len(), "each entry has bytes");
        assert!(self.base_stamp_ms <= self.last_stamp_ms(), "stamps never fall along the log");
        assert!(self.base.epoch <= self.last().epoch, "epochs never fall along the log");
    }
}
