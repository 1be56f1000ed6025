//! A whole node as a simulated process: the node, the log and the checkpoints are the server's own code; the disk is a [`MemoryDisk`].
//!
//! Disk work takes time in two halves: what is written is written when the job begins, and is synced when it ends, so a crash between
//! the two meets the log in the middle of a write.

use bytes::Bytes;
use keypact_coordination::raft;
use keypact_data::Command;
use keypact_node::{
    DEFAULT, Node, NodeConfig, NodeInput, NodeRecovery, Outside, PeerMessage, Roster, SessionId,
};
use keypact_protocol::{Context, GroupId, Incarnation, Lsn, NodeId, SnapshotChunk, Wire};
use keypact_resp::Value;
use keypact_simulator::{Applied, ClientId, Counters, Disk, DiskDamage, DiskWork, Effects, Loss, Process};
use keypact_simulator::{ProcessInput, Random, StartRefused, TraceHash, Traffic};
use keypact_storage::{
    Appender, Batch, CheckpointReader, CheckpointWriter, Checkpoints, MemoryDisk, MemoryFile, Wal, WalOptions,
};
use std::collections::{BTreeMap, VecDeque};

use crate::node_operator::Operator;

/// What a client of the simulation asks: one command.
#[derive(Clone, Debug)]
pub struct NodeRequest {
    /// Its place on the connection, from 0. A connection on which a request is missing or comes twice is broken, as over TCP.
    pub place: u64,
    /// Which of the client's connections, counted over all nodes.
    pub connection: u64,
    /// The command.
    pub command: Command,
}

/// What it is told.
#[derive(Clone, Debug)]
pub struct NodeReply {
    /// As in the request.
    pub connection: u64,
    /// As in the request.
    pub place: u64,
    /// The reply as a client sees it.
    pub value: Value,
}

/// The node's folder: what survives.
#[derive(Clone, Debug)]
pub struct NodeDisk {
    disk: MemoryDisk,
    /// What the log last said to be durable.
    durable: Lsn,
    /// A segment, and up to where damage in it is told from a torn tail for certain; in segments before it, everywhere.
    provable_end: (String, u64),
    damaged: bool,
    /// How often the folder was lost. Whoever makes a new one knows that, and gives it a later life.
    losses: u64,
}

impl NodeDisk {
    /// An empty folder.
    #[must_use]
    pub fn new() -> NodeDisk {
        NodeDisk {
            disk: MemoryDisk::new(),
            durable: Lsn::ZERO,
            provable_end: (String::new(), 0),
            damaged: false,
            losses: 0,
        }
    }

    /// The folder itself.
    pub fn memory(&mut self) -> &mut MemoryDisk {
        &mut self.disk
    }

    /// The last record that the log has said to be durable, in any life.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Whether it was damaged beyond what a crash does.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Turns a bit of the log where damage can be told from a torn tail for certain.
    fn rot(&mut self, random: &mut Random) -> bool {
        let Ok(names) = keypact_storage::Disk::list(&self.disk) else { return false };
        let (last, end) = &self.provable_end;
        let is_provable = |name: &String| name.starts_with("wal-") && name.ends_with(".log") && name <= last;
        let logs: Vec<String> = names.into_iter().filter(is_provable).collect();
        if logs.is_empty() {
            return false;
        }
        let name = &logs[random.index(logs.len())];
        let Some(content) = self.disk.content(name) else { return false };
        let whole = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        let end = if name == last { *end } else { whole };
        end > 0 && self.disk.rot(name, random.below(end), 1 << random.below(8))
    }
}

impl Default for NodeDisk {
    fn default() -> Self {
        NodeDisk::new()
    }
}

impl Disk for NodeDisk {
    fn crash(&mut self, loss: Loss, random: &mut Random) {
        match loss {
            Loss::Nothing => self.disk.kill(),
            Loss::Unsynced => self.disk.crash(|_| 0),
            Loss::Part => self.disk.crash(|below| random.below(below)),
        }
    }

