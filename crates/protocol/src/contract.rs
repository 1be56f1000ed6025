//! [`Protocol`], its inputs and its effects.

use core::fmt::Debug;

use bytes::Bytes;

use crate::{Draft, Lsn, NodeId, RequestId, Wire};

/// The two clocks, sampled by the driver after it collected its inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Monotonic nanoseconds since some start; goes on in suspend. For timers and leases.
    pub now_ns: u64,
    /// Unix milliseconds; may jump. Only for stamping entries.
    pub wall_ms: u64,
}

/// A protocol: takes inputs, writes effects.
pub trait Protocol: Sized {
    /// Members, limits, time-outs. Fixed for the life of the value.
    type Config;
    /// What peers say to each other.
    type Message: Clone + Debug + Wire;
    /// What is written to the log.
    type Record: Clone + Debug + Wire;
    /// One slot per value: setting a timer replaces its earlier setting.
    type Timer: Copy + Ord + Debug;
    /// The builder that recovery is.
    type Recovery: Recover<Self>;

    /// Begins recovery. `checkpoint` is the `meta` of the newest durable checkpoint ([`Sink::checkpoint`]), whose state the driver has
    /// loaded already; `None` if there is none. All randomness of the protocol comes from `seed`, which must differ in every life.
    ///
    /// # Errors
    /// [`RecoveryError`] if the checkpoint's meta can't be understood.
    fn begin(
        config: Self::Config,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<Self::Recovery, RecoveryError>;

    /// Takes one input. May leave work for [`Protocol::flush`].
    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>);

    /// Writes out what [`Protocol::handle`] gathered. Called once per batch of inputs.
    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>);

    /// Panics if the value contradicts itself. O(1): called after every batch, in release builds too.
    fn assert_invariants(&self);
}

/// Recovery, the only way to a [`Protocol`] value.
pub trait Recover<P: Protocol> {
    /// Takes one record that the disk kept, in log order. Records before the checkpoint are given too, and passed over.
    ///
    /// # Errors
    /// [`RecoveryError`] if the record can't follow what came before.
    fn replay(&mut self, lsn: Lsn, record: P::Record) -> Result<(), RecoveryError>;

    /// Ends recovery. Every record given is durable.
    fn finish(self) -> P;
}

/// What the disk kept makes no sense: a bug, or damage that checksums did not find. The node must not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryError {
    /// What contradicts what.
    pub what: &'static str,
    /// The record's position, [`Lsn::ZERO`] for a checkpoint.
    pub lsn: Lsn,
}

impl core::fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "recovery: {} at {}", self.what, self.lsn)
    }
}

impl core::error::Error for RecoveryError {}

/// What happens to a protocol.
#[derive(Clone, Debug)]
pub enum Input<P: Protocol> {
    /// Recovery is over; set the first timers. Given once, before all else.
    Start,
    /// A peer said this. May come late, twice, out of order or never.
    Message {
        /// Who said it.
        from: NodeId,
        /// What.
        message: P::Message,
    },
    /// The parent wants this.
    Request(Request),
    /// A timer that was set has come due. May be late; a protocol checks the clock.
    Timer(P::Timer),
    /// Every record up to here is on disk. Of the whole node's log, so it may pass over this child's own.
    Durable(Lsn),
    /// A hint that a peer's process is gone (its connection closed). May be wrong.
    Unreachable(NodeId),
    /// The answer to an earlier effect about checkpoints and snapshots.
    Snapshot(SnapshotInput),
    /// The node's log is kept long by what this child still needs of it. The child asks for a checkpoint ([`Sink::checkpoint`]) however
    /// short its own tail is, unless one is under way or nothing was delivered since the last; then it just appends anew what it needs
    /// (its hard state) and calls [`Sink::drop_log_before`]. A group that hardly writes would else pin the log for ever.
    Compact,
}

/// What a parent asks of a group.
#[derive(Clone, Debug)]
pub enum Request {
    /// Make this command part of the group's order. Answered by a [`Delivery`] that carries the id, or a [`Reply`].
    Propose {
        /// The parent's name for it.
        id: RequestId,
        /// The encoded command.
        command: Draft,
    },
    /// Ask from which index on a local read is as fresh as `level`. Answered by a [`Reply`].
    Read {
        /// The parent's name for it.
        id: RequestId,
        /// How fresh.
        level: ReadLevel,
    },
    /// The same for a read of one key. A protocol that knows which keys have entries under way may answer sooner; all others take it for a
    /// [`Request::Read`].
    ReadKey {
        /// The parent's name for it.
        id: RequestId,
        /// How fresh.
        level: ReadLevel,
        /// A digest of the key, as the parent's commands name it.
        key: u64,
    },
}

/// How fresh a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadLevel {
    /// Sees every write that was acknowledged before the read began. Confirmed with a majority for each batch of reads.
    Linearizable,
    /// The same, by the leader's lease where the clocks' drift bound allows it; otherwise confirmed with a majority.
    Lease,
    /// Sees at least the write that this token names, and so a session its own writes, at any replica.
    Session {
        /// The term or epoch in which the write was made.
        epoch: u64,
        /// Its index.
        index: u64,
    },
    /// Whatever this replica has applied.
    Stale,
}

