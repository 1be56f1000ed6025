//! Receiving: each message waits for its turn, and is delivered once.

use alloc::vec::Vec;

use keypact_protocol::{Context, NodeId, Plant, Sink, planted};

use super::{Broadcast, Order, is_next};
use crate::clock::{Dot, ReplicaId};
use crate::envelope::Envelope;

impl<O: Order> Broadcast<O> {
    pub(super) fn on_data(
        &mut self,
        from: NodeId,
        envelopes: Vec<Envelope>,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        assert!(self.joined, "who has no place to begin from takes nothing");
        for envelope in envelopes {
            // Who sends a message has it, everything before it in its stream, and what it comes after.
            match self.note_sent(from, &envelope) {
                Ok(()) => self.take(envelope, context, out),
                refused => self.count_refused(refused),
            }
        }
        self.release(context, out);
    }

    /// Delivers a message, holds it back, or drops it.
    fn take(&mut self, envelope: Envelope, context: Context, out: &mut impl Sink<Self>) {
        let dot = envelope.dot;
        let twice = planted(Plant::DuplicateDelivered) && dot.counter == self.delivered.get(dot.replica);
        if dot.replica == self.me || (self.delivered.contains(dot) && !twice) {
            self.counters.duplicates += 1;
        } else if self.is_closed(dot.replica) {
            self.counters.refused_older_incarnation += 1;
        } else if (is_next(&self.delivered, dot) || twice) && self.is_ready(&envelope) {
            if self.has_room(dot.replica) {
                self.deliver(envelope, None, context.wall_ms, out);
                // What was asked for has come, or the first of it: if more is missing, it is asked for at once.
                self.pace.news |= self.asked.remove(&dot.replica).is_some();
            } else {
                self.counters.dropped_full += 1;
            }
        } else {
            self.hold_back(envelope);
        }
    }

    fn hold_back(&mut self, envelope: Envelope) {
        let dot = envelope.dot;
        self.pace.news = true;
        if self.held_back.contains_key(&dot) {
            self.counters.duplicates += 1;
        } else if self.held_back.len() >= self.config.held_back_max {
            // Whoever sent it has it still.
            self.counters.dropped_full += 1;
            if planted(Plant::DroppedCountsAsDelivered) {
                self.delivered.observe(dot);
            }
        } else {
            if self.delivered.is_next(dot) {
                self.counters.held_back_for_others += 1;
            } else {
                self.counters.held_back_for_gap += 1;
            }
            self.held_back.insert(dot, envelope);
        }
        assert!(self.held_back.len() <= self.config.held_back_max, "what waits is bounded");
    }

    /// Delivers what has come to its turn.
    pub(super) fn release(&mut self, context: Context, out: &mut impl Sink<Self>) {
        let mut changed = true;
        while changed && !self.held_back.is_empty() {
            changed = false;
            for replica in self.waiting_streams() {
                changed |= self.release_stream(replica, context, out);
            }
        }
    }

    fn release_stream(&mut self, replica: ReplicaId, context: Context, out: &mut impl Sink<Self>) -> bool {
        let mut changed = false;
        loop {
            let next = self.held_back.range(Dot::new(replica, 1)..=Dot::new(replica, u64::MAX)).next();
            let Some((&dot, envelope)) = next else { return changed };
            if self.delivered.contains(dot) || self.is_closed(replica) {
                self.held_back.remove(&dot);
                continue;
            }
            if !is_next(&self.delivered, dot) || !self.is_ready(envelope) {
                return changed;
            }
            if !self.has_room(replica) {
                return changed;
            }
            let envelope = self.held_back.remove(&dot).expect("it was just seen");
            self.counters.released += 1;
            self.deliver(envelope, None, context.wall_ms, out);
            changed = true;
        }
    }

    fn waiting_streams(&self) -> Vec<ReplicaId> {
        let mut streams: Vec<ReplicaId> = self.held_back.keys().map(|dot| dot.replica).collect();
        streams.dedup();
        streams
    }

    /// Whether all that a message must come after is there.
    fn is_ready(&self, envelope: &Envelope) -> bool {
        self.earlier_lives_done(envelope.dot.replica)
            && O::is_ready(&envelope.after, |dot| self.delivered.contains(dot) || self.is_closed(dot.replica))
    }

    /// A node's messages of an earlier incarnation come before those of a later one: what a member is known to hold of them is waited for.
    fn earlier_lives_done(&self, replica: ReplicaId) -> bool {
        if self.delivered.get(replica) > 0 {
            return true;
        }
        let (node, incarnation) = replica.life();
        let earlier = |holds: ReplicaId| holds.life().0 == node && holds.life().1 < incarnation;
        let members = self.peers.iter().filter(|(peer, _)| self.view.has(**peer));
        let held = members.flat_map(|(_, holds)| holds.iter());
        held.filter(|(holds, _)| earlier(*holds)).all(|(holds, last)| self.delivered.get(holds) >= last)
    }

    /// Whether a later incarnation of the same node was delivered: nothing of this one comes any more.
    pub(super) fn is_closed(&self, replica: ReplicaId) -> bool {
        let (node, incarnation) = replica.life();
        let later = |other: ReplicaId| other.life().0 == node && other.life().1 > incarnation;
        self.delivered.iter().any(|(other, _)| later(other))
    }

    /// What members may lack is kept, and that is bounded: a stream that has too much of it waits.
    fn has_room(&mut self, replica: ReplicaId) -> bool {
        let limit = self.config.window.saturating_mul(2);
        if self.store.count(replica) >= limit {
            // Who catches up takes what all others hold: none of that need be kept, and no status has to come first.
            self.forget_held_by_all();
        }
        self.has_stream(replica) && self.store.count(replica) < limit
    }
}