    fn damage(&mut self, damage: DiskDamage, random: &mut Random) -> bool {
        match damage {
            DiskDamage::BitRot => {
                let done = self.rot(random);
                self.damaged |= done;
                done
            }
            DiskDamage::Lost => {
                *self = NodeDisk { losses: self.losses + 1, ..NodeDisk::new() };
                true
            }
            // A full disk stops the node, as a failed sync does; giving up leadership and reading on comes with a later version.
            DiskDamage::Full | DiskDamage::MisdirectedWrite => false,
        }
    }

    fn heal(&mut self) {
        self.disk.limit(None);
    }
}

/// What a node in the simulation is started with.
#[derive(Clone, Debug)]
pub struct NodeSetup {
    /// The node's own settings.
    pub node: NodeConfig,
    /// Sizes of its log; small, so that segments are changed and recycled.
    pub wal: WalOptions,
    /// A log of more bytes than this asks its groups to need less of it.
    pub log_long_bytes: u64,
    /// How often an operator acts where the node leads, milliseconds; 0: never.
    pub operator_ms: u64,
}

impl NodeSetup {
    /// The settings of the life of a folder that was lost so often before.
    fn after(&self, losses: u64) -> NodeConfig {
        let mut node = self.node.clone();
        node.founder &= losses == 0;
        node.incarnation = Incarnation(node.incarnation.0 + losses);
        let own = node.members.iter_mut().filter(|member| member.id == node.id.0);
        own.for_each(|member| member.incarnation += losses);
        node
    }
}

/// A disk job under way.
#[derive(Debug)]
enum Job {
    /// The log's write; synced when it ends.
    Log,
    /// Anything else: the answer to give when it ends.
    Checkpoint(CheckpointJob),
}

#[derive(Debug)]
enum CheckpointJob {
    ChunkWanted(GroupId),
    Finish(GroupId),
    Read { group: GroupId, to: NodeId, chunk: u32 },
    Incoming { group: GroupId, chunk: SnapshotChunk },
}

/// One whole node.
pub struct NodeProcess {
    node: Node,
    world: World,
    /// The next place on each connection; `None` once it is broken.
    connections: BTreeMap<SessionId, Option<u64>>,
    damaged: bool,
    /// What its wall clock showed at its last step.
    wall_ms: u64,
    operator: Operator,
    /// Since when it knows that it was removed, and its last step.
    gone_since_ns: Option<u64>,
    now_ns: u64,
}

/// Who was removed may have answered clients by what the others do not yet know to be committed: it is compared with them until they have had
/// the time to find it out.
const GONE_AFTER_NS: u64 = 5_000_000_000;

/// All that is around the node: storage as the server has it, and the effects of the present step.
struct World {
    appender: Appender,
    wal: Wal<MemoryDisk>,
    writing: Option<Batch>,
    checkpoints: Checkpoints<MemoryDisk>,
    writers: Vec<CheckpointWriter<MemoryDisk>>,
    /// Peers' snapshots that are being written, one a group at most.
    incoming: Vec<CheckpointWriter<MemoryDisk>>,
    /// A reader of the checkpoint that is being sent, so that it stays while a newer one comes.
    reader: Option<CheckpointReader<MemoryFile>>,
    jobs: VecDeque<(u64, Job)>,
    next_token: u64,
    /// Effects for the simulator.
    sends: Vec<(NodeId, Traffic, PeerMessage)>,
    replies: Vec<(SessionId, u64, Value)>,
    disk_jobs: Vec<(u64, DiskWork)>,
    wake_at_ns: Option<u64>,
    failed: bool,
    log_long_bytes: u64,
    segment_bytes: u64,
    /// The log's length when its groups were last asked to need less of it.
    asked_at_bytes: u64,
    needs: Lsn,
}

impl std::fmt::Debug for NodeProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.node.id())
    }
}

impl NodeProcess {
    /// The node, to look at.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What its wall clock showed at its last step, Unix milliseconds.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// Up to where its log is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.world.wal.durable()
    }
}

