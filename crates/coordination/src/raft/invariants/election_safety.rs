//! Election safety: at most one leader in a term (paper, 5.2).

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::{Step, Violation};

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<u64, NodeId>,
}

impl ElectionSafety {
    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        if !step.began_to_lead() {
            return Ok(());
        }
        let term = step.now.term;
        match self.leaders.insert(term, step.id) {
            Some(other) if other != step.id => Err(Violation {
                property: "election safety",
                detail: format!("{other} and {} both lead in term {term}", step.id),
            }),
            _ => Ok(()),
        }
    }
}
