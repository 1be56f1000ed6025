//! A commit is decided only when every writer's promise stands in its log, and carried out only by a writer, when the decision stands in the
//! coordinator's; so locks are held from the promise until the decision.

use alloc::collections::{BTreeMap, BTreeSet};

use keypact_protocol::GroupId;

use super::{Violation, violation};
use crate::two_phase_commit::{Attempt, Committed, TransactionId};

#[derive(Clone, Debug, Default)]
pub(super) struct DecidedFirst {
    /// Promises that stand, by group.
    promised: BTreeSet<(Attempt, GroupId)>,
    decided: BTreeMap<TransactionId, Committed>,
}

impl DecidedFirst {
    pub(super) fn promised(&mut self, group: GroupId, attempt: Attempt) {
        self.promised.insert((attempt, group));
    }

    pub(super) fn decided(&mut self, decision: &Committed) -> Result<(), Violation> {
        let attempt = decision.attempt;
        if let Some(writer) = decision.writers.iter().find(|w| !self.promised.contains(&(attempt, **w))) {
            return Err(violation("promised-first", *writer, attempt, "has not promised what is decided"));
        }
        match self.decided.insert(attempt.transaction, decision.clone()) {
            None => Ok(()),
            Some(_) => {
                let coordinator = attempt.transaction.coordinator;
                Err(violation("decided-once", coordinator, attempt, "decided, and was before"))
            }
        }
    }

    /// A participant has ended what it had promised.
    pub(super) fn ended(&mut self, group: GroupId, attempt: Attempt, commit: bool) -> Result<(), Violation> {
        if !self.promised.remove(&(attempt, group)) {
            return Err(violation("promised-first", group, attempt, "ended, but nothing was promised"));
        }
        if !commit {
            return Ok(());
        }
        match self.decided.get(&attempt.transaction) {
            None => Err(violation("decided-first", group, attempt, "committed, but nothing is decided")),
            Some(decision) if decision.attempt != attempt => {
                Err(violation("decided-first", group, attempt, "committed, decided was another attempt"))
            }
            Some(decision) if !decision.writers.contains(&group) => {
                Err(violation("decided-first", group, attempt, "committed, but is no writer of it"))
            }
            Some(_) => Ok(()),
        }
    }
}