/// Clients' connections are numbered by client and by the client's own count.
fn session_of(client: ClientId, connection: u64) -> SessionId {
    assert!(connection < 1 << 32, "a client makes fewer connections than that");
    SessionId((u64::from(client.0) << 32) | connection)
}

impl Process for NodeProcess {
    type Config = NodeSetup;
    type Disk = NodeDisk;
    type Message = PeerMessage;
    type Request = NodeRequest;
    type Reply = NodeReply;

    fn start(
        config: &NodeSetup,
        id: NodeId,
        disk: &mut NodeDisk,
        seed: u64,
        context: Context,
        out: &mut Effects<Self>,
    ) -> Result<Self, StartRefused> {
        assert!(config.node.id == id, "each node has its own settings");
        let (node, world) = recover(config, disk, seed).map_err(|why| StartRefused { why })?;
        let mut process = NodeProcess {
            node,
            world,
            connections: BTreeMap::new(),
            damaged: disk.damaged,
            wall_ms: context.wall_ms,
            operator: Operator::new(config, seed, context.now_ns),
            gone_since_ns: None,
            now_ns: context.now_ns,
        };
        process.node.handle(NodeInput::Start, context, &mut process.world);
        process.end_batch(context, out);
        Ok(process)
    }

    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Self>>,
        disk: &mut NodeDisk,
        context: Context,
        out: &mut Effects<Self>,
    ) {
        self.damaged = disk.damaged;
        for input in batch.drain(..) {
            match input {
                ProcessInput::Peer { from, message } => {
                    self.node.handle(NodeInput::Peer { from, message }, context, &mut self.world);
                }
                ProcessInput::Client { client, request } => self.client(client, request, context),
                ProcessInput::WakeUp => self.node.handle(NodeInput::Wake, context, &mut self.world),
                ProcessInput::DiskDone { token, ok } => {
                    let done = if ok { self.disk_done(token, context) } else { None };
                    if done.is_none() {
                        // A failed fsync is never retried.
                        return out.stop("a disk job failed");
                    }
                }
                ProcessInput::Unreachable(peer) => {
                    self.node.handle(NodeInput::Unreachable(peer), context, &mut self.world);
                }
            }
        }
        if disk.durable < self.world.wal.durable() {
            disk.durable = self.world.wal.durable();
            disk.provable_end = self.world.wal.provable_end();
        }
        self.end_batch(context, out);
    }

    fn applied(&self) -> Option<Applied> {
        let partition = self.node.partition();
        let known = self.node.raft(DEFAULT).is_some_and(|raft| !raft.membership().members().is_empty());
        let here = self.gone_since_ns.is_none_or(|since_ns| self.now_ns < since_ns + GONE_AFTER_NS);
        (known && here).then(|| Applied { index: partition.applied_index(), digest: partition.state_hash() })
    }

    /// Bits that have turned stay so. A folder that was lost counts as there again when the node votes under its new life.
    fn caught_up(&self) -> bool {
        !self.damaged && self.node.is_settled()
    }

    fn fingerprint(&self) -> u64 {
        let mut hash = TraceHash::default();
        hash.add(self.node.partition().applied_index());
        hash.add(self.world.wal.written().0);
        hash.add(self.node.in_flight() as u64);
        for group in keypact_node::GROUPS {
            if let Some(raft) = self.node.raft(group) {
                hash.add(raft.term());
                hash.add(raft.commit_index());
            }
        }
        hash.value()
    }

    fn count(&self, counters: &mut Counters) {
        let node = self.node.counters();
        counters.add("forwarded", node.forwarded);
        counters.add("redirected", node.redirects);
        counters.add("uncertain", node.uncertain);
        counters.add("no-quorum", node.no_quorum);
        counters.add("tick", node.ticks);
        counters.add("idle-tick", node.idle_ticks);
        counters.add("read-after-own-write", node.reads_after_own_write);
        counters.add("checkpoint", node.checkpoints);
        counters.add("snapshot-installed", node.snapshots_installed);
        counters.add("log-segments-changed", u64::from(self.world.wal.segment_count() > 1));
        counters.add("member-step", node.member_steps);
        counters.add("asked-to-join", node.asked_to_join);
        counters.add("lost-folder-readmitted", node.readmitted);
        counters.add("removed-and-knows", u64::from(self.node.is_gone()));
        let later = self.node.config().incarnation.0 > 1;
        counters.add("votes-in-a-later-life", u64::from(later && self.node.is_settled()));
        self.operator.count(counters);
    }
}

