//! FIFO order: every member delivers each sender's messages in the order in which they were sent.
//!
//! *What it guarantees.* What [`crate::broadcast`] does: no message twice, none that nobody sent, in the end the same messages everywhere;
//! and of each stream message n + 1 only after message n. Messages of different senders come in any order, a different one at each member.
//!
//! *How.* A stream is a node in one incarnation of its folder. Its messages are counted from 1 without gaps, and the count goes on after a
//! crash, since a message is on the sender's disk before anybody hears of it. A member delivers the next of a stream, drops what it has, and
//! holds back what comes after a gap while it asks for what is missing. A node that lost its disk comes back under the next incarnation:
//! a new stream, which comes after everything that any member holds of the old one.
//!
//! *From.* Hadzilacos & Toueg (1994), FIFO broadcast. Bare TCP gives the same order on one connection; over a reconnect it loses or doubles
//! what was on its way.
//!
//! The states and the dispatch are those of [`crate::broadcast`]; here stands only what a message waits for: nothing more.

use crate::broadcast::{Broadcast, Order};
use crate::clock::{Dot, ReplicaId, VectorClock};

/// One member of a FIFO group.
pub type Fifo = Broadcast<FifoOrder>;

/// A message waits for the one before it in its stream, and for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct FifoOrder;

impl Order for FifoOrder {
    fn context(_me: ReplicaId, _delivered: &VectorClock) -> VectorClock {
        VectorClock::new()
    }

    fn is_ready(_after: &VectorClock, _covered: impl Fn(Dot) -> bool) -> bool {
        true
    }
}
