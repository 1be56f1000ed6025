//! Acknowledged is durable on a majority: when an index is first committed, which lets its write be acknowledged, a majority of the members'
//! disks hold that entry: of the voters that the committing leader's log names, while they change of the old and of the new. A disk that was
//! lost since counts with what it had acknowledged: that many may be lost.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use keypact_log::Position;
use keypact_protocol::{Incarnation, NodeId};

use super::configurations::decide;
use super::{Group, Place, Step, Violation};
use crate::raft::Member;

/// Stands for the term of an entry that is in a durable checkpoint: committed, so the right one.
const IN_CHECKPOINT: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct AcknowledgedDurable {
    /// For each member, by index: the term of the entry that its disk holds. Kept while it is down.
    disks: Vec<Vec<u64>>,
    /// For each member the last entry that its disk holds.
    lasts: Vec<Position>,
    /// What disks held when they were lost.
    lost: BTreeMap<(NodeId, Incarnation), Vec<u64>>,
}

impl AcknowledgedDurable {
    pub(super) fn new(members: usize) -> AcknowledgedDurable {
        AcknowledgedDurable {
            disks: vec![vec![IN_CHECKPOINT]; members],
            lasts: vec![Position::default(); members],
            lost: BTreeMap::new(),
        }
    }

    pub(super) fn lost(&mut self, at: usize, id: NodeId, incarnation: Option<Incarnation>) {
        let disk = core::mem::replace(&mut self.disks[at], vec![IN_CHECKPOINT]);
        self.lasts[at] = Position::default();
        if let Some(incarnation) = incarnation {
            self.lost.insert((id, incarnation), disk);
        }
    }

    /// Whether the member's disk holds the committed entry at `index`, which has `term`.
    pub(super) fn holds(&self, member: usize, index: u64, term: u64) -> bool {
        holds(&self.disks[member], index, term)
    }

    /// Whether the member's disk holds it, or did when it was lost.
    fn held(&self, places: &[Place], member: &Member, index: u64, term: u64) -> bool {
        let at = places.iter().position(|place| place.is(member.id, member.incarnation));
        let lost = || self.lost.get(&(member.id, member.incarnation));
        at.map(|at| &self.disks[at]).or_else(lost).is_some_and(|disk| holds(disk, index, term))
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
    pub(super) fn check(&self, step: &Step<'_>, known: u64, group: &Group<'_>) -> Result<(), Violation> {
        let committed = group.committed;
        let index = committed.known();
        if index == known {
            return Ok(());
        }
        // With log matching, the highest new index stands for all below it.
        let term = committed.term_at(index).expect("it was just committed");
        // A batch may commit by one configuration and then begin the next.
        let used = group.configurations.used();
        if used.iter().any(|used| decide(used, |member| self.held(group.places, member, index, term))) {
            return Ok(());
        }
        let membership = used.last().expect("who commits has a configuration");
        let copies = membership.members().iter().filter(|m| self.held(group.places, m, index, term)).count();
        Err(Violation {
            property: "acknowledged is durable on a majority",
            detail: format!(
                "{} committed index {index} of term {term}, which {copies} disks of {membership:?} hold",
                step.id,
            ),
        })
    }
}

fn holds(disk: &[u64], index: u64, term: u64) -> bool {
    disk.get(length(index) - 1).is_some_and(|held| *held == IN_CHECKPOINT || *held == term)
}

/// How long the list of terms is when it ends with `index`.
fn length(index: u64) -> usize {
    usize::try_from(index).expect("logs in a simulation are short") + 1
}
