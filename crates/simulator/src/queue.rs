//! Events by time, first come first served among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events. Payloads stay where they are put; the heap moves only 24-byte keys.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
}

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
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events are under way")
            }
        };
        self.slots[slot as usize] = Some(event);
        self.sequence += 1;
        self.heap.push(Reverse((at_ns, self.sequence, slot)));
    }

    /// The earliest event and its time. O(log n).
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse((at_ns, _, slot)) = self.heap.pop()?;
        let event = self.slots[slot as usize].take().expect("each key owns one slot");
        self.free.push(slot);
        Some((at_ns, event))
    }

    /// When the earliest event is due.
    #[inline]
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ns, _, _))| *at_ns)
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
