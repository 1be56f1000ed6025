//! What a node sees of the world: its log, peers, clients and checkpoints, as [`Outside`] wants them.
//!
//! Nothing here waits and nothing is written to a socket or disk yet: effects are gathered, and `batch.rs` lets them out once per batch.

use bytes::Bytes;
use keypact_coordination::raft;
use keypact_node::{Outside, PeerMessage, Roster, SessionId, Traffic};
use keypact_protocol::{GroupId, Lsn, NodeId, SnapshotChunk, Wire};
use keypact_resp::Value;
use keypact_storage::Appender;

use crate::checkpoint_thread::{CheckpointThread, Job};
use crate::connection::Connections;
use crate::link::Links;
use crate::metrics::{Figures, Log2};

/// The world around one node.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) connections: Connections,
    /// Connections with something new to write out.
    pub(crate) touched: Vec<SessionId>,
    pub(crate) links: Links,
    pub(crate) appender: Appender,
    pub(crate) checkpoints: CheckpointThread,
    /// Bytes of clients' commands in flight.
    pub(crate) in_flight_bytes: usize,
    /// When the node wants to be woken; `u64::MAX`: not at all.
    pub(crate) wake_at_ns: u64,
    /// Records before it are not needed; not yet told to the log.
    pub(crate) drop_before: Option<Lsn>,
    /// Chunks of checkpoints that were asked for while too many reads waited: they are answered with "not now".
    pub(crate) unread: Vec<(GroupId, NodeId)>,
    /// The time of the present batch.
    pub(crate) now_ns: u64,
    /// From a command's arrival to its reply, microseconds.
    pub(crate) latency_us: Log2,
    pub(crate) figures: Figures,
    /// Who belongs to the cluster has changed; not yet followed.
    pub(crate) roster_is_new: bool,
}

impl World {
    /// Puts a connection on the list of those to be written out.
    pub(crate) fn touch(&mut self, id: SessionId) {
        if let Some(connection) = self.connections.at(id).filter(|c| !c.is_touched) {
            connection.is_touched = true;
            self.touched.push(id);
        }
    }
}

impl Outside for World {
    fn append(&mut self, group: GroupId, record: &raft::Record) -> Lsn {
        match record.hashed() {
            // The leader hashed the entry when it was made; a follower, when it came.
            Some((head, payload, checksum)) => {
                self.appender.push_with_checksum(group, &head, payload, checksum)
            }
            None => self.appender.push_with(group, |buffer| record.encode(buffer)),
        }
    }

    fn send(&mut self, to: NodeId, traffic: Traffic, message: PeerMessage) {
        self.links.send(to, traffic, &message);
    }

    fn reply(&mut self, session: SessionId, seq: u64, value: Value) {
        // A connection that is gone wants no reply.
        let Some(connection) = self.connections.at(session) else { return };
        if let Value::Error(error) = &value {
            self.figures.count_error(&error.code);
        }
        let freed = connection.answer(seq, value, self.now_ns, &mut self.latency_us);
        self.in_flight_bytes -= freed;
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(session);
        }
    }

    fn wake_at(&mut self, at_ns: u64) {
        self.wake_at_ns = at_ns;
    }

    fn checkpoint_begin(&mut self, group: GroupId, meta: Bytes) {
        self.figures.checkpoints_begun += 1;
        self.checkpoints.ask(Job::Begin { group, meta });
    }

    fn checkpoint_chunk(&mut self, group: GroupId, bytes: Bytes) {
        self.checkpoints.ask(Job::Chunk { group, bytes });
    }

    fn checkpoint_finish(&mut self, group: GroupId) {
        self.checkpoints.ask(Job::Finish { group });
    }

    fn checkpoint_abort(&mut self, group: GroupId) {
        self.checkpoints.ask(Job::Abort { group });
    }

    fn checkpoint_read(&mut self, group: GroupId, to: NodeId, chunk: u32) {
        if !self.checkpoints.read(group, to, chunk) {
            self.unread.push((group, to));
        }
    }

    fn incoming_chunk(&mut self, group: GroupId, chunk: SnapshotChunk) {
        self.checkpoints.ask(Job::Incoming { group, chunk });
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.drop_before = Some(self.drop_before.map_or(lsn, |before| before.max(lsn)));
    }

    fn roster_changed(&mut self, roster: &Roster) {
        // Who was just let in can be sent to at once; it is dialled, or let in, after the batch.
        self.links.follow(roster.nodes());
        self.roster_is_new = true;
    }
}
