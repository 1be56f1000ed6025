//! An epoch is opened by one member, once.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::Violation;
use crate::total::sequencer::{Role, Sequencer};

/// Who sequenced which epoch.
#[derive(Debug, Default)]
pub(super) struct OneSequencer {
    opened: BTreeMap<u64, NodeId>,
}

impl OneSequencer {
    pub(super) fn check(&mut self, node: NodeId, member: &Sequencer) -> Result<(), Violation> {
        if member.role() != Role::Sequencing {
            return Ok(());
        }
        let epoch = member.hard_state().epoch;
        let first = *self.opened.entry(epoch).or_insert(node);
        if first == node {
            return Ok(());
        }
        let detail = format!("{first} and {node} both sequence epoch {epoch}");
        Err(Violation { property: "one-sequencer-an-epoch", detail })
    }
}
