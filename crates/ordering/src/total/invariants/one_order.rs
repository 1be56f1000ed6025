//! At one index all members deliver the same, with the same stamp and seed, in every life.

use alloc::collections::BTreeMap;
use alloc::format;

use bytes::Bytes;
use keypact_protocol::{Delivery, NodeId};

use super::Violation;

/// What was delivered where.
#[derive(Debug, Default)]
pub(super) struct OneOrder {
    delivered: BTreeMap<u64, (NodeId, Bytes, u64, u64)>,
}

impl OneOrder {
    pub(super) fn check(&mut self, node: NodeId, delivered: &[Delivery]) -> Result<(), Violation> {
        for delivery in delivered {
            let index = delivery.index;
            let this = (node, delivery.command.clone(), delivery.stamp_ms, delivery.seed);
            let first = self.delivered.entry(index).or_insert_with(|| this.clone());
            if (&first.1, first.2, first.3) != (&this.1, this.2, this.3) {
                let detail = format!(
                    "at {index} {} delivered {:?}, and {node} delivers {:?}",
                    first.0, first.1, this.1
                );
                return Err(Violation { property: "one-order", detail });
            }
        }
        Ok(())
    }
}
