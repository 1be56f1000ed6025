//! Transfers: one large delta of all that a peer lacks, in parts.
//!
//! ```text
//!  sender                                   receiver
//!     │◀─────────── Digest ───────────────────│
//!     │── Part{0 of 3} ─────────────────────▶ │ kept in memory
//!     │◀── Next{1} ────────────────────────── │
//!     │── Part{1 of 3} ──── lost                 the next round's digest makes the sender say it again
//!     │── Part{2 of 3} ─────────────────────▶ │ all written, then joined
//!     │◀─────────── Digest ───────────────────│
//! ```
//! Parts are joined together or not at all. A part that is joined alone may make a dot live whose event is claimed by the last part only; if the
//! sender is lost before that, nobody has the event, and two replicas differ of which both claim the same events.
//!
//! The delta says what changed since the receiver's digest: that something was removed, and not by which event if the digest had that. So it is
//! for a state that has applied the digest (the causal delta-merging condition: Almeida, Shoker & Baquero 2018, definition 5). Within a
//! view and an identity a replica's version only grows, and messages of other views are refused.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_crdt::Delta;
use keypact_ordering::clock::DotContext;
use keypact_protocol::{NodeId, Sink, Wire};

use super::change::{Change, Replicated};
use super::config::{PARTS_MAX, ns};
use super::{Ask, Body, Gossip, Record};

/// A transfer to a peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    transfer: u64,
    parts: Vec<Bytes>,
    /// The part that was sent last.
    next: usize,
    /// What the peer has once it has taken it.
    claims: DotContext,
    touched_ns: u64,
}

/// A transfer from a peer.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) from: NodeId,
    transfer: u64,
    count: u32,
    parts: Vec<Bytes>,
    bytes: usize,
    touched_ns: u64,
}

impl Incoming {
    pub(super) fn assert_invariants(&self, bytes_max: usize) {
        assert!((self.parts.len() as u64) < u64::from(self.count), "what is whole is joined");
        assert!(self.bytes <= bytes_max, "a transfer is bounded");
    }
}

impl<L: Replicated> Gossip<L> {
    /// Begins a transfer, or says its last part again.
    pub(super) fn send_transfer(
        &mut self,
        to: NodeId,
        version: &DotContext,
        now_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        if !self.outgoing.contains_key(&to) {
            if self.outgoing.len() >= self.config.transfers_max {
                self.counters.refused_full += 1;
                return;
            }
            let Some(outgoing) = self.make_transfer(version, now_ns) else { return };
            self.outgoing.insert(to, outgoing);
        }
        assert!(self.outgoing.len() <= self.config.transfers_max, "transfers are bounded");
        self.send_part(to, now_ns, out);
    }

    fn make_transfer(&mut self, version: &DotContext, now_ns: u64) -> Option<Outgoing> {
        let delta = self.state.delta_since(version);
        if delta.encoded_len() > self.config.transfer_bytes_max {
            self.counters.refused_too_large += 1;
            return None;
        }
        let encode = |part: L::Delta| {
            let mut bytes = Vec::with_capacity(part.encoded_len());
            part.encode(&mut bytes);
            Bytes::from(bytes)
        };
        let parts: Vec<Bytes> = delta.split(self.config.budget_bytes).into_iter().map(encode).collect();
        if parts.len() as u64 >= u64::from(PARTS_MAX) {
            self.counters.refused_too_large += 1;
            return None;
        }
        assert!(!parts.is_empty(), "a delta with events has a part");
        self.counters.transfers_begun += 1;
        self.counters.transfers_in_parts += u64::from(parts.len() > 1);
        self.transfers_begun = self.transfers_begun.wrapping_add(1);
        assert!(!version.contains_all(&self.version), "a transfer brings something");
        let (transfer, claims) = (self.transfers_begun, self.version.clone());
        Some(Outgoing { transfer, parts, next: 0, claims, touched_ns: now_ns })
    }

    fn send_part(&mut self, to: NodeId, now_ns: u64, out: &mut impl Sink<Self>) {
        let Some(outgoing) = self.outgoing.get_mut(&to) else { return };
        outgoing.touched_ns = now_ns;
        assert!(outgoing.next < outgoing.parts.len(), "only a part can be sent");
        let (index, count) = (outgoing.next as u32, outgoing.parts.len() as u32);
        let (transfer, delta) = (outgoing.transfer, outgoing.parts[outgoing.next].clone());
        self.counters.parts_sent += 1;
        let body = Body::Part { stamp: self.clock.last(), transfer, index, count, delta };
        out.send(to, self.message(body));
    }

