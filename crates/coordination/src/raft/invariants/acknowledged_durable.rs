//! Acknowledged is durable on a majority: when an index is first committed, which lets its write be acknowledged, a majority of the members'
//! disks hold that entry.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use keypact_log::Position;

use super::state_machine_safety::StateMachineSafety;
use super::{Step, Violation};

/// Stands for the term of an entry that is in a durable checkpoint: committed, so the right one.
const IN_CHECKPOINT: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct AcknowledgedDurable {
    /// For each member, by index: the term of the entry that its disk holds. Kept while it is down.
    disks: Vec<Vec<u64>>,
    /// For each member the last entry that its disk holds.
    lasts: Vec<Position>,
}

impl AcknowledgedDurable {
    pub(super) fn new(members: usize) -> AcknowledgedDurable {
        AcknowledgedDurable {
            disks: vec![vec![IN_CHECKPOINT]; members],
            lasts: vec![Position::default(); members],
        }
    }

    /// Whether the member's disk holds the committed entry at `index`, which has `term`.
    pub(super) fn holds(&self, member: usize, index: u64, term: u64) -> bool {
        let held = self.disks[member].get(length(index) - 1);
        held.is_some_and(|held| *held == IN_CHECKPOINT || *held == term)
    }

    /// For each member the last entry that its disk holds.
    pub(super) fn lasts(&self) -> &[Position] {
        &self.lasts
    }

    /// Takes over what is durable at the member.
    pub(super) fn note(&mut self, step: &Step<'_>) {
        let tail = step.raft.tail();
        let disk = &mut self.disks[step.at];
        let base = length(tail.base().index);
        // What was replaced is, at the earliest, what is fresh.
        disk.truncate(length(step.fresh_from - 1).max(1));
        if disk.len() < base {
            disk.resize(base, IN_CHECKPOINT);
        }
        let durable = tail.durable_index();
        let durable_term = tail.term_at(durable).expect("between base and end");
        self.lasts[step.at] = Position { index: durable, term: durable_term };
        disk.truncate(length(durable).max(base));
        let Some(slots) = tail.slots_from(disk.len() as u64) else { return };
        disk.extend(slots.take_while(|slot| slot.entry.index() <= durable).map(|slot| slot.entry.term()));
    }

    /// `known` is how far anything was committed before this step.
    pub(super) fn check(
        &self,
        step: &Step<'_>,
        known: u64,
        committed: &StateMachineSafety,
    ) -> Result<(), Violation> {
        let index = committed.known();
        if index == known {
            return Ok(());
        }
        // With log matching, the highest new index stands for all below it.
        let term = committed.term_at(index).expect("it was just committed");
        let copies = (0..self.disks.len()).filter(|member| self.holds(*member, index, term)).count();
        if copies > self.disks.len() / 2 {
            return Ok(());
        }
        Err(Violation {
            property: "acknowledged is durable on a majority",
            detail: format!(
                "{} committed index {index} of term {term}, which {copies} of {} disks hold",
                step.id,
                self.disks.len()
            ),
        })
    }
}

/// How long the list of terms is when it ends with `index`.
fn length(index: u64) -> usize {
    usize::try_from(index).expect("logs in a simulation are short") + 1
}
