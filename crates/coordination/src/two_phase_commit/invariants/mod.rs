//! What holds over all groups of a system at once, for a simulator to watch. One file each.

mod agreement;
mod decided_first;
mod exclusive;

use keypact_protocol::GroupId;

use super::{Attempt, Decision, Effect, ParticipantTable};

use agreement::Agreement;
use decided_first::DecidedFirst;

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name.
    pub property: &'static str,
    /// What was seen.
    pub detail: alloc::string::String,
}

/// All of them. Every group's records are shown once, in their order, by whichever replica applies them first.
#[derive(Clone, Debug, Default)]
pub struct TwoPhaseCommitInvariants {
    agreement: Agreement,
    decided_first: DecidedFirst,
}

impl TwoPhaseCommitInvariants {
    /// A coordinator's log has come to this.
    pub fn decided(&mut self, decision: &Decision) {
        if let Decision::Committed { attempt } = decision {
            self.decided_first.decided(*attempt);
        }
    }

    /// A participant's log has come to this.
    ///
    /// # Errors
    /// [`Violation`]: the first property that does not hold.
    pub fn applied(
        &mut self,
        group: GroupId,
        effect: &Effect,
        table: &ParticipantTable,
    ) -> Result<(), Violation> {
        match effect {
            Effect::Prepared { attempt } => exclusive::check(group, *attempt, table),
            Effect::Finished { by_hand: true, .. } => Ok(()),
            Effect::Finished { attempt, answer, .. } => {
                assert!(
                    table.prepared_of(attempt.transaction).is_none(),
                    "the table is shown after the record"
                );
                if answer.is_some() {
                    self.decided_first.committed(group, *attempt)?;
                }
                self.agreement.ended(group, *attempt, answer.is_some())
            }
            _ => Ok(()),
        }
    }

    /// Attempts whose end was seen.
    #[must_use]
    pub fn ended_len(&self) -> usize {
        self.agreement.len()
    }
}

fn violation(property: &'static str, group: GroupId, attempt: Attempt, what: &str) -> Violation {
    Violation { property, detail: alloc::format!("{group}: {attempt:?} {what}") }
}
