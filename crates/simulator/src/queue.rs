//! Events by time, first come first served among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events. Payloads stay where they are put; the heap moves only 16-byte keys: time, sequence number, slot.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<u128>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
}

/// Bits of a key that name the slot; above them stand 40 bits of sequence number, and 64 of time.
const SLOT_BITS: u32 = 24;
const TIME_SHIFT: u32 = 64;

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    /// Puts an event at `at_ns`. O(log n).
    #[inline]
    pub(crate) fn push(&mut self, at_ns: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                let slot = u32::try_from(self.slots.len() - 1).expect("few events are under way");
                assert!(slot < 1 << SLOT_BITS, "fewer than 2^24 events are under way");
                slot
            }
        };
        self.slots[slot as usize] = Some(event);
        self.sequence += 1;
        assert!(self.sequence < 1 << (TIME_SHIFT - SLOT_BITS), "a world ends before 2^40 events");
        let below = self.sequence << SLOT_BITS | u64::from(slot);
        self.heap.push(Reverse(u128::from(at_ns) << TIME_SHIFT | u128::from(below)));
    }

    /// The earliest event and its time. O(log n).
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse(key) = self.heap.pop()?;
        let slot = (key as u32) & ((1 << SLOT_BITS) - 1);
        let event = self.slots[slot as usize].take().expect("each key owns one slot");
        self.free.push(slot);
        Some(((key >> TIME_SHIFT) as u64, event))
    }

    /// When the earliest event is due.
    #[inline]
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(key)| (key >> TIME_SHIFT) as u64)
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
