//! What a tail commits is on the disk of every member that serves in its epoch.

use alloc::format;

use super::{ChainInvariants, Step, Violation};
use crate::chain::MemberState;

pub(super) fn check(step: &Step<'_>, all: &ChainInvariants) -> Result<(), Violation> {
    let news = !step.before.same_life || step.now.commit > step.before.commit;
    if !step.member.commits() || !news {
        return Ok(());
    }
    for member in step.member.members().iter().filter(|member| member.state == MemberState::Serving) {
        let Some(seen) = all.seen(member.node) else { continue };
        // One that was started again since then still has what was durable; it shows that only when it is looked at.
        let known = seen.same_life && seen.life == member.life;
        if known && seen.durable < step.now.commit {
            let detail = format!(
                "{} commits {}, of which {} has {} on disk",
                step.id, step.now.commit, member.node, seen.durable
            );
            return Err(Violation { property: "durable-on-every-member", detail });
        }
    }
    Ok(())
}
