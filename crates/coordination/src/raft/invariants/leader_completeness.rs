//! Leader completeness: what was committed in a term is in the log of every leader of a later term (paper, 5.4.3).

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::state_machine_safety::StateMachineSafety;
use super::{Step, Violation};

#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness {
    /// By the term in which it was committed: the highest index.
    committed: BTreeMap<u64, u64>,
    /// By term: the leader, and the last index that it had when it was elected.
    leaders: BTreeMap<u64, (NodeId, u64)>,
}

impl LeaderCompleteness {
    /// `known` is how far anything was committed before this step.
    pub(super) fn check(
        &mut self,
        step: &Step<'_>,
        known: u64,
        committed: &StateMachineSafety,
    ) -> Result<(), Violation> {
        let term = step.now.term;
        if step.began_to_lead() {
            let tail = step.raft.tail();
            let highest = self.committed.range(..term).map(|(_, index)| *index).max().unwrap_or(0);
            let covered = highest <= tail.base().index;
            if !covered && tail.term_at(highest) != committed.term_at(highest) {
                return Err(violation(step.id, term, highest));
            }
            let start = step.raft.term_start().expect("it leads");
            self.leaders.insert(term, (step.id, start - 1));
        }
        let now = committed.known();
        if now > known {
            // Whoever commits first is the leader, in whose term it is committed.
            self.committed.insert(term, now);
            // A leader of a later term may have been elected already, in time or by mistake.
            for (later, (leader, last)) in self.leaders.range(term + 1..) {
                if *last < now {
                    return Err(violation(*leader, *later, now));
                }
            }
        }
        Ok(())
    }
}

fn violation(leader: NodeId, term: u64, index: u64) -> Violation {
    Violation {
        property: "leader completeness",
        detail: format!("{leader}, leader of term {term}, was elected without the committed entry {index}"),
    }
}
