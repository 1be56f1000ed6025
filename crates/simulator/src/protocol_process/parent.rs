//! The protocol's parent: applies deliveries, answers clients, keeps timers, puts the disk to work.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keypact_protocol::{
    Delivery, Draft, DraftArena, Lsn, NodeId, Outlet, Plant, Protocol, Reply, RequestId, SnapshotChunk,
    SnapshotInput, SnapshotRead, planted,
};

use super::{CHUNK_BYTES, MachineOutcome, MachineReply, ProtocolProcess, outcome_of};
use crate::{Checkpoint, ClientId, Counters, DiskWork, Effects, Origin, RecordDisk, StateMachine, Traffic};

/// Taken for the length of a record on disk, for how long a sync takes.
const RECORD_BYTES: u64 = 100;
/// Snapshot reads under way, at most.
const READS_LIMIT: usize = 64;

/// A client's request that a protocol has.
#[derive(Debug)]
pub(super) struct Pending<M: StateMachine> {
    pub(super) client: ClientId,
    pub(super) token: u64,
    /// What to read; `None` for writes.
    pub(super) query: Option<M::Query>,
}

/// A disk job, as its token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    LogSync,
    Checkpoint,
    Install,
    Read,
    Taken(u32),
}

impl Job {
    fn token(self) -> u64 {
        match self {
            Job::LogSync => 0,
            Job::Checkpoint => 1,
            Job::Install => 2,
            Job::Read => 3,
            Job::Taken(chunk) => 4 | u64::from(chunk) << 8,
        }
    }

    pub(super) fn from_token(token: u64) -> Job {
        match token & 0xff {
            0 => Job::LogSync,
            1 => Job::Checkpoint,
            2 => Job::Install,
            3 => Job::Read,
            4 => Job::Taken((token >> 8) as u32),
            _ => unreachable!("tokens are made by Job::token"),
        }
    }
}

/// A snapshot on its way in.
#[derive(Debug)]
struct Incoming {
    meta: Bytes,
    next_chunk: u32,
    bytes: Vec<u8>,
}

/// See the module's documentation.
pub(super) struct Parent<P: Protocol, M: StateMachine> {
    pub(super) id: NodeId,
    pub(super) machine: M,
    pub(super) applied: u64,
    pub(super) delivered: Vec<Delivery>,
    /// The last record's number.
    pub(super) appended: Lsn,
    timers: Vec<(P::Timer, u64)>,
    /// Timers that fired in this batch: one that is set again for now waits for the next.
    fired: Vec<P::Timer>,
    wake_ns: Option<u64>,
    pending: BTreeMap<RequestId, Pending<M>>,
    pending_limit: usize,
    waiting_reads: Vec<(u64, Pending<M>)>,
    next_request: u64,
    arena: DraftArena,
    syncing: Option<Lsn>,
    /// Wanted by the protocol; to be taken once everything up to the number is durable.
    checkpoint_wanted: Option<(Bytes, Lsn)>,
    reads: VecDeque<SnapshotRead>,
    incoming: Option<Incoming>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    checkpoints: u64,
    chunks_read: u64,
    installed: u64,
    install_failed: u64,
    skipped: u64,
    redirected: u64,
    uncertain: u64,
    reads_waited: u64,
}

impl<P: Protocol, M: StateMachine> Parent<P, M> {
    pub(super) fn new(id: NodeId, machine: M, applied: u64, pending_limit: usize) -> Parent<P, M> {
        Parent {
            id,
            machine,
            applied,
            delivered: Vec::new(),
            appended: Lsn::ZERO,
            timers: Vec::new(),
            fired: Vec::new(),
            wake_ns: None,
            pending: BTreeMap::new(),
            pending_limit,
            waiting_reads: Vec::new(),
            next_request: 0,
            arena: DraftArena::default(),
            syncing: None,
            checkpoint_wanted: None,
            reads: VecDeque::new(),
            incoming: None,
            counts: Counts::default(),
        }
    }

