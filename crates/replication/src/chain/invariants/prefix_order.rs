//! Order along the chain (the paper's Update Propagation Invariant): what a serving member holds its predecessor holds, and what it has
//! committed its predecessor has.

use alloc::format;

use super::{ChainInvariants, Step, Violation};
use crate::chain::{Member, MemberState};

pub(super) fn check(step: &Step<'_>, all: &ChainInvariants) -> Result<(), Violation> {
    if step.now.state != MemberState::Serving {
        return Ok(());
    }
    let serving = || step.member.members().iter().filter(|member| member.state == MemberState::Serving);
    for (before, after) in serving().zip(serving().skip(1)) {
        if before.node == step.id || after.node == step.id {
            in_order(before, after, step, all)?;
        }
    }
    Ok(())
}

/// Both are looked at only while they are in the same epoch.
fn in_order(
    before: &Member,
    after: &Member,
    step: &Step<'_>,
    all: &ChainInvariants,
) -> Result<(), Violation> {
    let (Some(upper), Some(lower)) = (all.seen(before.node), all.seen(after.node)) else { return Ok(()) };
    let present = |member: &Member, seen: &super::Seen| {
        seen.same_life && seen.life == member.life && seen.epoch == step.now.epoch
    };
    if !present(before, upper) || !present(after, lower) {
        return Ok(());
    }
    if lower.last.index > upper.last.index || lower.commit > upper.last.index {
        let detail = format!(
            "{} has {} entries and {} committed, its predecessor {} only {}",
            after.node, lower.last.index, lower.commit, before.node, upper.last.index
        );
        return Err(Violation { property: "prefix-order", detail });
    }
    // The one of the two that is at hand: its entry where the other's log ends.
    let (mine, other) = if step.id == before.node { (upper, lower) } else { (lower, upper) };
    assert!(mine == &step.now, "the member at hand is the one looked at");
    let common = other.last.index.min(mine.last.index);
    let here = step.member.tail().term_at(common);
    if common == other.last.index && here.is_some_and(|term| term != other.last.term) {
        let detail = format!("{} and {} differ at {common}", before.node, after.node);
        return Err(Violation { property: "prefix-order", detail });
    }
    Ok(())
}
