//! An identity is granted to one folder of one node, and counts on from where it was.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_ordering::clock::ReplicaId;
use keypact_protocol::{Incarnation, NodeId};

use super::Violation;
use crate::gossip::{Gossip, Replicated};

#[derive(Debug, Default)]
pub(super) struct GrantedIdentities {
    holders: BTreeMap<ReplicaId, (NodeId, Incarnation)>,
}

impl GrantedIdentities {
    pub(super) fn check<L: Replicated>(
        &mut self,
        node: NodeId,
        replica: &Gossip<L>,
    ) -> Result<(), Violation> {
        for row in replica.view().members.iter() {
            let holder = *self.holders.entry(row.replica).or_insert((row.node, row.folder));
            if holder != (row.node, row.folder) {
                let detail = format!(
                    "{} is {holder:?} and {:?}, as {node} knows",
                    row.replica,
                    (row.node, row.folder)
                );
                return Err(Violation { property: "one-identity-one-life", detail });
            }
        }
        let version = replica.version();
        let strange = version.spans().map(|span| span.replica).find(|of| !self.holders.contains_key(of));
        match strange {
            None => Ok(()),
            Some(of) => {
                let detail = format!("{node} has events of {of}, which was never granted");
                Err(Violation { property: "identities-are-granted", detail })
            }
        }
    }
}
