//! Broadcasting: a message gets the next place in the own stream, and is pushed to all members.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{Context, Draft, HEADROOM_BYTES, Refusal, Reply, RequestId, Sink};

use super::{Body, Broadcast, Order};
use crate::clock::{COUNTER_MAX, Dot};
use crate::envelope::Envelope;

impl<O: Order> Broadcast<O> {
    pub(super) fn propose(
        &mut self,
        id: RequestId,
        command: Draft,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        if let Some(why) = self.reason_to_refuse(&command) {
            self.counters.refused += 1;
            // Early: nothing was written.
            return out.reply_early(Reply::Refused { id, why });
        }
        self.own += 1;
        let dot = Dot::new(self.me, self.own);
        let after = O::context(self.me, &self.delivered);
        let body: Bytes = command.seal(|_| ()).slice(HEADROOM_BYTES..);
        let envelope = Envelope { dot, after, body };
        self.fresh.push(envelope.clone());
        self.deliver(envelope, Some(id), context.wall_ms, out);
        assert!(self.own <= self.delivered.get(self.me), "it is delivered here first");
    }

    fn reason_to_refuse(&self, command: &Draft) -> Option<Refusal> {
        if !self.is_member() || !self.joined {
            return Some(Refusal::NotLeader { leader: None });
        }
        if command.command_len() > self.config.max_body_bytes {
            return Some(Refusal::TooLarge);
        }
        // A welcome may have said any number of the own stream.
        if self.own >= COUNTER_MAX || !self.has_stream(self.me) {
            return Some(Refusal::Overloaded);
        }
        let in_flight = self.own.saturating_sub(self.held_by_all(self.me));
        (in_flight >= self.config.window).then_some(Refusal::Overloaded)
    }

    /// Sends what was broadcast since the last flush.
    pub(super) fn push_fresh(&mut self, out: &mut impl Sink<Self>) {
        if self.fresh.is_empty() {
            return;
        }
        let fresh = core::mem::take(&mut self.fresh);
        let others: Vec<_> = self.others().collect();
        for batch in batches(&fresh, self.config.max_batch_bytes) {
            assert!(!batch.is_empty(), "every batch has a message");
            for &to in &others {
                // Not early: a message that was sent and then lost here would leave its number to another one.
                out.send(to, Body::Data { envelopes: batch.to_vec() });
            }
        }
    }
}

/// Cuts messages into batches of at most so many bytes; each has at least one.
pub(super) fn batches(envelopes: &[Envelope], max_bytes: usize) -> impl Iterator<Item = &[Envelope]> {
    let mut rest = envelopes;
    core::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |envelope: &&Envelope| {
            bytes += envelope.encoded_len();
            bytes <= max_bytes
        };
        let len = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(len);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}
