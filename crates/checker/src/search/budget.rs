//! What a search may spend.

use std::time::{Duration, Instant};

/// Why a search gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Steps,
    Time,
    Memory,
}

/// What a search may spend. Shared by all searches of one check.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) steps: u64,
    pub(crate) deadline: Option<Instant>,
    /// For each search by itself, bytes, by estimate.
    pub(crate) memory_bytes: usize,
    pub(crate) steps_spent: u64,
}

/// Asking for the time costs more than a step.
const STEPS_PER_CLOCK_READ: u64 = 1024;

impl Budget {
    pub(super) fn step(&mut self) -> Result<(), Exhausted> {
        if self.steps == 0 {
            return Err(Exhausted::Steps);
        }
        self.steps -= 1;
        self.steps_spent += 1;
        if self.steps_spent.is_multiple_of(STEPS_PER_CLOCK_READ) {
            self.check_deadline()?;
        }
        Ok(())
    }

    pub(crate) fn check_deadline(&self) -> Result<(), Exhausted> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Exhausted::Time),
            _ => Ok(()),
        }
    }

    /// A budget for explaining a verdict that is already known: people wait for it, so it is small, but it is there however
    /// much the verdict took. It counts on from this one.
    pub(crate) fn to_explain(&self) -> Budget {
        const STEPS: u64 = 20_000_000;
        const TIME: Duration = Duration::from_secs(10);
        let deadline = self.deadline.and_then(|_| Instant::now().checked_add(TIME));
        Budget { steps: STEPS, deadline, memory_bytes: self.memory_bytes, steps_spent: self.steps_spent }
    }

    /// Runs `search` with at most `steps`; the rest stays.
    pub(crate) fn within<T>(&mut self, steps: u64, search: impl FnOnce(&mut Budget) -> T) -> T {
        let granted = steps.min(self.steps);
        let kept = self.steps - granted;
        self.steps = granted;
        let result = search(self);
        self.steps += kept;
        result
    }
}
