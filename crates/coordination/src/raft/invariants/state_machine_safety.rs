//! State machine safety: no two members commit different entries at one index (paper, 5.4.3). Deliveries follow the commit index entry by
//! entry, so this is about what parents apply, too.

use alloc::format;
use alloc::vec::Vec;

use super::{Step, Violation, checksum};

/// A committed entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    term: u64,
    checksum: u64,
}

#[derive(Debug, Default)]
pub(super) struct StateMachineSafety {
    /// By index less one.
    committed: Vec<Row>,
}

impl StateMachineSafety {
    /// The highest index that was committed anywhere.
    pub(super) fn known(&self) -> u64 {
        self.committed.len() as u64
    }

    /// The term of the committed entry at `index`.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        let place = usize::try_from(index.checked_sub(1)?).ok()?;
        self.committed.get(place).map(|row| row.term)
    }

    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (before, now) = step.newly_committed();
        let tail = step.raft.tail();
        let base = tail.base();
        if base.index > self.known() {
            return Err(violation(step, base.index, "a checkpoint holds what nobody committed"));
        }
        if base.index > before && self.term_at(base.index) != Some(base.term) && base.index > 0 {
            return Err(violation(
                step,
                base.index,
                "a checkpoint ends with another entry than was committed",
            ));
        }
        let from = before.max(base.index) + 1;
        let Some(slots) = tail.slots_from(from) else { return Ok(()) };
        for slot in slots {
            let index = slot.entry.index();
            if index > now {
                break;
            }
            let row = Row { term: slot.entry.term(), checksum: checksum(&slot.entry) };
            let place = usize::try_from(index - 1).expect("logs in a simulation are short");
            match self.committed.get(place) {
                Some(known) if *known != row => {
                    return Err(violation(step, index, "another entry than others committed there"));
                }
                Some(_) => {}
                None => {
                    assert!(place == self.committed.len(), "commit indices grow without gaps");
                    self.committed.push(row);
                }
            }
        }
        Ok(())
    }
}

fn violation(step: &Step<'_>, index: u64, what: &str) -> Violation {
    let entry = step.raft.tail().slot(index).map(|slot| &slot.entry);
    Violation {
        property: "state machine safety",
        detail: format!("{} at index {index}: {what} ({entry:?})", step.id),
    }
}
