//! At most one member leads an epoch, and only in one life.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::{Step, Violation};
use crate::leader_follower::CATALOG;

#[derive(Debug, Default)]
pub(super) struct OneLeader {
    leaders: BTreeMap<u64, NodeId>,
}

impl OneLeader {
    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let epoch = step.member.epoch();
        let led = step.before.same_life && step.before.leads && step.before.epoch == epoch;
        if !step.member.leads() || led {
            return Ok(());
        }
        assert!(epoch > 0 && step.id != CATALOG, "members lead, in epochs counted from 1");
        match self.leaders.insert(epoch, step.id) {
            None => Ok(()),
            Some(first) => {
                let detail = format!("{} begins to lead epoch {epoch}, which {first} has led", step.id);
                Err(Violation { property: "one-leader-per-epoch", detail })
            }
        }
    }
}
