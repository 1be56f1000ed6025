//! One replica: acts at once, writes down, then tells the others; and asks around for what it missed.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use keypact_crdt::Lattice;
use keypact_ordering::clock::{DotContext, HybridClock, HybridStamp, ReplicaId};
use keypact_protocol::{Context, DecodeError, Incarnation, NodeId, Wire};
use keypact_simulator::{
    Applied, ClientId, Counters, Disk, DiskDamage, DiskWork, Effects, Loss, MILLISECOND_NS, Process,
    ProcessInput, Random, StartRefused, TraceHash, Traffic,
};

use super::board::{Action, Board, BoardDelta, Digest};

/// Settings of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// All replicas.
    pub members: Vec<NodeId>,
    /// How often one of the others is asked for what was missed.
    pub ask_ms: u64,
    /// How far ahead a stamp may be.
    pub drift_max_ms: u64,
    /// Deltas that are larger are sent in parts.
    pub part_bytes_max: usize,
    /// So many records make a snapshot worth while.
    pub records_max: usize,
}

/// What replicas say to each other.
#[derive(Clone, Debug)]
pub enum Message {
    /// One mutation's delta.
    Delta(Bytes),
    /// What the sender has applied.
    Ask {
        /// Under which identity it asks.
        asker: ReplicaId,
        /// The digest.
        digest: Bytes,
        /// Whether to ask back if the other one lacks something too.
        back: bool,
    },
    /// A part of what the receiver misses.
    Part {
        /// Who asked. A node that has lost its disk since then lacks more than this brings, and must not take it.
        asker: ReplicaId,
        /// Which transfer of the sender.
        transfer: u64,
        /// Which part, from 0; the last is to be applied last.
        index: u32,
        /// Of how many.
        count: u32,
        /// The part.
        delta: Bytes,
    },
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Delta(delta) => {
                out.push(0);
                out.extend_from_slice(delta);
            }
            Message::Ask { asker, digest, back } => {
                out.push(1 + u8::from(*back));
                out.put_u64_le(asker.0);
                out.extend_from_slice(digest);
            }
            Message::Part { asker, transfer, index, count, delta } => {
                out.push(3);
                out.put_u64_le(asker.0);
                out.put_u64_le(*transfer);
                out.put_u32_le(*index);
                out.put_u32_le(*count);
                out.extend_from_slice(delta);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Message, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a message"));
        }
        match bytes.get_u8() {
            0 => Ok(Message::Delta(bytes)),
            kind @ (1 | 2) if bytes.len() >= 8 => {
                let asker = ReplicaId(bytes.get_u64_le());
                Ok(Message::Ask { asker, digest: bytes, back: kind == 2 })
            }
            3 if bytes.len() >= 24 => {
                let asker = ReplicaId(bytes.get_u64_le());
                let (transfer, index, count) = (bytes.get_u64_le(), bytes.get_u32_le(), bytes.get_u32_le());
                Ok(Message::Part { asker, transfer, index, count, delta: bytes })
            }
            _ => Err(DecodeError::new("a message")),
        }
    }
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub struct ActionRequest {
    /// The client's number for it; no two actions of a run share one.
    pub token: u64,
    /// What.
    pub action: Action,
}

/// What a client is told, once the disk has it.
#[derive(Clone, Copy, Debug)]
pub struct ActionReply {
    /// As in the request.
    pub token: u64,
    /// Whether it was done; if not, nothing was.
    pub done: bool,
}

/// One thing on the disk.
#[derive(Clone, Debug)]
enum Record {
    /// Own action number `number`, or something heard: the parts of one transfer are kept together or not at all.
    Deltas { number: Option<u64>, deltas: Vec<Bytes>, clock: HybridStamp },
    /// All before it.
    Snapshot { number: u64, board: Bytes, clock: HybridStamp },
}

/// What a replica's disk keeps.
#[derive(Debug, Default)]
pub struct ReplicaDisk {
    records: Vec<Record>,
    synced: usize,
    /// How often the disk was lost: kept elsewhere, by who admits a node that comes back with nothing.
    incarnation: u64,
    lost: bool,
}

impl ReplicaDisk {
    /// How many actions of the present incarnation are on it.
    pub fn actions(&self) -> u64 {
        let number = |record: &Record| match record {
            Record::Deltas { number, .. } => *number,
            Record::Snapshot { number, .. } => Some(*number),
        };
        self.records.iter().filter_map(number).max().unwrap_or(0)
    }

