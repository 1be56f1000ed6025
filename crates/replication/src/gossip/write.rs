//! Writes: carried out here, written down, pushed to a few, acknowledged.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_crdt::Delta;
use keypact_ordering::clock::DotContext;
use keypact_protocol::{Context, Delivery, Draft, NodeId, Refusal, Reply, RequestId, Sink, Wire};

use super::change::{Change, Replicated, Writer};
use super::config::{DELTAS_MAX, ns};
use super::{Body, Gossip, Record, Timer};

/// A change that the parent was not yet given.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) index: u64,
    pub(super) change: Bytes,
    pub(super) wait: Option<Wait>,
}

/// A write that waits for its acknowledgements.
#[derive(Debug)]
pub(super) struct Wait {
    id: RequestId,
    events: DotContext,
    confirmed: Vec<NodeId>,
    until_ns: u64,
}

fn refuse<L: Replicated>(id: RequestId, why: Refusal, out: &mut impl Sink<Gossip<L>>) {
    // Early: nothing was written, which no crash can make untrue.
    out.reply_early(Reply::Refused { id, why });
}

impl<L: Replicated> Gossip<L> {
    pub(super) fn propose(
        &mut self,
        id: RequestId,
        command: &Draft,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        let row = self.row().copied().filter(|row| self.serving && !row.draining);
        let Some(row) = row else {
            let why = self.elsewhere();
            return refuse(id, why, out);
        };
        let refusal = if command.command_len() > self.config.max_command_bytes {
            Some(Refusal::TooLarge)
        } else {
            // The other half is for what peers wrote. Were replicas full of own writes, each would wait for the others to take them.
            (self.held.len() >= self.config.held_max.div_ceil(2)).then_some(Refusal::Overloaded)
        };
        if let Some(why) = refusal {
            return refuse(id, why, out);
        }
        let stamp = self.clock.now(context.wall_ms);
        let writer = Writer { replica: row.replica, stamp, seed: self.pace.draw() };
        let delta = match self.state.carry_out(Bytes::copy_from_slice(command.command()), writer) {
            Ok(delta) => delta,
            Err(why) => return refuse(id, why, out),
        };
        assert!(self.replica == Some(row.replica), "a replica counts under its own identity");
        self.counters.writes += 1;
        self.pace.news();
        let mut bytes = Vec::with_capacity(delta.encoded_len());
        delta.encode(&mut bytes);
        let (events, bytes) = (delta.events(), Bytes::from(bytes));
        assert!(events.spans().all(|span| span.replica == row.replica), "a command is one replica's event");
        assert!(
            events.is_empty() == delta.is_empty(),
            "what changes something is an event: else nobody would lack it"
        );
        assert!(events.is_empty() || !self.version.contains_all(&events), "an own event is new");
        self.version.merge(&events);
        assert!(self.version.contains_all(&events), "what was carried out was applied");
        if !delta.is_empty() {
            self.recent.insert(&events, bytes.clone());
            self.fresh.push(bytes.clone());
        }
        self.write_applied(bytes.clone(), 0, out);
        let acks = if events.is_empty() { 0 } else { self.config.acks };
        let wait = (acks > 0).then(|| {
            let until_ns = context.now_ns.saturating_add(ns(self.config.ack_timeout_ms));
            Wait { id, events, confirmed: Vec::new(), until_ns }
        });
        let request = if wait.is_some() { None } else { Some(id) };
        self.give(self.index, Change::Join(bytes), request, wait, out);
    }

    /// Writes down that a delta was joined, with `parts` before it; takes its index.
    pub(super) fn write_applied(&mut self, delta: Bytes, parts: u32, out: &mut impl Sink<Self>) {
        self.index += 1;
        assert!(u64::from(parts) < self.index, "the parts have indices, too");
        let len = delta.len();
        let record = Record::Applied { index: self.index, stamp: self.clock.last(), parts, delta };
        self.append(record, len, out);
    }

    /// Gives the parent a change, or lets it wait.
    pub(super) fn give(
        &mut self,
        index: u64,
        change: Change,
        request: Option<RequestId>,
        wait: Option<Wait>,
        out: &mut impl Sink<Self>,
    ) {
        let mut bytes = Vec::new();
        change.encode(&mut bytes);
        let change = Bytes::from(bytes);
        if self.held.is_empty() && wait.is_none() {
            return self.deliver(index, change, request, out);
        }
        // Without a wait of its own it is a peer's change, or a write that changed nothing: its request is answered in its turn.
        let wait = wait.or_else(|| {
            let id = request?;
            Some(Wait { id, events: DotContext::new(), confirmed: Vec::new(), until_ns: u64::MAX })
        });
        let first = self.held.is_empty();
        assert!(self.held.back().is_none_or(|last| last.index + 1 == index), "indices have no gaps");
        assert!(!first || wait.is_some(), "nothing waits for nothing");
        self.held.push_back(Held { index, change, wait });
        if first {
            self.set_acknowledge_timer(out);
        }
    }

