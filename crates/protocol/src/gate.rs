//! The gate: holds what a child says until the disk has what the child wrote before saying it.
//!
//! One gate per child, all keyed by the node-wide log sequence number, so a child waits for its own last append and for nobody else's.
//! Simulator and server use this same code.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::{Delivery, Lsn, NodeId, Plant, Protocol, Reply, Sink, SnapshotChunk, SnapshotRead, planted};

/// What is behind the gate: effects that reach it happen at once.
pub trait Outlet<P: Protocol> {
    /// Appends to the node's log; returns the record's number.
    fn append(&mut self, record: P::Record) -> Lsn;
    /// Sends to a peer.
    fn send(&mut self, to: NodeId, message: P::Message);
    /// Answers the parent.
    fn reply(&mut self, reply: Reply);
    /// Gives the parent a command to apply.
    fn deliver(&mut self, delivery: Delivery);
    /// See [`Sink::set_timer`].
    fn set_timer(&mut self, timer: P::Timer, at_ns: u64);
    /// See [`Sink::cancel_timer`].
    fn cancel_timer(&mut self, timer: P::Timer);
    /// See [`Sink::checkpoint`].
    fn checkpoint(&mut self, meta: Bytes);
    /// See [`Sink::drop_log_before`].
    fn drop_log_before(&mut self, lsn: Lsn);
    /// See [`Sink::snapshot_out`].
    fn snapshot_out(&mut self, read: SnapshotRead);
    /// See [`Sink::snapshot_in`].
    fn snapshot_in(&mut self, chunk: SnapshotChunk);
}

/// An effect that waits for the disk.
#[derive(Clone, Debug)]
pub enum Held<P: Protocol> {
    /// A message to a peer.
    Send(NodeId, P::Message),
    /// An answer to the parent.
    Reply(Reply),
    /// A command for the parent to apply.
    Deliver(Delivery),
}

/// One child's gate.
///
/// Invariant: held effects are in the order in which the child spoke, and their numbers never fall.
#[derive(Debug)]
pub struct Gate<P: Protocol> {
    /// Everything up to here is on disk.
    durable: Lsn,
    /// The child's last append.
    last_append: Lsn,
    held: VecDeque<(Lsn, Held<P>)>,
}

impl<P: Protocol> Gate<P> {
    /// A gate for a child whose records up to `durable` are on disk, and which has appended nothing since.
    #[must_use]
    pub fn new(durable: Lsn) -> Gate<P> {
        Gate { durable, last_append: durable, held: VecDeque::new() }
    }

    /// Whether what the child says now may leave at once.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        self.last_append <= self.durable || planted(Plant::GateAlwaysOpen)
    }

    /// How many effects are held.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Whether a command for the parent is among them: then the parent's state is not yet what the child takes it for. O(held effects).
    #[must_use]
    pub fn holds_delivery(&self) -> bool {
        self.held.iter().any(|(_, held)| matches!(held, Held::Deliver(_)))
    }

    /// The disk has everything up to `durable`: what waited for that leaves, in order.
    pub fn release(&mut self, durable: Lsn, outlet: &mut impl Outlet<P>) {
        assert!(durable >= self.durable, "the durable number never falls");
        self.durable = durable;
        while self.held.front().is_some_and(|(lsn, _)| *lsn <= durable) {
            let (_, held) = self.held.pop_front().expect("front was there");
            pass(held, outlet);
        }
        assert!(self.held.front().is_none_or(|(lsn, _)| *lsn > durable), "what is durable is not held back");
    }

    /// The sink to hand to the child.
    pub fn sink<'a, O: Outlet<P>>(&'a mut self, outlet: &'a mut O) -> Gated<'a, P, O> {
        Gated { gate: self, outlet }
    }

    fn appended(&mut self, lsn: Lsn) {
        assert!(lsn > self.last_append, "log sequence numbers rise");
        self.last_append = lsn;
    }

    fn hold(&mut self, held: Held<P>) {
        assert!(self.last_append > self.durable, "only what waits for the disk is held");
        debug_assert!(self.held.back().is_none_or(|(lsn, _)| *lsn <= self.last_append));
        self.held.push_back((self.last_append, held));
    }
}

fn pass<P: Protocol>(held: Held<P>, outlet: &mut impl Outlet<P>) {
    match held {
        Held::Send(to, message) => outlet.send(to, message),
        Held::Reply(reply) => outlet.reply(reply),
        Held::Deliver(delivery) => outlet.deliver(delivery),
    }
}

/// A [`Sink`] that holds what must wait and passes on the rest.
#[derive(Debug)]
pub struct Gated<'a, P: Protocol, O> {
    gate: &'a mut Gate<P>,
    outlet: &'a mut O,
}

impl<P: Protocol, O: Outlet<P>> Sink<P> for Gated<'_, P, O> {
    fn append(&mut self, record: P::Record) -> Lsn {
        let lsn = self.outlet.append(record);
        self.gate.appended(lsn);
        lsn
    }

    #[inline]
    fn send(&mut self, to: NodeId, message: P::Message) {
        if self.gate.is_open() {
            self.outlet.send(to, message)
        } else {
            self.gate.hold(Held::Send(to, message))
        }
    }

    #[inline]
    fn send_early(&mut self, to: NodeId, message: P::Message) {
        self.outlet.send(to, message);
    }

    #[inline]
    fn reply(&mut self, reply: Reply) {
        if self.gate.is_open() { self.outlet.reply(reply) } else { self.gate.hold(Held::Reply(reply)) }
    }

    #[inline]
    fn reply_early(&mut self, reply: Reply) {
        self.outlet.reply(reply);
    }

    #[inline]
    fn deliver(&mut self, delivery: Delivery) {
        if self.gate.is_open() {
            self.outlet.deliver(delivery);
        } else {
            self.gate.hold(Held::Deliver(delivery));
        }
    }

    #[inline]
    fn deliver_early(&mut self, delivery: Delivery) {
        self.outlet.deliver(delivery);
    }

    fn set_timer(&mut self, timer: P::Timer, at_ns: u64) {
        self.outlet.set_timer(timer, at_ns);
    }

    fn cancel_timer(&mut self, timer: P::Timer) {
        self.outlet.cancel_timer(timer);
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.outlet.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.outlet.drop_log_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.outlet.snapshot_out(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.outlet.snapshot_in(chunk);
    }
}