    /// The identity of the node that it belongs to, in the present incarnation.
    pub fn replica(&self, node: NodeId) -> ReplicaId {
        ReplicaId::of_life(node, Incarnation(self.incarnation)).expect("small numbers fit")
    }

    /// Whether its content can't be read any more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }
}

impl Disk for ReplicaDisk {
    fn crash(&mut self, loss: Loss, random: &mut Random) {
        let kept = match loss {
            Loss::Nothing => self.records.len(),
            Loss::Unsynced => self.synced,
            Loss::Part => self.synced + random.below((self.records.len() - self.synced + 1) as u64) as usize,
        };
        self.records.truncate(kept);
        self.synced = kept;
    }

    fn damage(&mut self, damage: DiskDamage, _random: &mut Random) -> bool {
        let hit = damage == DiskDamage::BitRot;
        self.lost |= hit;
        hit
    }
}

/// An action that was carried out here, for who watches.
#[derive(Clone, Debug)]
pub struct Made {
    /// By the client's number.
    pub token: u64,
    /// Who.
    pub replica: ReplicaId,
    /// The replica's own number for it, from 1.
    pub number: u64,
    /// What.
    pub action: Action,
    /// Of the map: the events that were applied before it.
    pub seen: DotContext,
    /// The event's counter in the map, 0 if it is none.
    pub counter: u64,
    /// Of the register: the write that was seen.
    pub over: Option<u64>,
    /// When, by the hybrid clock.
    pub stamp: HybridStamp,
}

/// Parts that wait for the others.
#[derive(Debug)]
struct Transfer {
    number: u64,
    parts: BTreeMap<u32, Bytes>,
}

const COUNTS: usize = 9;
/// What a replica counts.
const COUNTED: [&str; COUNTS] = [
    "delta-taught-nothing",
    "superseded-before-it-came",
    "sent-in-parts",
    "parts-complete",
    "stamp-refused",
    "came-back-with-nothing",
    "snapshot-read",
    "asked-back",
    "removed-nothing",
];

/// One replica.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    id: NodeId,
    replica: ReplicaId,
    board: Board,
    clock: HybridClock,
    random: Random,
    actions: u64,
    made: Vec<Made>,
    /// What waits for the disk: all records up to this place.
    held: Vec<(usize, Held)>,
    syncing: Option<usize>,
    transfers: BTreeMap<NodeId, Transfer>,
    transfers_sent: u64,
    /// Its disk is lost, or was, and nobody has told it yet what it lacks.
    lacks_all: bool,
    counts: [u64; COUNTS],
}

#[derive(Debug)]
enum Held {
    Send(NodeId, Message),
    Reply(ClientId, ActionReply),
}

fn bytes_of(value: &impl Wire) -> Bytes {
    let mut out = Vec::new();
    value.encode(&mut out);
    out.into()
}

impl Replica {
    /// The state.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// What was done since the last step.
    pub fn made(&self) -> &[Made] {
        &self.made
    }

