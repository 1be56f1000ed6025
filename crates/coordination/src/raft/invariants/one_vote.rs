//! One vote per term, across restarts (paper, 5.2). Only a vote that the disk holds was ever spoken, so only that one binds.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::{Step, Violation};
use crate::raft::HardState;

#[derive(Debug)]
pub(super) struct OneVote {
    /// For each member the newest durable vote.
    votes: Vec<HardState>,
}

impl OneVote {
    pub(super) fn new(members: usize) -> OneVote {
        OneVote { votes: vec![HardState::default(); members] }
    }

    pub(super) fn lost(&mut self, at: usize) {
        self.votes[at] = HardState::default();
    }

    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let Some(hard) = step.raft.durable_hard_state() else { return Ok(()) };
        let known = &mut self.votes[step.at];
        // Forgetting a vote that was free to be spoken is as bad as giving another: nothing then keeps the member from doing so.
        let changed =
            known.term == hard.term && known.voted_for.is_some() && known.voted_for != hard.voted_for;
        if changed {
            return Err(Violation {
                property: "one vote per term",
                detail: format!(
                    "{} voted for {:?}, then for {:?} in term {}",
                    step.id, known.voted_for, hard.voted_for, hard.term
                ),
            });
        }
        *known = hard;
        Ok(())
    }
}
