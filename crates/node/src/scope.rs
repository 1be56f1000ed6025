//! What a replica's effects become: those for the world pass on at once, tagged with the group; those for the node are gathered.

use bytes::Bytes;
use keypact_coordination::raft::{self, Body, ChangeRefusal, OPERATOR, Raft};
use keypact_protocol::{Delivery, GroupId, Lsn, NodeId, Outlet, Reply, SnapshotChunk, SnapshotRead};

use crate::{Outside, PeerMessage, Traffic};

/// Effects that the node itself must carry out, in the order in which they came within each kind. Kept and reused.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) timers: Vec<(raft::Timer, Option<u64>)>,
    pub(crate) checkpoint: Option<Bytes>,
    pub(crate) drop_before: Option<Lsn>,
    pub(crate) snapshot_reads: Vec<SnapshotRead>,
    pub(crate) snapshot_chunks: Vec<SnapshotChunk>,
    /// What the group says to its operator, until it is taken.
    pub(crate) answer: Option<Result<(), ChangeRefusal>>,
}

impl Gathered {
    pub(crate) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
            && self.replies.is_empty()
            && self.timers.is_empty()
            && !self.asks_for_disk()
    }

    /// Whether anything is about checkpoints, snapshots or the log's length.
    pub(crate) fn asks_for_disk(&self) -> bool {
        self.checkpoint.is_some()
            || self.drop_before.is_some()
            || !self.snapshot_reads.is_empty()
            || !self.snapshot_chunks.is_empty()
    }
}

/// Heartbeats and votes of all groups since the last flush, to be sent as one message per peer.
pub(crate) type Heartbeats = Vec<(NodeId, GroupId, raft::Message)>;

/// The outlet behind one replica's gate.
pub(crate) struct Scope<'a, O> {
    pub(crate) group: GroupId,
    pub(crate) outside: &'a mut O,
    pub(crate) gathered: &'a mut Gathered,
    pub(crate) heartbeats: &'a mut Heartbeats,
}

impl<O: Outside> Outlet<Raft> for Scope<'_, O> {
    fn append(&mut self, record: raft::Record) -> Lsn {
        self.outside.append(self.group, &record)
    }

    fn send(&mut self, to: NodeId, message: raft::Message) {
        if to == OPERATOR {
            let Body::Answer(answer) = message.body else { unreachable!("an operator is only answered") };
            self.gathered.answer = Some(answer);
            return;
        }
        let traffic = match &message.body {
            // Votes too: a new leader has then heard a majority's clocks.
            Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. } => {
                self.heartbeats.push((to, self.group, message));
                return;
            }
            Body::Append { .. } | Body::Snapshot { .. } => Traffic::Bulk,
            _ => Traffic::Control,
        };
        self.outside.send(to, traffic, PeerMessage::Group { group: self.group, message });
    }

    fn reply(&mut self, reply: Reply) {
        self.gathered.replies.push(reply);
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.gathered.deliveries.push(delivery);
    }

    fn set_timer(&mut self, timer: raft::Timer, at_ns: u64) {
        self.gathered.timers.push((timer, Some(at_ns)));
    }

    fn cancel_timer(&mut self, timer: raft::Timer) {
        self.gathered.timers.push((timer, None));
    }

    fn checkpoint(&mut self, meta: Bytes) {
        assert!(self.gathered.checkpoint.is_none(), "one checkpoint at a time");
        self.gathered.checkpoint = Some(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.gathered.drop_before = Some(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.gathered.snapshot_reads.push(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.gathered.snapshot_chunks.push(chunk);
    }
}