    pub(super) fn count(&self, counters: &mut Counters) {
        let counts = &self.counts;
        counters.add("checkpoint-written", counts.checkpoints);
        counters.add("snapshot-chunk-read", counts.chunks_read);
        counters.add("snapshot-installed", counts.installed);
        counters.add("snapshot-refused", counts.install_failed);
        counters.add("delivery-already-in-checkpoint", counts.skipped);
        counters.add("request-redirected", counts.redirected);
        counters.add("request-uncertain", counts.uncertain);
        counters.add("read-waited", counts.reads_waited);
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() + self.waiting_reads.len() >= self.pending_limit
    }

    pub(super) fn admit(&mut self, pending: Pending<M>) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.pending.insert(id, pending);
        id
    }

    pub(super) fn draft(&mut self, command: &M::Command) -> Draft {
        self.arena.draft(64, |out| M::encode(command, out))
    }

    pub(super) fn woken(&mut self) {
        self.wake_ns = None;
    }

    /// Takes the timer that has been due for longest; among equals the least.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<P::Timer> {
        let due = self
            .timers
            .iter()
            .enumerate()
            .filter(|(_, (timer, at_ns))| *at_ns <= now_ns && !self.fired.contains(timer))
            .min_by_key(|(_, (timer, at_ns))| (*at_ns, *timer));
        let (slot, _) = due?;
        let (timer, _) = self.timers.swap_remove(slot);
        self.fired.push(timer);
        Some(timer)
    }

    pub(super) fn timers_looked_at(&mut self) {
        self.fired.clear();
    }

    /// Asks to be woken for the earliest timer, if that is not arranged already.
    pub(super) fn set_wake<W>(&mut self, out: &mut Effects<W>)
    where
        W: crate::Process,
    {
        let earliest = self.timers.iter().map(|(_, at_ns)| *at_ns).min().unwrap_or(u64::MAX);
        if self.wake_ns != Some(earliest) {
            self.wake_ns = Some(earliest);
            out.wake_at(earliest);
        }
    }

    /// The log sync that was under way has ended.
    pub(super) fn synced(&mut self, disk: &mut RecordDisk<P>) -> Lsn {
        let lsn = self.syncing.take().expect("a sync was under way");
        disk.synced(lsn);
        lsn
    }

    pub(super) fn checkpoint_written(&mut self, disk: &mut RecordDisk<P>) -> SnapshotInput {
        if planted(Plant::AppliedIndexNotStored) {
            // The data of now under the index of then.
            let mut state = Vec::new();
            self.machine.save(&mut state);
            disk.replace_state(Origin::Own, Bytes::from(state));
        }
        self.counts.checkpoints += 1;
        let written = disk.checkpoint_written(Origin::Own);
        SnapshotInput::Checkpointed { meta: written.meta }
    }

    /// A peer's snapshot is on disk: it becomes the state, even if that is newer. Whether that may be is the protocol's business.
    pub(super) fn installed(&mut self, disk: &mut RecordDisk<P>) -> SnapshotInput {
        let written = disk.writing(Origin::Peer).expect("an install was under way");
        let machine = M::load(written.state.clone());
        match machine {
            Ok(machine) => {
                let written = disk.checkpoint_written(Origin::Peer);
                self.machine = machine;
                self.applied = written.applied;
                self.counts.installed += 1;
                SnapshotInput::Installed { meta: written.meta }
            }
            _ => {
                disk.discard_checkpoint(Origin::Peer);
                self.counts.install_failed += 1;
                SnapshotInput::InstallFailed
            }
        }
    }

    /// The chunk that was asked for, of the checkpoint as it is now.
    pub(super) fn read_done(&mut self, disk: &RecordDisk<P>) -> SnapshotInput {
        let read = self.reads.pop_front().expect("a read was under way");
        match disk.checkpoint().and_then(|kept| chunk_of(kept, read.chunk)) {
            Some(chunk) => {
                self.counts.chunks_read += 1;
                SnapshotInput::Read { to: read.to, chunk }
            }
            None => SnapshotInput::ReadFailed { to: read.to },
        }
    }
}

