//! A participant commits only what stands as committed in the coordinator's log, and of a transaction one attempt only.

use alloc::collections::BTreeMap;

use keypact_protocol::GroupId;

use super::{Violation, violation};
use crate::two_phase_commit::{Attempt, TransactionId};

#[derive(Clone, Debug, Default)]
pub(super) struct DecidedFirst {
    decided: BTreeMap<TransactionId, u32>,
}

impl DecidedFirst {
    pub(super) fn decided(&mut self, attempt: Attempt) {
        self.decided.insert(attempt.transaction, attempt.number);
    }

    pub(super) fn committed(&self, group: GroupId, attempt: Attempt) -> Result<(), Violation> {
        match self.decided.get(&attempt.transaction) {
            Some(number) if *number == attempt.number => Ok(()),
            Some(_) => {
                Err(violation("decided-first", group, attempt, "committed, decided was another attempt"))
            }
            None => Err(violation("decided-first", group, attempt, "committed, but nothing is decided")),
        }
    }
}