/// A group's answer to its parent, other than a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A read is right at any state that has applied at least `index`.
    ReadFrom {
        /// The request.
        id: RequestId,
        /// Applied index to wait for.
        index: u64,
    },
    /// Not applied: the command never entered a log, and the read was not answered.
    Refused {
        /// The request.
        id: RequestId,
        /// Why.
        why: Refusal,
    },
    /// The command entered a log, and this node can no longer tell what becomes of it.
    Uncertain {
        /// The request.
        id: RequestId,
    },
}

/// Why a request was refused. In every case nothing was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This node does not lead the group; `leader` does, as far as known.
    NotLeader {
        /// Whom to ask.
        leader: Option<NodeId>,
    },
    /// Too much is under way; try again later.
    Overloaded,
    /// The leader lost touch with its quorum while the read was waiting.
    NoQuorum,
    /// The command is larger than the group's limit.
    TooLarge,
    /// This replica has not applied the write that a session's token names. Another one may have, or this one later.
    NotYet,
    /// The write that a session's token names was lost; no replica will ever have it.
    Lost,
}

/// A command that has its place in the group's order, given to the parent to apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Its index: one more than the delivery before it, except after a snapshot.
    pub index: u64,
    /// The entry's stamp, Unix milliseconds; never smaller than the one before.
    pub stamp_ms: u64,
    /// The entry's seed, for commands that choose at random.
    pub seed: u64,
    /// The command as it was proposed; empty for entries that the group makes for itself.
    pub command: Bytes,
    /// The request of this node that it answers, if it was proposed here in the present term or epoch.
    pub request: Option<RequestId>,
}

/// One piece of a snapshot on its way between two nodes, or from and to the disk. Chunks are counted from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotChunk {
    /// The protocol's own words about the snapshot, as it gave them to [`Sink::checkpoint`].
    pub meta: Bytes,
    /// Which chunk.
    pub chunk: u32,
    /// Its content, at most 256 KiB; the parent's business.
    pub bytes: Bytes,
    /// Whether it is the last.
    pub last: bool,
}

/// A request for a chunk of the newest durable checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotRead {
    /// For whom; comes back with the answer.
    pub to: NodeId,
    /// Which chunk. If the checkpoint was replaced since chunk 0 was read, the answer's meta shows it.
    pub chunk: u32,
}

/// What became of checkpoints and snapshots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotInput {
    /// The checkpoint asked for is durable.
    Checkpointed {
        /// As given to [`Sink::checkpoint`].
        meta: Bytes,
    },
    /// A chunk that was asked for.
    Read {
        /// For whom it was asked.
        to: NodeId,
        /// The chunk.
        chunk: SnapshotChunk,
    },
    /// The chunk that was asked for can't be had: no checkpoint is there, or it changed. Ask again from chunk 0.
    ReadFailed {
        /// For whom it was asked.
        to: NodeId,
    },
    /// The chunk given to [`Sink::snapshot_in`] was taken; the next may come.
    Taken {
        /// Which.
        chunk: u32,
    },
    /// The last chunk was taken, the snapshot is durable and now is the parent's state.
    Installed {
        /// As given to [`Sink::snapshot_in`].
        meta: Bytes,
    },
    /// The snapshot was not understood or could not be kept; the parent's state is as before.
    InstallFailed,
}

/// Where a protocol writes its effects.
pub trait Sink<P: Protocol> {
    /// Appends a record to the node's log, without waiting. It is durable once [`Input::Durable`] reaches the returned number.
    fn append(&mut self, record: P::Record) -> Lsn;

    /// Sends once this child's last append is durable.
    fn send(&mut self, to: NodeId, message: P::Message);

    /// Sends now. The call site argues why a crash before the last append is durable is harmless.
    fn send_early(&mut self, to: NodeId, message: P::Message);

    /// Answers the parent once this child's last append is durable.
    fn reply(&mut self, reply: Reply);

    /// Answers the parent now, with the same argument as [`Sink::send_early`].
    fn reply_early(&mut self, reply: Reply);

    /// Gives the parent a command to apply, once this child's last append is durable.
    fn deliver(&mut self, delivery: Delivery);

    /// Gives the parent a command to apply now, with the same argument as [`Sink::send_early`].
    fn deliver_early(&mut self, delivery: Delivery);

    /// Sets a timer, replacing its earlier setting. A time that has passed fires with the next batch.
    fn set_timer(&mut self, timer: P::Timer, at_ns: u64);

    /// Cancels a timer; nothing happens if it is not set.
    fn cancel_timer(&mut self, timer: P::Timer);

    /// Asks the parent to write a checkpoint of its state after all deliveries so far, with `meta` in the same write.
    /// Answered by [`SnapshotInput::Checkpointed`]. One at a time.
    fn checkpoint(&mut self, meta: Bytes);

    /// This child needs no record before `lsn` any more.
    fn drop_log_before(&mut self, lsn: Lsn);

    /// Asks for a chunk of the newest durable checkpoint, to be sent to a peer.
    fn snapshot_out(&mut self, read: SnapshotRead);

    /// Gives the parent a chunk of a peer's snapshot, chunk 0 first. Once the last is taken it replaces the parent's state.
    fn snapshot_in(&mut self, chunk: SnapshotChunk);
}