/// A checkpoint as it travels: applied index, then state.
fn chunk_of(checkpoint: &Checkpoint, chunk: u32) -> Option<SnapshotChunk> {
    let mut all = Vec::with_capacity(8 + checkpoint.state.len());
    all.extend_from_slice(&checkpoint.applied.to_le_bytes());
    all.extend_from_slice(&checkpoint.state);
    let from = chunk as usize * CHUNK_BYTES;
    if from >= all.len() {
        return None;
    }
    let to = (from + CHUNK_BYTES).min(all.len());
    Some(SnapshotChunk {
        meta: checkpoint.meta.clone(),
        chunk,
        bytes: Bytes::copy_from_slice(&all[from..to]),
        last: to == all.len(),
    })
}

/// The outlet behind the gate.
pub(super) struct Wiring<'a, P: Protocol, M: StateMachine>
where
    P::Config: Clone,
{
    pub(super) parent: &'a mut Parent<P, M>,
    pub(super) disk: &'a mut RecordDisk<P>,
    pub(super) out: &'a mut Effects<ProtocolProcess<P, M>>,
}

impl<P: Protocol, M: StateMachine> Wiring<'_, P, M>
where
    P::Config: Clone,
{
    /// Starts the next log sync, of everything that gathered meanwhile.
    pub(super) fn begin_sync(&mut self) {
        if self.parent.syncing.is_none() && self.disk.last() > self.disk.durable() {
            let bytes = (self.disk.last().0 - self.disk.durable().0) * RECORD_BYTES;
            self.parent.syncing = Some(self.disk.last());
            self.out.disk(Job::LogSync.token(), DiskWork::LogSync { bytes });
        }
    }

    /// Takes the checkpoint that is wanted. What was delivered before it was wanted may still be held by the gate: then it waits. That the
    /// state may then be newer than `meta` says is right, because the applied index is stored with it. It does not wait for anything else: a
    /// protocol whose state may be taken back relies on a checkpoint that holds no more than its meta says.
    pub(super) fn begin_checkpoint(&mut self, all_delivered: bool) {
        let Some((_, until)) = &self.parent.checkpoint_wanted else { return };
        if !all_delivered && *until > self.disk.durable() {
            return;
        }
        let (meta, _) = self.parent.checkpoint_wanted.take().expect("it was there");
        let mut state = Vec::new();
        self.parent.machine.save(&mut state);
        let bytes = state.len() as u64;
        let applied = self.parent.applied;
        self.disk.write_checkpoint(Origin::Own, Checkpoint { meta, applied, state: Bytes::from(state) });
        self.out.disk(Job::Checkpoint.token(), DiskWork::Checkpoint { bytes });
    }

    /// Answers the reads whose index has been applied.
    pub(super) fn answer_reads(&mut self) {
        let applied = self.parent.applied;
        let mut at = 0;
        while at < self.parent.waiting_reads.len() {
            if self.parent.waiting_reads[at].0 <= applied {
                let (_, read) = self.parent.waiting_reads.remove(at);
                self.answer_read(&read);
            } else {
                at += 1;
            }
        }
    }

    fn answer_read(&mut self, read: &Pending<M>) {
        let query = read.query.as_ref().expect("only reads are answered from the state");
        let outcome = MachineOutcome::Done(self.parent.machine.read(query));
        self.out.worked(1);
        self.out.reply(read.client, MachineReply { token: read.token, outcome });
    }

    fn apply(&mut self, delivery: &Delivery) {
        let parent = &mut *self.parent;
        assert!(delivery.index <= parent.applied + 1, "deliveries leave no gap");
        if delivery.index <= parent.applied {
            parent.counts.skipped += 1;
            return;
        }
        parent.applied = delivery.index;
        // Entries that a group makes for itself are empty.
        if delivery.command.is_empty() {
            self.out.worked(1);
            assert!(delivery.request.is_none(), "an empty entry answers nobody");
            return;
        }
        let answer = parent.machine.apply(delivery).expect("the group keeps commands as they were proposed");
        self.out.worked(parent.machine.work());
        if let Some(id) = delivery.request {
            let pending = parent.pending.remove(&id).expect("a request is answered once");
            let outcome = MachineOutcome::Done(answer);
            self.out.reply(pending.client, MachineReply { token: pending.token, outcome });
        }
    }
}