type Recovering = (Node, World);

fn recover(config: &NodeSetup, disk: &mut NodeDisk, seed: u64) -> Result<Recovering, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut recovery = NodeRecovery::begin(config.after(disk.losses), seed).map_err(|e| said(&e))?;
    let checkpoints = Checkpoints::open(disk.disk.clone()).map_err(|e| said(&e))?;
    let groups: Vec<GroupId> = checkpoints.groups().collect();
    for group in groups {
        let reader = checkpoints.newest(group).expect("the group has a checkpoint");
        recovery.checkpoint(group, reader.meta()).map_err(|e| said(&e))?;
        for chunk in reader.chunks() {
            let chunk = chunk.map_err(|e| said(&e))?;
            recovery.checkpoint_chunk(group, chunk).map_err(|e| said(&e))?;
        }
        recovery.checkpoint_end(group).map_err(|e| said(&e))?;
    }
    let mut refused = None;
    let recovered = Wal::recover(disk.disk.clone(), config.wal, |record| {
        if refused.is_none() {
            refused = recovery.replay(record.lsn, record.group, record.body.clone()).err();
        }
    })
    .map_err(|e| said(&e))?;
    if let Some(error) = refused {
        return Err(error.to_string());
    }
    let durable = recovered.report.last;
    let node = recovery.finish(durable).map_err(|e| said(&e))?;
    let world = World {
        appender: recovered.appender,
        wal: recovered.wal,
        writing: None,
        checkpoints,
        writers: Vec::new(),
        incoming: Vec::new(),
        reader: None,
        jobs: VecDeque::new(),
        next_token: 0,
        sends: Vec::new(),
        replies: Vec::new(),
        disk_jobs: Vec::new(),
        wake_at_ns: None,
        failed: false,
        log_long_bytes: config.log_long_bytes,
        segment_bytes: config.wal.segment_bytes,
        asked_at_bytes: 0,
        needs: Lsn::ZERO,
    };
    Ok((node, world))
}

impl NodeProcess {
    fn client(&mut self, client: ClientId, request: NodeRequest, context: Context) {
        let NodeRequest { place, connection, command } = request;
        let session = session_of(client, connection);
        let next = self.connections.entry(session).or_insert(Some(0));
        if *next == Some(place) {
            *next = Some(place + 1);
            let input = NodeInput::Command { session, seq: place, command };
            self.node.handle(input, context, &mut self.world);
        } else if next.take().is_some() {
            self.node.handle(NodeInput::SessionClosed(session), context, &mut self.world);
        }
    }

    fn end_batch(&mut self, context: Context, out: &mut Effects<Self>) {
        (self.wall_ms, self.now_ns) = (context.wall_ms, context.now_ns);
        self.operator.act(&mut self.node, context, &mut self.world);
        self.node.flush(context, &mut self.world);
        if self.gone_since_ns.is_none() && self.node.is_gone() {
            self.gone_since_ns = Some(context.now_ns);
        }
        self.world.start_write();
        let world = &mut self.world;
        for (to, traffic, message) in world.sends.drain(..) {
            out.send(to, traffic, message);
        }
        for (session, place, value) in world.replies.drain(..) {
            let connection = session.0 & u64::from(u32::MAX);
            out.reply(ClientId((session.0 >> 32) as u32), NodeReply { connection, place, value });
        }
        for (token, work) in world.disk_jobs.drain(..) {
            out.disk(token, work);
        }
        if let Some(at_ns) = world.wake_at_ns.take() {
            out.wake_at(at_ns);
        }
        if world.failed {
            out.stop("the disk failed");
        }
    }

