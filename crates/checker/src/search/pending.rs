//! Lowe's linked list of pending events.

use super::NONE;

/// Events of completed operations: operation i invokes at node 2i and returns at node 2i + 1; the last node is the head.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) next: Vec<u32>,
    previous: Vec<u32>,
    head: u32,
}

impl Pending {
    pub(super) fn new(mut events: Vec<(u64, u32)>) -> Pending {
        events.sort_unstable();
        assert!(events.windows(2).all(|two| two[0].0 != two[1].0), "no two events share a position");
        let head = u32::try_from(events.len()).expect("a partition has fewer than 2^32 events");
        let mut pending =
            Pending { next: vec![NONE; events.len() + 1], previous: vec![NONE; events.len() + 1], head };
        let mut last = head;
        for (_, node) in events {
            pending.next[last as usize] = node;
            pending.previous[node as usize] = last;
            last = node;
        }
        pending
    }

    fn unlink(&mut self, node: u32) {
        let (before, after) = (self.previous[node as usize], self.next[node as usize]);
        self.next[before as usize] = after;
        if after != NONE {
            self.previous[after as usize] = before;
        }
    }

    fn relink(&mut self, node: u32) {
        let (before, after) = (self.previous[node as usize], self.next[node as usize]);
        self.next[before as usize] = node;
        if after != NONE {
            self.previous[after as usize] = node;
        }
    }

    pub(super) fn lift(&mut self, operation: usize) {
        self.unlink(2 * operation as u32);
        self.unlink(2 * operation as u32 + 1);
    }

    /// Undoes the last `lift` that is not undone.
    pub(super) fn unlift(&mut self, operation: usize) {
        self.relink(2 * operation as u32 + 1);
        self.relink(2 * operation as u32);
    }

    pub(super) fn first(&self) -> u32 {
        self.next[self.head as usize]
    }
}