impl<P: Protocol, M: StateMachine> Outlet<P> for Wiring<'_, P, M>
where
    P::Config: Clone,
{
    fn append(&mut self, record: P::Record) -> Lsn {
        self.parent.appended = self.disk.append(record);
        self.parent.appended
    }

    #[inline]
    fn send(&mut self, to: NodeId, message: P::Message) {
        self.out.send(to, Traffic::Control, message);
    }

    fn reply(&mut self, reply: Reply) {
        let (Reply::ReadFrom { id, .. } | Reply::Refused { id, .. } | Reply::Uncertain { id }) = reply;
        let pending = self.parent.pending.remove(&id).expect("a request is answered once");
        match outcome_of(reply) {
            Some(outcome) => {
                match outcome {
                    MachineOutcome::Uncertain => self.parent.counts.uncertain += 1,
                    _ => self.parent.counts.redirected += 1,
                }
                self.out.reply(pending.client, MachineReply { token: pending.token, outcome });
            }
            None => {
                let Reply::ReadFrom { index, .. } = reply else { unreachable!("all else has an outcome") };
                if index <= self.parent.applied {
                    self.answer_read(&pending);
                } else {
                    self.parent.counts.reads_waited += 1;
                    self.parent.waiting_reads.push((index, pending));
                }
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.apply(&delivery);
        self.parent.delivered.push(delivery);
    }

    fn set_timer(&mut self, timer: P::Timer, at_ns: u64) {
        match self.parent.timers.iter_mut().find(|(set, _)| *set == timer) {
            Some((_, at)) => *at = at_ns,
            None => self.parent.timers.push((timer, at_ns)),
        }
    }

    fn cancel_timer(&mut self, timer: P::Timer) {
        self.parent.timers.retain(|(set, _)| *set != timer);
    }

    fn checkpoint(&mut self, meta: Bytes) {
        let under_way = self.parent.checkpoint_wanted.is_some() || self.disk.writing(Origin::Own).is_some();
        assert!(!under_way, "a protocol wants one checkpoint at a time");
        self.parent.checkpoint_wanted = Some((meta, self.disk.last()));
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.disk.drop_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        assert!(self.parent.reads.len() < READS_LIMIT, "a protocol reads a small window of chunks");
        self.parent.reads.push_back(read);
        self.out.disk(Job::Read.token(), DiskWork::Read { bytes: CHUNK_BYTES as u64 });
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        let parent = &mut *self.parent;
        if chunk.chunk == 0 {
            let meta = chunk.meta.clone();
            parent.incoming = Some(Incoming { meta, next_chunk: 0, bytes: Vec::new() });
        }
        let busy = self.disk.writing(Origin::Peer).is_some();
        let fits = parent
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.next_chunk == chunk.chunk && incoming.meta == chunk.meta);
        assert!(
            fits && !busy,
            "a protocol gives the chunks of one snapshot in order, one snapshot at a time"
        );
        let incoming = parent.incoming.as_mut().expect("it fits");
        incoming.bytes.extend_from_slice(&chunk.bytes);
        incoming.next_chunk += 1;
        if !chunk.last {
            let work = DiskWork::Read { bytes: chunk.bytes.len() as u64 };
            return self.out.disk(Job::Taken(chunk.chunk).token(), work);
        }
        let incoming = parent.incoming.take().expect("it fits");
        let bytes = Bytes::from(incoming.bytes);
        assert!(bytes.len() >= 8, "a snapshot begins with its applied index");
        let applied = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let work = DiskWork::Checkpoint { bytes: bytes.len() as u64 };
        let checkpoint = Checkpoint { meta: incoming.meta, applied, state: bytes.slice(8..) };
        self.disk.write_checkpoint(Origin::Peer, checkpoint);
        self.out.disk(Job::Install.token(), work);
    }
}
