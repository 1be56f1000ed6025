//! State machine safety: no two processes ever apply different commands at one index.

use keypact_protocol::{Delivery, NodeId, Protocol};

use crate::{Counters, Observer, ProtocolProcess, RecordDisk, StateMachine, TraceHash, Violation};

/// Compares every delivery of every [`ProtocolProcess`] with the first one at its index. O(1) each.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Digest of the delivery at index `i + 1`.
    digests: Vec<u64>,
}

impl<P: Protocol, M: StateMachine> Observer<ProtocolProcess<P, M>> for Agreement
where
    P::Config: Clone,
{
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &ProtocolProcess<P, M>,
        _disk: &RecordDisk<P>,
    ) -> Result<(), Violation> {
        self.compare(node, process.delivered())
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &ProtocolProcess<P, M>,
        _disk: &RecordDisk<P>,
    ) -> Result<(), Violation> {
        self.compare(node, process.delivered())
    }

    fn count(&self, counters: &mut Counters) {
        counters.add("delivered-indices", self.digests.len() as u64);
    }
}

impl Agreement {
    fn compare(&mut self, node: NodeId, deliveries: &[Delivery]) -> Result<(), Violation> {
        for delivery in deliveries {
            let mut hash = TraceHash::default();
            hash.add(delivery.stamp_ms);
            hash.add(delivery.seed);
            hash.add_bytes(&delivery.command);
            let place = usize::try_from(delivery.index).expect("few deliveries") - 1;
            match self.digests.get(place) {
                Some(first) if *first != hash.value() => {
                    let detail = format!("{node} applies another command at index {}", delivery.index);
                    return Err(Violation::new("state-machine-safety", detail));
                }
                Some(_) => {}
                None if place == self.digests.len() => self.digests.push(hash.value()),
                None => {
                    let detail =
                        format!("{node} applies index {} before anyone the one before", delivery.index);
                    return Err(Violation::new("state-machine-safety", detail));
                }
            }
        }
        Ok(())
    }
}
