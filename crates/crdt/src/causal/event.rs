//! One mutation under way.

use alloc::vec::Vec;

use keypact_ordering::clock::{Dot, DotContext};

use super::DotStore;

/// One mutation under way: its dot, and what it has superseded so far.
#[derive(Debug)]
pub struct Event {
    dot: Dot,
    superseded: Vec<Dot>,
}

impl Event {
    pub(super) fn new(dot: Dot) -> Event {
        assert!(dot.counter > 0, "events are counted from 1");
        Event { dot, superseded: Vec::new() }
    }

    /// The event's own dot, for what it makes live.
    #[must_use]
    pub fn dot(&self) -> Dot {
        self.dot
    }

    /// All that lives in `store`, as seen by this event, shall live no longer.
    pub fn supersede(&mut self, store: &impl DotStore) {
        store.for_each_dot(&mut |dot| self.supersede_dot(dot));
    }

    /// The same for one dot.
    pub fn supersede_dot(&mut self, dot: Dot) {
        assert!(dot != self.dot, "an event sees what was before it");
        self.superseded.push(dot);
    }

    /// What the event has seen, itself included; `None` if it neither made nor removed anything.
    pub(super) fn into_context(self, made: &impl DotStore) -> Option<DotContext> {
        let mut makes = false;
        made.for_each_dot(&mut |dot| {
            assert!(dot == self.dot, "an event makes its own dot live, no other");
            makes = true;
        });
        if !makes && self.superseded.is_empty() {
            return None;
        }
        let superseded = self.superseded.len() as u64;
        let context: DotContext = self.superseded.into_iter().chain([self.dot]).collect();
        assert!(context.contains(self.dot), "an event has seen itself");
        assert!(context.dot_count() <= superseded + 1, "and what it superseded, no more");
        Some(context)
    }
}