    fn deliver(&mut self, index: u64, command: Bytes, request: Option<RequestId>, out: &mut impl Sink<Self>) {
        out.deliver(self.delivery(index, command, request));
    }

    pub(super) fn delivery(&self, index: u64, command: Bytes, request: Option<RequestId>) -> Delivery {
        assert!(index > 0 && index <= self.index, "only what was written is given");
        let seed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Delivery { index, stamp_ms: self.clock.last().wall_ms, seed, command, request }
    }

    /// A peer has these events on its disk.
    pub(super) fn confirm(&mut self, peer: NodeId, version: &DotContext, out: &mut impl Sink<Self>) {
        if let Some(replica) = self.replica {
            let known = version.spans().find(|span| span.replica == replica && span.first == 1);
            let before = self.spread;
            self.spread = self.spread.max(known.map_or(0, |span| span.last));
            assert!(self.spread >= before, "what another has it keeps, as far as is known");
        }
        for held in &mut self.held {
            if let Some(wait) = &mut held.wait
                && version.contains_all(&wait.events)
                && !wait.confirmed.contains(&peer)
            {
                wait.confirmed.push(peer);
                assert!(peer != self.config.id, "nobody acknowledges to itself");
            }
        }
        self.release(0, out);
    }

    /// Whether somebody's acknowledgement is waited for.
    pub(super) fn wants_acknowledgement(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives the parent what need not wait any longer, in order.
    fn release(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let before = self.held.len();
        while let Some(front) = self.held.front() {
            let acks = self.config.acks;
            let (done, late) = front.wait.as_ref().map_or((true, false), |wait| {
                let enough = wait.events.is_empty() || wait.confirmed.len() >= acks;
                (enough, wait.until_ns <= now_ns)
            });
            if !done && !late {
                break;
            }
            let Held { index, change, wait } = self.held.pop_front().expect("front was there");
            let request = wait.map(|wait| wait.id);
            if let Some(id) = request.filter(|_| !done) {
                self.counters.uncertain += 1;
                out.reply(Reply::Uncertain { id });
            } else if request.is_some() {
                self.counters.acknowledged += 1;
            }
            self.deliver(index, change, request.filter(|_| done), out);
        }
        assert!(self.held.front().is_none_or(|held| held.wait.is_some()), "nothing waits for nothing");
        if self.held.len() < before {
            self.set_acknowledge_timer(out);
        }
    }

    fn set_acknowledge_timer(&self, out: &mut impl Sink<Self>) {
        match self.held.front().and_then(|held| held.wait.as_ref()) {
            Some(wait) => out.set_timer(Timer::Acknowledge, wait.until_ns),
            None => out.cancel_timer(Timer::Acknowledge),
        }
    }

    pub(super) fn on_acknowledge_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        self.release(now_ns, out);
        self.set_acknowledge_timer(out);
    }

    /// Nobody who waits will be told that it was applied: what it wrote here is dropped, and may live elsewhere.
    pub(super) fn give_up_held(&mut self, out: &mut impl Sink<Self>) {
        for held in core::mem::take(&mut self.held) {
            if let Some(wait) = held.wait {
                self.counters.uncertain += 1;
                out.reply(Reply::Uncertain { id: wait.id });
            }
            self.deliver(held.index, held.change, None, out);
        }
        out.cancel_timer(Timer::Acknowledge);
        assert!(self.held.is_empty(), "all were given up");
    }

    /// Tells a few peers at once of what was written since the last flush.
    pub(super) fn push_fresh(&mut self, out: &mut impl Sink<Self>) {
        if self.fresh.is_empty() {
            return;
        }
        let mut deltas = core::mem::take(&mut self.fresh);
        let mut bytes = 0;
        let fits = deltas.iter().take_while(|delta| {
            bytes += delta.len();
            bytes <= self.config.budget_bytes
        });
        // The first goes in any case. The rest is found by the digests.
        let count = fits.count().clamp(1, DELTAS_MAX);
        deltas.truncate(count);
        assert!(!deltas.is_empty() && self.row().is_some(), "members write");
        let peers = self.pick_peers(self.config.push_to.max(self.config.acks));
        let (stamp, answer) = (self.clock.last(), self.wants_acknowledgement());
        for peer in peers {
            self.counters.pushed += 1;
            let body = Body::Deltas { stamp, deltas: deltas.clone(), answer };
            out.send(peer, self.message(body));
        }
    }
}