    /// A disk job has ended. `None` if the disk failed.
    fn disk_done(&mut self, token: u64, context: Context) -> Option<()> {
        let at = self.world.jobs.iter().position(|(job, _)| *job == token)?;
        let (_, job) = self.world.jobs.remove(at).expect("its position was just found");
        let input = match job {
            Job::Log => {
                let durable = self.world.wal.sync().ok()?;
                let batch = self.world.writing.take().expect("a log job writes a batch");
                if batch.is_written() {
                    self.world.appender.recycle(batch);
                } else {
                    self.world.writing = Some(batch);
                }
                self.world.wal.prepare_ahead(256 * 1024).ok()?;
                self.world.tend_log();
                self.node.handle(NodeInput::Durable(durable), context, &mut self.world);
                self.ask_for_shorter_log(context);
                return Some(());
            }
            Job::Checkpoint(job) => self.world.checkpoint_done(job)?,
        };
        if let Some(input) = input {
            self.node.handle(input, context, &mut self.world);
        }
        Some(())
    }

    /// Asks once for each segment by which the log is too long: what the groups do about it is itself written to the log.
    fn ask_for_shorter_log(&mut self, context: Context) {
        let length = self.world.wal.len_bytes();
        if length <= self.world.log_long_bytes {
            self.world.asked_at_bytes = 0;
        } else if length >= self.world.asked_at_bytes + self.world.segment_bytes {
            self.world.asked_at_bytes = length;
            for group in keypact_node::GROUPS {
                self.node.handle(NodeInput::LogLong(group), context, &mut self.world);
            }
        }
    }
}

impl World {
    fn job(&mut self, job: Job, work: DiskWork) {
        self.next_token += 1;
        self.jobs.push_back((self.next_token, job));
        self.disk_jobs.push((self.next_token, work));
    }

    /// Writes the next frame of the log if none is under way.
    fn start_write(&mut self) {
        if self.failed || self.jobs.iter().any(|(_, job)| matches!(job, Job::Log)) {
            return;
        }
        if self.writing.is_none() && self.appender.is_empty() {
            return;
        }
        let mut batch = self.writing.take().unwrap_or_else(|| self.appender.take());
        let bytes = batch.len_bytes() as u64;
        self.failed |= self.wal.write(&mut batch).is_err();
        self.writing = Some(batch);
        self.job(Job::Log, DiskWork::LogSync { bytes });
    }

    /// What the log's thread does between writes.
    fn tend_log(&mut self) {
        if self.needs > Lsn::ZERO {
            self.wal.drop_before(self.needs);
        }
        if self.writing.is_none() && self.appender.is_empty() {
            self.failed |= self.wal.note_durable().is_err();
        }
    }

    /// Carries out what a checkpoint job was for. `None` if the disk failed; otherwise what to tell the node, if anything.
    fn checkpoint_done(&mut self, job: CheckpointJob) -> Option<Option<NodeInput>> {
        Some(match job {
            CheckpointJob::ChunkWanted(group) => self
                .writers
                .iter()
                .any(|writer| writer.group() == group)
                .then_some(NodeInput::CheckpointChunkWanted(group)),
            CheckpointJob::Finish(group) => match self.take_writer(group) {
                Some(writer) => {
                    self.checkpoints.finish(writer).ok()?;
                    Some(NodeInput::Checkpointed(group))
                }
                None => None,
            },
            CheckpointJob::Read { group, to, chunk } => {
                let chunk = self.read_chunk(group, chunk);
                Some(NodeInput::CheckpointRead { group, to, chunk })
            }
            CheckpointJob::Incoming { group, chunk } => self.write_incoming(group, &chunk)?,
        })
    }

