//! A committed position has one entry, for ever, on all members.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::Violation;
use crate::total::sequencer::{Entry, Sequencer};

/// What was committed where.
#[derive(Debug, Default)]
pub(super) struct OneEntry {
    committed: BTreeMap<u64, Entry>,
    /// Up to where a member was looked at.
    seen: BTreeMap<NodeId, u64>,
}

impl OneEntry {
    pub(super) fn check(&mut self, node: NodeId, member: &Sequencer) -> Result<(), Violation> {
        let seen = self.seen.entry(node).or_default();
        // After a restart it commits again, which is looked at again.
        let from = (*seen).min(member.committed()).max(member.base().position);
        for position in from + 1..=member.committed() {
            let Some(entry) = member.entry(position) else { continue };
            let first = self.committed.entry(position).or_insert_with(|| entry.clone());
            if first != entry {
                let detail = format!("{node} commits {entry:?}, and {first:?} was committed before");
                return Err(Violation { property: "one-entry-a-position", detail });
            }
        }
        *seen = member.committed();
        Ok(())
    }
}