    pub(super) fn on_next(
        &mut self,
        from: NodeId,
        transfer: u64,
        index: u32,
        now_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        let Some(outgoing) = self.outgoing.get_mut(&from) else { return };
        if outgoing.transfer != transfer || index as usize >= outgoing.parts.len() {
            return;
        }
        // A question asked twice is answered once. Were each doubled one answered, and each answer asked behind, none would die out and
        // every doubling stay: they would fill the link (TFTP's sorcerer's apprentice: RFC 1123, 4.2.3.1). What is lost, a digest says again.
        let (index, said) = (index as usize, outgoing.next);
        let begins_anew = index == 0 && said > 0;
        if index <= said && !begins_anew {
            return;
        }
        outgoing.next = index;
        self.send_part(from, now_ns, out);
    }

    /// A peer that has what it was sent needs no more of it.
    pub(super) fn close_transfer(&mut self, peer: NodeId, version: &DotContext) {
        if self.outgoing.get(&peer).is_some_and(|outgoing| version.contains_all(&outgoing.claims)) {
            self.outgoing.remove(&peer);
            self.counters.transfers_ended += 1;
        }
    }

    pub(super) fn give_up_transfers(&mut self, now_ns: u64) {
        let timeout_ns = ns(self.config.transfer_timeout_ms);
        let stale = |touched_ns: u64| now_ns.saturating_sub(touched_ns) >= timeout_ns;
        let before = self.outgoing.len() + usize::from(self.incoming.is_some());
        self.outgoing.retain(|_, outgoing| !stale(outgoing.touched_ns));
        self.incoming.take_if(|incoming| stale(incoming.touched_ns));
        let after = self.outgoing.len() + usize::from(self.incoming.is_some());
        assert!(after <= before, "giving up begins nothing");
        self.counters.transfers_given_up += (before - after) as u64;
    }

    pub(super) fn on_part(
        &mut self,
        from: NodeId,
        (transfer, index, count): (u64, u32, u32),
        delta: Bytes,
        now_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        if self.incoming.as_ref().is_some_and(|incoming| incoming.from != from) {
            // One at a time: two would mostly bring the same.
            self.counters.refused_full += 1;
            return;
        }
        let continues = |incoming: &Incoming| incoming.transfer == transfer && incoming.count == count;
        if !self.incoming.as_ref().is_some_and(continues) {
            self.incoming = None;
            if index > 0 {
                // Begun before a crash, or given up: from its beginning, please. Early: a question.
                return out.send_early(from, self.message(Body::Next { transfer, index: 0 }));
            }
            self.incoming =
                Some(Incoming { from, transfer, count, parts: Vec::new(), bytes: 0, touched_ns: now_ns });
        }
        let incoming = self.incoming.as_mut().expect("it was there, or was made");
        assert!(incoming.from == from && incoming.transfer == transfer, "a part of the one under way");
        if index as usize == incoming.parts.len() {
            if incoming.bytes + delta.len() > self.config.transfer_bytes_max {
                self.counters.refused_too_large += 1;
                self.incoming = None;
                return;
            }
            incoming.bytes += delta.len();
            incoming.parts.push(delta);
            incoming.touched_ns = now_ns;
        }
        if incoming.parts.len() < incoming.count as usize {
            let next = incoming.parts.len() as u32;
            // Early: what was taken so far is in memory only, and a crash makes it ask from the beginning.
            return out.send_early(from, self.message(Body::Next { transfer, index: next }));
        }
        let parts = self.incoming.take().expect("it is whole").parts;
        self.join_transfer(from, parts, out);
    }

    /// Joins all parts, the last one last.
    fn join_transfer(&mut self, from: NodeId, parts: Vec<Bytes>, out: &mut impl Sink<Self>) {
        let count = parts.len();
        assert!(count > 0 && self.incoming.is_none(), "a transfer is joined whole, and once");
        if self.held.len() + count > self.config.held_max.max(count) {
            self.counters.refused_full += 1;
            return;
        }
        let decoded: Result<Vec<L::Delta>, _> =
            parts.iter().map(|bytes| L::Delta::decode(bytes.clone())).collect();
        let Ok(decoded) = decoded else {
            self.counters.refused_undecodable += 1;
            return;
        };
        for delta in decoded {
            self.state.apply(delta);
        }
        let first_index = self.index + 1;
        for (at, bytes) in (1..).zip(&parts) {
            if at == count {
                self.write_applied(bytes.clone(), count as u32 - 1, out);
            } else {
                self.index += 1;
                self.append(Record::Part { delta: bytes.clone() }, bytes.len(), out);
            }
        }
        assert!(self.index + 1 == first_index + count as u64, "every part has its index");
        // Given only behind the record that makes them count: a parent must not keep a part that a crash takes back.
        for (index, bytes) in (first_index..).zip(parts) {
            self.give(index, Change::Join(bytes), None, None, out);
        }
        self.version = self.state.version();
        self.counters.transfers_joined += 1;
        self.pace.news();
        self.serve_if_caught_up(out);
        self.send_digest(from, Ask::No, out);
    }
}
