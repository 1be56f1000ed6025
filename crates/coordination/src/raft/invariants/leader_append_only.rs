//! Leader append-only: a leader never overwrites or cuts its log (paper, 5.3).

use alloc::format;

use super::{Step, Violation};

#[derive(Debug)]
pub(super) struct LeaderAppendOnly;

impl LeaderAppendOnly {
    #[expect(clippy::unused_self, reason = "all checks are asked alike")]
    pub(super) fn check(&self, step: &Step<'_>) -> Result<(), Violation> {
        if !step.now.leads || step.began_to_lead() {
            return Ok(());
        }
        let last = step.before.last;
        let tail = step.raft.tail();
        let kept = last.index <= tail.base().index || tail.term_at(last.index) == Some(last.term);
        if kept && step.now.last.index >= last.index {
            return Ok(());
        }
        Err(Violation {
            property: "leader append-only",
            detail: format!("{}, leader of term {}, lost its entry {last:?}", step.id, step.now.term),
        })
    }
}
