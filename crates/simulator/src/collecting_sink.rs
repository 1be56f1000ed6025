//! [`CollectingSink`]: what one protocol value did, for whoever drives it by hand.

use bytes::Bytes;
use keypact_protocol::{Delivery, Lsn, NodeId, Protocol, Reply, Sink, SnapshotChunk, SnapshotRead};

/// Keeps what a protocol does, in order, until it is taken: for unit tests, benches and examples that give a value its inputs themselves. There is
/// no gate: what waits for the disk stands beside what was said early, and whoever drives says when [`CollectingSink::lsn`] is durable.
/// Records and timers are passed over. Nothing is bounded; a long run takes out or clears what it does not need.
#[derive(Debug)]
pub struct CollectingSink<P: Protocol> {
    /// The number of the last record.
    pub lsn: Lsn,
    /// Messages, early ones too.
    pub sent: Vec<(NodeId, P::Message)>,
    /// Answers to the parent, early ones too.
    pub replies: Vec<Reply>,
    /// Deliveries, early ones too.
    pub delivered: Vec<Delivery>,
    /// The metas of the checkpoints that were asked for.
    pub checkpoints: Vec<Bytes>,
    /// Chunks of the own checkpoint that were asked for.
    pub reads: Vec<SnapshotRead>,
    /// Chunks of a peer's snapshot that the parent was given.
    pub chunks: Vec<SnapshotChunk>,
}

impl<P: Protocol> CollectingSink<P> {
    /// Of a value that was given the records up to `lsn` at recovery; [`Lsn::ZERO`] if there were none.
    #[must_use]
    pub fn after(lsn: Lsn) -> CollectingSink<P> {
        CollectingSink {
            lsn,
            sent: Vec::new(),
            replies: Vec::new(),
            delivered: Vec::new(),
            checkpoints: Vec::new(),
            reads: Vec::new(),
            chunks: Vec::new(),
        }
    }
}

impl<P: Protocol> Default for CollectingSink<P> {
    fn default() -> CollectingSink<P> {
        CollectingSink::after(Lsn::ZERO)
    }
}

impl<P: Protocol> Sink<P> for CollectingSink<P> {
    fn append(&mut self, _record: P::Record) -> Lsn {
        self.lsn = self.lsn.next();
        self.lsn
    }

    fn send(&mut self, to: NodeId, message: P::Message) {
        self.sent.push((to, message));
    }

    fn send_early(&mut self, to: NodeId, message: P::Message) {
        self.sent.push((to, message));
    }

    fn reply(&mut self, reply: Reply) {
        self.replies.push(reply);
    }

    fn reply_early(&mut self, reply: Reply) {
        self.replies.push(reply);
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.delivered.push(delivery);
    }

    fn deliver_early(&mut self, delivery: Delivery) {
        self.delivered.push(delivery);
    }

    fn set_timer(&mut self, _timer: P::Timer, _at_ns: u64) {}

    fn cancel_timer(&mut self, _timer: P::Timer) {}

    fn checkpoint(&mut self, meta: Bytes) {
        self.checkpoints.push(meta);
    }

    fn drop_log_before(&mut self, _lsn: Lsn) {}

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.reads.push(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.chunks.push(chunk);
    }
}
