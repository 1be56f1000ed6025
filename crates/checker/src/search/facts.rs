//! What is known of an operation before the search, and of all that are still to come during it.

use crate::model::{Footprint, Model};

/// The hints of the model about one operation; states by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The only state in which it is possible or, if its outcome is unknown, has any effect.
    pub(super) needs: Option<u32>,
    /// The only state that it leaves if it changes anything.
    pub(super) leaves: Option<u32>,
    pub(super) read_only: bool,
    pub(super) overwrites: bool,
    /// It depends on, or writes, more than a single value.
    opaque: bool,
    /// Equal operations have equal classes.
    pub(super) class: u32,
}

impl Facts {
    pub(super) fn of<M: Model>(
        model: &M,
        op: &M::Op,
        class: u32,
        mut number: impl FnMut(M::State) -> u32,
    ) -> Facts {
        let (needs, opaque) = match model.footprint(op) {
            Footprint::Values { needs, .. } => (needs.map(&mut number), false),
            Footprint::Opaque => (None, true),
        };
        let leaves = model.leaves(op).map(number);
        let (read_only, overwrites) = (model.read_only(op), model.overwrites(op));
        assert!(!(overwrites && needs.is_some()), "what overwrites every state needs none");
        Facts { needs, leaves, read_only, overwrites, opaque, class }
    }

    /// Whether it may leave any state.
    fn is_wild(&self) -> bool {
        !self.read_only && self.leaves.is_none()
    }

    fn writes(&self) -> Option<u32> {
        self.leaves.filter(|_| !self.read_only)
    }
}

/// How many of the operations to come need or leave each state. States with a higher number than the last one that any
/// operation needs or leaves by itself are counted nowhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// Completed operations that need it.
    needs: Vec<u32>,
    /// Unknown operations that need it.
    unknown_needs: Vec<u32>,
    /// Operations that leave it.
    writers: Vec<u32>,
    wild: u32,
    opaque: u32,
}

fn count(counts: &[u32], state: u32) -> u32 {
    counts.get(state as usize).copied().unwrap_or(0)
}

impl Left {
    pub(super) fn of(states: usize, completed: impl Iterator<Item = bool>, facts: &[Facts]) -> Left {
        let (needs, unknown_needs, writers) = (vec![0; states], vec![0; states], vec![0; states]);
        let mut left = Left { needs, unknown_needs, writers, wild: 0, opaque: 0 };
        for (facts, completed) in facts.iter().zip(completed) {
            left.put_back(facts, completed);
        }
        left
    }

    pub(super) fn put_back(&mut self, facts: &Facts, completed: bool) {
        self.change(facts, completed, |count| *count += 1);
    }

    pub(super) fn take(&mut self, facts: &Facts, completed: bool) {
        self.change(facts, completed, |count| {
            assert!(*count > 0, "what is taken was there");
            *count -= 1;
        });
    }

    fn change(&mut self, facts: &Facts, completed: bool, by: impl Fn(&mut u32)) {
        if let Some(state) = facts.needs {
            by(&mut (if completed { &mut self.needs } else { &mut self.unknown_needs })[state as usize]);
        }
        if let Some(state) = facts.writes() {
            by(&mut self.writers[state as usize]);
        }
        if facts.is_wild() {
            by(&mut self.wild);
        }
        if facts.opaque {
            by(&mut self.opaque);
        }
    }

    /// Whether all operations to come depend on one value at most and write one at most.
    pub(super) fn only_single_values(&self) -> bool {
        self.opaque == 0 && self.wild == 0
    }

    /// Whether no operation to come needs this state.
    pub(super) fn is_over(&self, state: u32) -> bool {
        !self.is_needed(state) && count(&self.unknown_needs, state) == 0
    }

    /// Whether a completed operation needs this state.
    pub(super) fn is_needed(&self, state: u32) -> bool {
        count(&self.needs, state) > 0
    }

    /// Whether exactly one completed operation needs this state, and no unknown one.
    pub(super) fn is_needed_once(&self, state: u32) -> bool {
        count(&self.needs, state) == 1 && count(&self.unknown_needs, state) == 0
    }

    /// Whether one operation only will leave this state, and no unknown one needs it.
    pub(super) fn is_last_chance(&self, state: u32) -> bool {
        count(&self.writers, state) == 1 && count(&self.unknown_needs, state) == 0
    }

    /// Whether `state` is needed by others than this operation, which leaves it for good.
    pub(super) fn needs_without(&self, state: u32, taken: &Facts, completed: bool) -> bool {
        let needs = count(&self.needs, state) - u32::from(completed && taken.needs == Some(state));
        let wild = self.wild - u32::from(taken.is_wild());
        let writers = count(&self.writers, state) - u32::from(taken.writes() == Some(state));
        needs > 0 && wild == 0 && writers == 0
    }
}
