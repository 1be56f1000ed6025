//! No attempt is committed here and aborted there (AC1 of Bernstein, Hadzilacos, Goodman 1987, section 7.3), the coordinator's decision included; no
//! group ends an attempt twice (AC2); and of a transaction one attempt only is ever committed, anywhere.

use alloc::collections::{BTreeMap, BTreeSet};

use keypact_protocol::GroupId;

use super::{Violation, violation};
use crate::two_phase_commit::{Attempt, TransactionId};

#[derive(Clone, Debug, Default)]
pub(super) struct Agreement {
    /// Ends of attempts in groups' logs.
    ended: BTreeSet<(GroupId, Attempt)>,
    aborted: BTreeSet<Attempt>,
    /// The attempt that is committed, or decided to be.
    committed: BTreeMap<TransactionId, u32>,
    /// Up to which attempt somebody has refused for good.
    refused: BTreeMap<TransactionId, u32>,
}

impl Agreement {
    /// A participant has ended what it had promised, or run what it was asked alone.
    pub(super) fn ended(&mut self, group: GroupId, attempt: Attempt, commit: bool) -> Result<(), Violation> {
        if !self.ended.insert((group, attempt)) {
            return Err(violation("ends-once", group, attempt, "ended before"));
        }
        if commit {
            return self.committed(group, attempt);
        }
        self.aborted.insert(attempt);
        if self.committed.get(&attempt.transaction) == Some(&attempt.number) {
            return Err(violation("atomic-commit", group, attempt, "aborted, committed elsewhere"));
        }
        Ok(())
    }

    /// It is decided, or a participant has committed it.
    pub(super) fn committed(&mut self, group: GroupId, attempt: Attempt) -> Result<(), Violation> {
        let transaction = attempt.transaction;
        if self.aborted.contains(&attempt) {
            return Err(violation("atomic-commit", group, attempt, "committed, aborted elsewhere"));
        }
        if self.refused.get(&transaction).is_some_and(|upto| attempt.number <= *upto) {
            return Err(violation("atomic-commit", group, attempt, "committed, refused for good elsewhere"));
        }
        match self.committed.insert(transaction, attempt.number) {
            Some(before) if before != attempt.number => {
                Err(violation("one-attempt-commits", group, attempt, "committed, after another attempt"))
            }
            _ => Ok(()),
        }
    }

    /// A participant has logged that it won't promise this attempt nor one before it.
    pub(super) fn refused(&mut self, group: GroupId, attempt: Attempt) -> Result<(), Violation> {
        let upto = self.refused.entry(attempt.transaction).or_default();
        *upto = attempt.number.max(*upto);
        match self.committed.get(&attempt.transaction) {
            Some(number) if *number <= attempt.number => {
                Err(violation("atomic-commit", group, attempt, "refused for good, committed elsewhere"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }
}
