//! What a node takes, and what it asks of the world around it.

use bytes::Bytes;
use keypact_coordination::raft;
use keypact_data::Command;
use keypact_protocol::{GroupId, Lsn, NodeId, SnapshotChunk};
use keypact_resp::Value;

use crate::{PeerMessage, Roster};

/// A client's connection, as the driver numbers it; never reused in the life of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// Which of the two connections to a peer a message takes. Messages of one kind stay in order unless the connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// Small and urgent: votes, heartbeats, acknowledgements.
    Control,
    /// Entries, forwarded commands and their replies, snapshots.
    Bulk,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum NodeInput {
    /// Recovery is over and the node may speak. Given once, before all else.
    Start,
    /// A client asks. Every command gets exactly one [`Outside::reply`] with its `seq`, not necessarily in order, unless the session is closed.
    Command {
        /// The connection.
        session: SessionId,
        /// Counts the commands of that connection, rising by any step.
        seq: u64,
        /// A command whose place is a partition.
        command: Command,
    },
    /// The connection is gone. No more replies are wanted.
    SessionClosed(SessionId),
    /// A peer says this.
    Peer {
        /// Who.
        from: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// The log is on disk up to here.
    Durable(Lsn),
    /// The time given to [`Outside::wake_at`] has come.
    Wake,
    /// The last connection to this peer closed: a hint that its process is gone.
    Unreachable(NodeId),
    /// A connection to this peer was made. Only for what the node reports of itself.
    Reachable(NodeId),
    /// The checkpoint writer has room: give the next chunk.
    CheckpointChunkWanted(GroupId),
    /// The checkpoint that was finished is durable and replaced the one before.
    Checkpointed(GroupId),
    /// Answer to [`Outside::checkpoint_read`].
    CheckpointRead {
        /// The group.
        group: GroupId,
        /// For whom it was asked.
        to: NodeId,
        /// The chunk; `None` if there is no such chunk (any more).
        chunk: Option<SnapshotChunk>,
    },
    /// The chunk given to [`Outside::incoming_chunk`] is written. If it was the last: the whole is durable and is now the newest checkpoint.
    IncomingTaken {
        /// The group.
        group: GroupId,
        /// Which.
        chunk: u32,
    },
    /// The log holds more than the driver likes because this group needs an old record.
    LogLong(GroupId),
}

/// The world around a node.
pub trait Outside {
    /// Appends to the node's log, without waiting; returns the record's number.
    fn append(&mut self, group: GroupId, record: &raft::Record) -> Lsn;
    /// Sends to a peer. May be lost.
    fn send(&mut self, to: NodeId, traffic: Traffic, message: PeerMessage);
    /// Answers a client. An error reply whose code is `UNCERTAIN` means: may or may not have been applied; `CLUSTERDOWN` and `TRYAGAIN`:
    /// not applied.
    fn reply(&mut self, session: SessionId, seq: u64, value: Value);
    /// Asks for [`NodeInput::Wake`] at this time; replaces the earlier wish.
    fn wake_at(&mut self, at_ns: u64);
    /// Begins to write a checkpoint of a group; `meta` belongs to it. The driver then asks for chunks.
    fn checkpoint_begin(&mut self, group: GroupId, meta: Bytes);
    /// The next chunk of the checkpoint under way, at most 256 KiB.
    fn checkpoint_chunk(&mut self, group: GroupId, chunk: Bytes);
    /// The chunks are complete: make them durable, then say [`NodeInput::Checkpointed`].
    fn checkpoint_finish(&mut self, group: GroupId);
    /// The checkpoint under way is not wanted any more.
    fn checkpoint_abort(&mut self, group: GroupId);
    /// Reads a chunk of the newest durable checkpoint.
    fn checkpoint_read(&mut self, group: GroupId, to: NodeId, chunk: u32);
    /// Writes a chunk of a peer's snapshot. Chunk 0 begins anew. After the last it becomes the newest checkpoint.
    fn incoming_chunk(&mut self, group: GroupId, chunk: SnapshotChunk);
    /// No group needs records before `lsn`.
    fn drop_log_before(&mut self, lsn: Lsn);
    /// Who belongs to the cluster, or where a node is reached, has changed.
    fn roster_changed(&mut self, roster: &Roster);
}
