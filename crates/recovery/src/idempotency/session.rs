//! Sequenced tickets: the operations of one session.

use alloc::collections::BTreeMap;

use super::slot::Slot;

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session<W> {
    /// The client has the answers of all operations up to here; they are gone.
    pub(super) floor: u64,
    /// Operations above the floor.
    pub(super) slots: BTreeMap<u64, Slot<W>>,
    /// When it was last used, Unix milliseconds.
    pub(super) used_ms: u64,
}

impl<W> Session<W> {
    pub(super) fn new(floor: u64, used_ms: u64) -> Session<W> {
        Session { floor, slots: BTreeMap::new(), used_ms }
    }

    /// The client has all answers up to `through`. What is still in flight stays.
    pub(super) fn acknowledge(&mut self, through: u64) {
        let first_in_flight = self.slots.iter().find(|(_, slot)| !slot.has_ended()).map(|(at, _)| *at);
        let through = through.min(first_in_flight.map_or(u64::MAX, |at| at - 1));
        assert!(first_in_flight.is_none_or(|at| at > self.floor), "what is in flight is above the floor");
        if through > self.floor {
            self.slots = self.slots.split_off(&(through + 1));
            self.floor = through;
        }
        assert!(self.slots.keys().all(|at| *at > self.floor), "nothing is kept below the floor");
    }

    pub(super) fn has_in_flight(&self) -> bool {
        self.slots.values().any(|slot| !slot.has_ended())
    }
}