    fn take_writer(&mut self, group: GroupId) -> Option<CheckpointWriter<MemoryDisk>> {
        let at = self.writers.iter().position(|writer| writer.group() == group)?;
        Some(self.writers.remove(at))
    }

    fn read_chunk(&mut self, group: GroupId, chunk: u32) -> Option<SnapshotChunk> {
        if chunk == 0 || self.reader.as_ref().is_none_or(|reader| reader.group() != group) {
            self.reader = self.checkpoints.newest(group);
        }
        let reader = self.reader.as_ref()?;
        let bytes = reader.chunk(chunk).ok()?;
        Some(SnapshotChunk { meta: reader.meta(), chunk, bytes, last: chunk + 1 == reader.chunk_count() })
    }

    fn write_incoming(&mut self, group: GroupId, chunk: &SnapshotChunk) -> Option<Option<NodeInput>> {
        if chunk.chunk == 0 {
            self.incoming.retain(|writer| writer.group() != group);
            self.incoming.push(self.checkpoints.begin_incoming(group, &chunk.meta).ok()?);
        }
        let Some(at) = self.incoming.iter().position(|writer| writer.group() == group) else {
            return Some(None);
        };
        if self.incoming[at].chunk_count() != chunk.chunk {
            return Some(None);
        }
        self.incoming[at].chunk_at(chunk.chunk, &chunk.bytes).ok()?;
        if chunk.last {
            let writer = self.incoming.remove(at);
            self.checkpoints.finish(writer).ok()?;
        }
        Some(Some(NodeInput::IncomingTaken { group, chunk: chunk.chunk }))
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

    fn send(&mut self, to: NodeId, traffic: keypact_node::Traffic, message: PeerMessage) {
        let traffic = match traffic {
            keypact_node::Traffic::Control => Traffic::Control,
            keypact_node::Traffic::Bulk => Traffic::Bulk,
        };
        self.sends.push((to, traffic, message));
    }

    fn reply(&mut self, session: SessionId, seq: u64, value: Value) {
        self.replies.push((session, seq, value));
    }

    fn wake_at(&mut self, at_ns: u64) {
        self.wake_at_ns = Some(at_ns);
    }

    fn checkpoint_begin(&mut self, group: GroupId, meta: Bytes) {
        match self.checkpoints.begin(group, &meta) {
            Ok(writer) => {
                self.writers.push(writer);
                self.job(
                    Job::Checkpoint(CheckpointJob::ChunkWanted(group)),
                    DiskWork::Checkpoint { bytes: 0 },
                );
            }
            Err(_) => self.failed = true,
        }
    }

    fn checkpoint_chunk(&mut self, group: GroupId, chunk: Bytes) {
        let Some(writer) = self.writers.iter_mut().find(|writer| writer.group() == group) else { return };
        self.failed |= writer.chunk(&chunk).is_err();
        let bytes = chunk.len() as u64;
        self.job(Job::Checkpoint(CheckpointJob::ChunkWanted(group)), DiskWork::Checkpoint { bytes });
    }

    fn checkpoint_finish(&mut self, group: GroupId) {
        self.job(Job::Checkpoint(CheckpointJob::Finish(group)), DiskWork::Checkpoint { bytes: 4_096 });
    }

    fn checkpoint_abort(&mut self, group: GroupId) {
        self.writers.retain(|writer| writer.group() != group);
    }

    fn checkpoint_read(&mut self, group: GroupId, to: NodeId, chunk: u32) {
        let job = Job::Checkpoint(CheckpointJob::Read { group, to, chunk });
        self.job(job, DiskWork::Read { bytes: 256 * 1024 });
    }

    fn incoming_chunk(&mut self, group: GroupId, chunk: SnapshotChunk) {
        let bytes = chunk.bytes.len() as u64;
        let job = Job::Checkpoint(CheckpointJob::Incoming { group, chunk });
        self.job(job, DiskWork::Checkpoint { bytes });
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.needs = lsn;
    }

    fn roster_changed(&mut self, _: &Roster) {}
}
