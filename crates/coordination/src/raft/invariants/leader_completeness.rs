//! Leader completeness: what was committed in a term is in the log of every leader of a later term (paper, 5.4.3).
//!
//! Looked at in three ways: a new leader has what was committed; what is committed now is in the logs of later leaders already elected; and
//! nobody whose disk lacks what is committed now could still be elected by what the disks hold. The last finds the mistake of figure 8
//! when it is made, not only if the rest of that story happens.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::acknowledged_durable::AcknowledgedDurable;
use super::configurations::decide;
use super::{Group, Step, Violation};

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
        group: &Group<'_>,
        disks: &AcknowledgedDurable,
    ) -> Result<(), Violation> {
        let committed = group.committed;
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
            self.check_electable(step, now, group, disks)?;
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "a part of the check")]
    fn check_electable(
        &self,
        step: &Step<'_>,
        index: u64,
        group: &Group<'_>,
        disks: &AcknowledgedDurable,
    ) -> Result<(), Violation> {
        let term = group.committed.term_at(index).expect("it was just committed");
        let lasts = disks.lasts();
        for (member, last) in lasts.iter().enumerate() {
            if disks.holds(member, index, term) {
                continue;
            }
            // By the configuration that its disk has, in which it must have a vote itself.
            let Some(membership) = group.configurations.at_index(member, last.index) else { continue };
            let would_vote = |at: usize| (lasts[at].term, lasts[at].index) <= (last.term, last.index);
            let place = &group.places[member];
            let own = membership.member(place.id).filter(|own| place.is(own.id, own.incarnation));
            let votes = own.is_some_and(|own| own.seat.votes() || own.seat.voted());
            let elected = decide(membership, |voter| {
                let at = group.places.iter().position(|place| place.is(voter.id, voter.incarnation));
                at.is_some_and(would_vote)
            });
            if votes && elected {
                return Err(Violation {
                    property: "leader completeness",
                    detail: format!(
                        "{} committed index {index} of term {term}, but member {member} lacks it and, ending at {last:?}, can be elected",
                        step.id
                    ),
                });
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
