//! What a replica has applied durably it has applied for good, as long as it keeps its identity; of others' events it may drop the names when
//! a view orders it.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::NodeId;

use super::Violation;
use crate::gossip::{Gossip, Replicated};

#[derive(Debug, Default)]
pub(super) struct VersionsGrow {
    /// By node: identity, view, what was applied, and what of it was durable.
    known: BTreeMap<NodeId, (Option<ReplicaId>, u64, DotContext, DotContext)>,
}

impl VersionsGrow {
    /// Only what was durable need still be there.
    pub(super) fn restarted(&mut self, node: NodeId) {
        if let Some((_, _, applied, durable)) = self.known.get_mut(&node) {
            applied.clone_from(durable);
        }
    }

    pub(super) fn check<L: Replicated>(
        &mut self,
        node: NodeId,
        replica: &Gossip<L>,
        settled: bool,
    ) -> Result<(), Violation> {
        let (identity, view, version) = (replica.replica(), replica.view().number, replica.version().clone());
        let before = self.known.get(&node);
        if let Some((same, in_view, applied, _)) = before
            && *same == identity
            && identity.is_some()
            && *in_view == view
            && !version.contains_all(applied)
        {
            let detail = format!("{node} had applied {applied}, now {version}");
            return Err(Violation { property: "versions-grow", detail });
        }
        let kept = before.filter(|(same, in_view, ..)| *same == identity && *in_view == view);
        let durable = match kept {
            _ if settled => version.clone(),
            Some((_, _, _, durable)) => durable.clone(),
            None => DotContext::new(),
        };
        self.known.insert(node, (identity, view, version, durable));
        Ok(())
    }
}