    /// Under which identity.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    fn hold(&mut self, disk: &ReplicaDisk, held: Held) {
        self.held.push((disk.records.len(), held));
    }

    fn act(&mut self, client: ClientId, request: ActionRequest, wall_ms: u64, disk: &mut ReplicaDisk) {
        let ActionRequest { token, action } = request;
        let seen = self.board.map.version();
        let before = self.board.map.context().max(self.replica);
        let over = self.board.latest.value().copied();
        let delta = self.board.act(action, token, self.replica, &mut self.clock, wall_ms);
        let done = delta.is_some();
        if let Some(delta) = delta {
            self.actions += 1;
            let counter = self.board.map.context().max(self.replica);
            let counter = if before == counter { 0 } else { counter };
            self.counts[8] += u64::from(delta.is_empty());
            let (replica, number, stamp) = (self.replica, self.actions, self.clock.last());
            self.made.push(Made { token, replica, number, action, seen, counter, over, stamp });
            let delta = bytes_of(&delta);
            let record = Record::Deltas { number: Some(number), deltas: vec![delta.clone()], clock: stamp };
            disk.records.push(record);
            for peer in self.config.members.clone() {
                if peer != self.id {
                    self.hold(disk, Held::Send(peer, Message::Delta(delta.clone())));
                }
            }
        }
        self.hold(disk, Held::Reply(client, ActionReply { token, done }));
    }

    /// Takes what another says, in order, unless a stamp is too far ahead: then nothing is taken, and it comes again later.
    fn learn(&mut self, parts: Vec<Bytes>, wall_ms: u64, disk: &mut ReplicaDisk) {
        let decoded: Vec<BoardDelta> = parts
            .iter()
            .map(|bytes| BoardDelta::decode(bytes.clone()).expect("peers send what they encoded"))
            .collect();
        for stamp in decoded.iter().filter_map(|delta| delta.latest.stamp()) {
            if self.clock.observe(stamp, wall_ms).is_err() {
                self.counts[4] += 1;
                return;
            }
        }
        let mut taught = false;
        for delta in decoded {
            taught |= self.board.apply(delta);
        }
        if taught {
            disk.records.push(Record::Deltas { number: None, deltas: parts, clock: self.clock.last() });
        } else {
            self.counts[0] += 1;
        }
        let heard_only = self.board.map.context().dot_count() > self.board.map.version().dot_count();
        self.counts[1] += u64::from(heard_only);
    }

    fn ask(&mut self, peer: NodeId, back: bool, disk: &ReplicaDisk) {
        let digest = bytes_of(&self.board.digest());
        self.hold(disk, Held::Send(peer, Message::Ask { asker: self.replica, digest, back }));
    }

    fn answer(&mut self, from: NodeId, asker: ReplicaId, digest: Bytes, back: bool, disk: &ReplicaDisk) {
        let digest = Digest::decode(digest).expect("peers send what they encoded");
        let delta = self.board.delta_since(&digest);
        if !delta.is_empty() {
            let parts = delta.split(self.config.part_bytes_max);
            self.transfers_sent += 1;
            let (transfer, count) = (self.transfers_sent, parts.len() as u32);
            self.counts[2] += u64::from(count > 1);
            for (index, part) in (0..).zip(parts) {
                let delta = bytes_of(&part);
                self.hold(disk, Held::Send(from, Message::Part { asker, transfer, index, count, delta }));
            }
        }
        if back && self.board.digest().lacks(&digest) {
            self.counts[7] += 1;
            self.ask(from, false, disk);
        }
    }

    /// Keeps a part until all of its transfer are there, then applies them: the last one last.
    fn part(&mut self, from: NodeId, message: (u64, u32, u32, Bytes), wall_ms: u64, disk: &mut ReplicaDisk) {
        let (number, index, count, delta) = message;
        let transfer =
            self.transfers.entry(from).or_insert_with(|| Transfer { number, parts: BTreeMap::new() });
        if transfer.number != number {
            *transfer = Transfer { number, parts: BTreeMap::new() };
        }
        transfer.parts.insert(index, delta);
        if transfer.parts.len() < count as usize {
            return;
        }
        self.lacks_all = false;
        let parts = self.transfers.remove(&from).expect("it is there").parts;
        self.counts[3] += u64::from(count > 1);
        // In the order of their numbers: the last is applied last.
        self.learn(parts.into_values().collect(), wall_ms, disk);
    }

    fn synced(&mut self, disk: &mut ReplicaDisk, out: &mut Effects<Replica>) {
        let upto = self.syncing.take().expect("a sync was under way");
        disk.synced = upto;
        let mut waits = Vec::new();
        for (place, held) in self.held.drain(..) {
            match held {
                held if place > upto => waits.push((place, held)),
                Held::Send(to, message) => out.send(to, Traffic::Bulk, message),
                Held::Reply(client, reply) => out.reply(client, reply),
            }
        }
        self.held = waits;
        // What the snapshot covers is dropped only now that it is durable.
        let snapshot = |record: &Record| matches!(record, Record::Snapshot { .. });
        if let Some(at) = disk.records[..upto].iter().rposition(snapshot).filter(|at| *at > 0) {
            disk.records.drain(..at);
            disk.synced -= at;
            self.held.iter_mut().for_each(|(place, _)| *place -= at);
        }
    }

    fn end_batch(&mut self, disk: &mut ReplicaDisk, out: &mut Effects<Replica>) {
        if disk.records.len() > self.config.records_max && self.syncing.is_none() {
            let board = bytes_of(&self.board);
            disk.records.push(Record::Snapshot { number: self.actions, board, clock: self.clock.last() });
        }
        if self.syncing.is_none() && (disk.records.len() > disk.synced || !self.held.is_empty()) {
            self.syncing = Some(disk.records.len());
            out.disk(0, DiskWork::LogSync { bytes: 64 * (disk.records.len() - disk.synced) as u64 });
        }
    }
}

