//! No attempt is committed at one participant and aborted at another (AC1 of Bernstein, Hadzilacos, Goodman 1987, section 7.3).

use alloc::collections::BTreeMap;

use keypact_protocol::GroupId;

use super::{Violation, violation};
use crate::two_phase_commit::Attempt;

#[derive(Clone, Debug, Default)]
pub(super) struct Agreement {
    ends: BTreeMap<Attempt, bool>,
}

impl Agreement {
    pub(super) fn ended(&mut self, group: GroupId, attempt: Attempt, commit: bool) -> Result<(), Violation> {
        match self.ends.insert(attempt, commit) {
            Some(before) if before != commit => {
                let what =
                    if commit { "committed, aborted elsewhere" } else { "aborted, committed elsewhere" };
                Err(violation("atomic-commit", group, attempt, what))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}
