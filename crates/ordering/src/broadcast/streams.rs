//! The limit of streams: what a member counts, for itself and of others, never has more of them than [`STREAMS_MAX`].

use core::fmt;

use keypact_protocol::NodeId;

use super::{Broadcast, Order, STREAMS_MAX};
use crate::clock::{ReplicaId, VectorClock};
use crate::envelope::Envelope;

/// What was said has, with what is known, more than [`STREAMS_MAX`] streams. The clock that it should have gone into is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyStreams;

impl fmt::Display for TooManyStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {STREAMS_MAX} streams; the clock is unchanged")
    }
}

impl core::error::Error for TooManyStreams {}

/// Whether a clock may take in another one. The exact count only if the sum of both is too large: most often it is not.
pub(super) fn check_union(clock: &VectorClock, other: &VectorClock) -> Result<(), TooManyStreams> {
    let fits = clock.len() + other.len() <= STREAMS_MAX || clock.merged_len(other) <= STREAMS_MAX;
    if fits { Ok(()) } else { Err(TooManyStreams) }
}

impl<O: Order> Broadcast<O> {
    /// Whether the stream is known, or can become so.
    pub(super) fn has_stream(&self, replica: ReplicaId) -> bool {
        self.delivered.get(replica) > 0 || self.delivered.len() < STREAMS_MAX
    }

    /// Notes that a member holds these, too. A member's own clock is within the limit and only grows, so one that keeps the rules is never
    /// refused.
    pub(super) fn note_held(&mut self, member: NodeId, holds: &VectorClock) -> Result<(), TooManyStreams> {
        let known = self.peers.entry(member).or_default();
        check_union(known, holds)?;
        known.merge(holds);
        assert!(known.len() <= STREAMS_MAX, "what is known of a member is bounded");
        Ok(())
    }

    /// Notes that a member holds a message, and with it what that comes after.
    pub(super) fn note_sent(&mut self, member: NodeId, envelope: &Envelope) -> Result<(), TooManyStreams> {
        assert!(envelope.after.get(envelope.dot.replica) == 0, "the dot counts the sender's own messages");
        let known = self.peers.entry(member).or_default();
        let own = usize::from(known.get(envelope.dot.replica) == 0);
        let bound = known.len() + envelope.after.len() + own;
        if bound > STREAMS_MAX && known.merged_len(&envelope.after) + own > STREAMS_MAX {
            return Err(TooManyStreams);
        }
        known.observe(envelope.dot);
        known.merge(&envelope.after);
        Ok(())
    }

    pub(super) fn count_refused(&mut self, done: Result<(), TooManyStreams>) {
        self.counters.refused_streams += u64::from(done.is_err());
    }
}
