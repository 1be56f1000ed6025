//! Whoever takes a place among those that serve holds everything that was committed up to that epoch.

use alloc::format;

use super::one_history::OneHistory;
use super::{Step, Violation};
use crate::chain::MemberState;

pub(super) fn check(step: &Step<'_>, history: &OneHistory) -> Result<(), Violation> {
    let new_epoch = !step.before.same_life || step.before.epoch != step.now.epoch;
    if step.now.state != MemberState::Serving || !new_epoch {
        return Ok(());
    }
    // It may hear of the epoch late, when there is a newer one in which more was committed without it.
    let end = history.end_at(step.now.epoch);
    let held = step.member.tail().term_at(end);
    let right = end <= step.now.base || held == history.epoch_at(end);
    if step.now.last.index < end || !right {
        let detail = format!(
            "{} serves in epoch {} with {} entries; {end} were committed",
            step.id, step.now.epoch, step.now.last.index
        );
        return Err(Violation { property: "serving-members-are-whole", detail });
    }
    Ok(())
}
