//! What a member delivered to its parent stays counted, over crashes, too: the record was durable before.

use alloc::collections::BTreeMap;
use alloc::format;

use keypact_protocol::NodeId;

use super::Violation;
use crate::clock::{Dot, VectorClock};

#[derive(Debug, Default)]
pub(super) struct ClockNeverFalls {
    told: BTreeMap<NodeId, VectorClock>,
}

impl ClockNeverFalls {
    pub(super) fn delivered(&mut self, node: NodeId, dot: Dot) {
        self.told.entry(node).or_default().observe(dot);
    }

    pub(super) fn check(&self, node: NodeId, clock: &VectorClock) -> Result<(), Violation> {
        let Some(told) = self.told.get(&node) else { return Ok(()) };
        if clock.contains_all(told) {
            return Ok(());
        }
        let detail = format!("{node} delivered {told}, and now counts {clock}");
        Err(Violation { property: "delivered-stays-counted", detail })
    }
}
