//! What holds over all groups of a system at once, for a simulator to watch. One file each.

mod agreement;
mod decided_first;
mod exclusive;

use keypact_protocol::GroupId;

use super::{Attempt, CoordinatorTable, Decision, Effect, ParticipantTable};

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
    /// A coordinator's log has come to this; its table as it is after it.
    ///
    /// # Errors
    /// [`Violation`]: the first property that does not hold.
    pub fn decided(
        &mut self,
        group: GroupId,
        decision: &Decision,
        table: &CoordinatorTable,
    ) -> Result<(), Violation> {
        let Decision::Committed { attempt } = decision else { return Ok(()) };
        if attempt.transaction.coordinator != group {
            return Err(violation("decided-once", group, *attempt, "decided by another coordinator"));
        }
        let committed = table.committed_of(attempt.transaction).expect("the table is shown after the record");
        self.decided_first.decided(committed)?;
        self.agreement.committed(group, *attempt)
    }

    /// A participant's log has come to this; its table as it is after it. What a person has decided is judged by nobody.
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
            Effect::Void | Effect::Led { .. } | Effect::Finished { by_hand: true, .. } => Ok(()),
            Effect::Prepared { attempt } => {
                self.decided_first.promised(group, *attempt);
                exclusive::promised(group, *attempt, table)
            }
            Effect::Finished { attempt, answer, .. } => {
                assert!(
                    table.prepared_of(attempt.transaction).is_none(),
                    "the table is shown after the record"
                );
                self.decided_first.ended(group, *attempt, answer.is_some())?;
                self.agreement.ended(group, *attempt, answer.is_some())
            }
            Effect::Ran { attempt, work, .. } => {
                exclusive::check(group, *attempt, work, table)?;
                self.agreement.ended(group, *attempt, true)
            }
            Effect::Refused { attempt } => self.agreement.refused(group, *attempt),
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
