//! What is promised at one participant at the same time never touches the same key, but to read it; nor does what is run there alone meanwhile.

use keypact_protocol::GroupId;

use super::{Violation, violation};
use crate::two_phase_commit::{Attempt, Mode, ParticipantTable, Work};

/// Checks a new promise against the others. O(promises x locks).
pub(super) fn promised(group: GroupId, attempt: Attempt, table: &ParticipantTable) -> Result<(), Violation> {
    let Some(new) = table.prepared_of(attempt.transaction) else {
        return Err(violation("exclusive-promises", group, attempt, "was prepared and is not there"));
    };
    check(group, attempt, &new.work, table)
}

/// Checks work that takes, or has taken, place against what others are promised.
pub(super) fn check(
    group: GroupId,
    attempt: Attempt,
    work: &Work,
    table: &ParticipantTable,
) -> Result<(), Violation> {
    for other in table.prepared().filter(|other| other.attempt.transaction != attempt.transaction) {
        for lock in &work.locks {
            let clash = other.work.locks.iter().any(|held| {
                held.key == lock.key && (held.mode == Mode::Exclusive || lock.mode == Mode::Exclusive)
            });
            if clash {
                let what = alloc::format!("has a key that {:?} holds", other.attempt);
                return Err(violation("exclusive-promises", group, attempt, &what));
            }
        }
    }
    Ok(())
}