impl Process for Replica {
    type Config = ReplicaConfig;
    type Disk = ReplicaDisk;
    type Message = Message;
    type Request = ActionRequest;
    type Reply = ActionReply;

    fn start(
        config: &ReplicaConfig,
        id: NodeId,
        disk: &mut ReplicaDisk,
        seed: u64,
        context: Context,
        out: &mut Effects<Replica>,
    ) -> Result<Replica, StartRefused> {
        let mut counts = [0; COUNTS];
        let lacks_all = disk.lost;
        if disk.lost {
            // All that was here is gone, and with it how far this identity has counted.
            *disk = ReplicaDisk { incarnation: disk.incarnation + 1, ..ReplicaDisk::default() };
            counts[5] += 1;
        }
        let replica = disk.replica(id);
        let (mut board, mut last) = (Board::default(), HybridStamp::ZERO);
        for record in &disk.records {
            match record {
                Record::Snapshot { board: bytes, clock, .. } => {
                    board = Board::decode(bytes.clone()).expect("a snapshot is what was encoded");
                    last = *clock;
                    counts[6] += 1;
                }
                Record::Deltas { deltas, clock, .. } => {
                    for delta in deltas {
                        board.apply(BoardDelta::decode(delta.clone()).expect("a record is what was encoded"));
                    }
                    last = *clock;
                }
            }
        }
        disk.synced = disk.records.len();
        out.wake_at(context.now_ns + config.ask_ms * MILLISECOND_NS);
        Ok(Replica {
            id,
            replica,
            board,
            clock: HybridClock::resume(last, config.drift_max_ms),
            random: Random::new(seed),
            actions: disk.actions(),
            made: Vec::new(),
            held: Vec::new(),
            syncing: None,
            transfers: BTreeMap::new(),
            transfers_sent: seed >> 32,
            lacks_all,
            counts,
            config: config.clone(),
        })
    }

    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Replica>>,
        disk: &mut ReplicaDisk,
        context: Context,
        out: &mut Effects<Replica>,
    ) {
        self.made.clear();
        self.lacks_all |= disk.lost;
        if batch.iter().any(|input| matches!(input, ProcessInput::DiskDone { ok: false, .. })) {
            batch.clear();
            return out.stop("a disk job failed");
        }
        for input in batch.drain(..) {
            match input {
                ProcessInput::Client { client, request } => self.act(client, request, context.wall_ms, disk),
                ProcessInput::Peer { message: Message::Delta(delta), .. } => {
                    self.learn(vec![delta], context.wall_ms, disk);
                }
                ProcessInput::Peer { from, message: Message::Ask { asker, digest, back } } => {
                    self.answer(from, asker, digest, back, disk);
                }
                ProcessInput::Peer {
                    from,
                    message: Message::Part { asker, transfer, index, count, delta },
                } => {
                    if asker == self.replica {
                        self.part(from, (transfer, index, count, delta), context.wall_ms, disk);
                    }
                }
                ProcessInput::WakeUp => {
                    let peer = self.random.pick(&self.config.members);
                    if peer != self.id {
                        self.ask(peer, true, disk);
                    }
                    out.wake_at(context.now_ns + self.config.ask_ms * MILLISECOND_NS);
                }
                ProcessInput::DiskDone { .. } => self.synced(disk, out),
                ProcessInput::Unreachable(_) => {}
            }
        }
        self.end_batch(disk, out);
    }

    fn applied(&self) -> Option<Applied> {
        let mut hash = TraceHash::default();
        hash.add_bytes(&bytes_of(&self.board));
        Some(Applied { index: self.board.map.version().dot_count(), digest: hash.value() })
    }

    fn caught_up(&self) -> bool {
        !self.lacks_all
    }

    fn fingerprint(&self) -> u64 {
        self.actions << 32 | self.board.map.context().dot_count() << 8 | self.held.len() as u64
    }

    fn count(&self, counters: &mut Counters) {
        for (name, count) in COUNTED.iter().zip(self.counts) {
            counters.add(name, count);
        }
    }
}
