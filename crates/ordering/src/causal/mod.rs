//! Causal order: no member delivers a message before the messages that its sender had delivered when it sent it.
//!
//! *What it guarantees.* FIFO order ([`crate::fifo`]), and more: if a message was sent by who had delivered another one, everyone delivers
//! the other one first. An answer never comes before its question. Concurrent messages come in any order.
//!
//! *How.* Each message carries the vector clock of what its sender had delivered. A member holds it back until all of that was delivered
//! here, and asks the sender, who has it, for what is missing. The buffer is bounded: what does not fit is dropped and asked for again.
//!
//! *From.* Birman, Schiper & Stephenson, "Lightweight Causal and Atomic Group Multicast" (1991), the protocol CBCAST; vector clocks: Fidge
//! (1988), Mattern (1989). `docs/protocols/causal.md` says where we differ.
//!
//! *Membership.* A view change replaces who is waited for. Messages of a member that left are still delivered as long as anybody who stays
//! has them: whoever sent what comes after them does. A newcomer begins with a member's clock, and takes all before it for delivered.
//!
//! The states and the dispatch are those of [`crate::broadcast`].

use keypact_protocol::{Plant, planted};

use crate::broadcast::{Broadcast, Order};
use crate::clock::{Dot, ReplicaId, VectorClock};

/// One member of a causal group.
pub type Causal = Broadcast<CausalOrder>;

/// A message waits for everything that its sender had delivered.
#[derive(Clone, Copy, Debug)]
pub struct CausalOrder;

impl Order for CausalOrder {
    fn context(me: ReplicaId, delivered: &VectorClock) -> VectorClock {
        let mut after = delivered.clone();
        // The dot says it already.
        after.forget(me);
        if planted(Plant::ContextStale) {
            // As if taken before the newest message of each stream was counted.
            after = after.iter().map(|(replica, counter)| (replica, counter - 1)).collect();
        }
        assert!(after.get(me) == 0, "a message does not come after itself");
        after
    }

    fn is_ready(after: &VectorClock, covered: impl Fn(Dot) -> bool) -> bool {
        planted(Plant::CausalCheckSkipped)
            || after.iter().all(|(replica, counter)| covered(Dot::new(replica, counter)))
    }
}
