//! Members, a network of queues, disks that sync when told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::string::String;
use std::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{
    Context, Delivery, Draft, Gate, Incarnation, Input, Lsn, NodeId, Outlet, Protocol, ReadLevel, Recover,
    Reply, Request, RequestId, SnapshotChunk, SnapshotInput, SnapshotRead,
};

use crate::raft::{Config, Message, Raft, RaftInvariants, Record, Role, Timer};

/// Applied commands; what a checkpoint holds.
pub(super) type State = Vec<(u64, Bytes)>;

/// Small, so that snapshots have several chunks.
const CHUNK_BYTES: usize = 64;

pub(super) const MS: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Effects {
    /// What the disk would hold were all synced.
    pub(super) log: Vec<(Lsn, Record)>,
    next_lsn: u64,
    pub(super) dropped_before: Lsn,
    pub(super) sent: Vec<(NodeId, Message)>,
    pub(super) replies: Vec<Reply>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) timers: BTreeMap<Timer, u64>,
    pub(super) state: State,
    /// Meta and state being written, with the state as it was when asked for.
    pub(super) checkpoint_asked: Option<(Bytes, State)>,
    snapshot_reads: Vec<SnapshotRead>,
    snapshot_chunks: Vec<SnapshotChunk>,
}

impl Outlet<Raft> for Effects {
    fn append(&mut self, record: Record) -> Lsn {
        self.next_lsn += 1;
        self.log.push((Lsn(self.next_lsn), record));
        Lsn(self.next_lsn)
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn reply(&mut self, reply: Reply) {
        self.replies.push(reply);
    }
    fn deliver(&mut self, delivery: Delivery) {
        self.state.push((delivery.index, delivery.command.clone()));
        self.deliveries.push(delivery);
    }
    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        self.timers.insert(timer, at_ns);
    }
    fn cancel_timer(&mut self, timer: Timer) {
        self.timers.remove(&timer);
    }
    fn checkpoint(&mut self, meta: Bytes) {
        assert!(self.checkpoint_asked.is_none(), "one checkpoint at a time");
        self.checkpoint_asked = Some((meta, self.state.clone()));
    }
    fn drop_log_before(&mut self, lsn: Lsn) {
        self.dropped_before = self.dropped_before.max(lsn);
    }
    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.snapshot_reads.push(read);
    }
    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.snapshot_chunks.push(chunk);
    }
}

pub(super) struct Node {
    pub(super) raft: Option<Raft>,
    gate: Gate<Raft>,
    pub(super) effects: Effects,
    pub(super) durable: Lsn,
    /// Syncs by itself after every step.
    pub(super) syncs: bool,
    /// The newest durable checkpoint.
    pub(super) checkpoint: Option<(Bytes, State)>,
    /// Chunks of a snapshot that is arriving.
    arriving: Vec<u8>,
    lives: u64,
}

pub(super) struct World {
    pub(super) config: Config,
    pub(super) nodes: Vec<Node>,
    pub(super) now_ns: u64,
    pub(super) network: VecDeque<(NodeId, NodeId, Message)>,
    /// From, to.
    pub(super) cut: BTreeSet<(u64, u64)>,
    pub(super) invariants: RaftInvariants,
    /// Every delivered command by index, as first seen.
    pub(super) history: BTreeMap<u64, Bytes>,
    pub(super) seed: u64,
    /// For each read that must be fresh, by node and request: what was committed when it began.
    reads: BTreeMap<(u64, RequestId), u64>,
}

fn state_bytes(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, command) in state {
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(command.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(command);
    }
    bytes
}

fn bytes_state(mut bytes: &[u8]) -> State {
    let mut state = Vec::new();
    while !bytes.is_empty() {
        let index = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        state.push((index, Bytes::copy_from_slice(&bytes[12..12 + length])));
        bytes = &bytes[12 + length..];
    }
    state
}

pub(super) fn members(count: u64) -> Vec<(NodeId, Incarnation)> {
    (1..=count).map(|id| (NodeId(id), Incarnation(1))).collect()
}

impl World {
    pub(super) fn new(count: u64) -> World {
        World::with(count, |_| {})
    }

    pub(super) fn with(count: u64, change: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::new(NodeId(1), members(count));
        change(&mut config);
        let ids: Vec<NodeId> = config.members.iter().map(|(id, _)| *id).collect();
        let mut world = World {
            config,
            nodes: Vec::new(),
            now_ns: MS,
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            invariants: RaftInvariants::new(&ids),
            history: BTreeMap::new(),
            seed: 1,
            reads: BTreeMap::new(),
        };
        for _ in 0..count {
            world.nodes.push(Node {
                raft: None,
                gate: Gate::new(Lsn::ZERO),
                effects: Effects::default(),
                durable: Lsn::ZERO,
                syncs: true,
                checkpoint: None,
                arriving: Vec::new(),
                lives: 0,
            });
        }
        for id in 1..=count {
            world.restart(id);
        }
        world
    }

    pub(super) fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub(super) fn node_mut(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub(super) fn raft(&self, id: u64) -> &Raft {
        self.node(id).raft.as_ref().expect("the node is up")
    }

    /// Loses all that is not durable.
    pub(super) fn crash(&mut self, id: u64) {
        let node = self.node_mut(id);
        node.raft = None;
        let durable = node.durable;
        node.effects.log.retain(|(lsn, _)| *lsn <= durable);
        node.effects.timers.clear();
        node.effects.sent.clear();
        node.effects.replies.clear();
        node.effects.checkpoint_asked = None;
        node.effects.snapshot_chunks.clear();
        node.effects.snapshot_reads.clear();
    }

    pub(super) fn restart(&mut self, id: u64) {
        let mut config = self.config.clone();
        config.id = NodeId(id);
        let seed = self.seed;
        let now_ns = self.now_ns;
        let node = self.node_mut(id);
        node.lives += 1;
        let meta = node.checkpoint.as_ref().map(|(meta, _)| meta.clone());
        node.effects.state = node.checkpoint.as_ref().map_or_else(Vec::new, |(_, state)| state.clone());
        let mut recovering = Raft::begin(config, meta, seed * 1_000_003 + id * 101 + node.lives).unwrap();
        let dropped = node.effects.dropped_before;
        node.effects.log.retain(|(lsn, _)| *lsn >= dropped);
        for (lsn, record) in &node.effects.log {
            recovering.replay(*lsn, record.clone()).unwrap();
        }
        node.gate = Gate::new(node.durable);
        node.effects.next_lsn = node.durable.0;
        node.raft = Some(recovering.finish());
        let _ = now_ns;
        self.invariants.restarted(NodeId(id));
        self.step(id, Input::Start);
    }

    pub(super) fn context(&self) -> Context {
        Context { now_ns: self.now_ns, wall_ms: 1_700_000_000_000 + self.now_ns / MS }
    }

    /// One input, flush, checks; and a sync if the disk syncs by itself.
    pub(super) fn step(&mut self, id: u64, input: Input<Raft>) {
        self.step_unsynced(id, input);
        if self.node(id).syncs {
            self.sync(id);
        }
    }

    pub(super) fn step_unsynced(&mut self, id: u64, input: Input<Raft>) {
        self.batch(id, std::vec![input]);
    }

    pub(super) fn batch(&mut self, id: u64, inputs: Vec<Input<Raft>>) {
        let context = self.context();
        let node = &mut self.nodes[id as usize - 1];
        let Some(raft) = node.raft.as_mut() else { return };
        let before = node.effects.deliveries.len();
        for input in &inputs {
            if let Input::Request(Request::Read { id: read, level }) = input
                && *level != ReadLevel::Stale
            {
                self.reads.insert((id, *read), self.invariants.committed_index());
            }
        }
        {
            let mut sink = node.gate.sink(&mut node.effects);
            for input in inputs {
                raft.handle(input, context, &mut sink);
            }
            raft.flush(context, &mut sink);
        }
        raft.assert_invariants();
        let checked = self.invariants.check(NodeId(id), raft);
        for delivery in &node.effects.deliveries[before..] {
            let known = self.history.entry(delivery.index).or_insert_with(|| delivery.command.clone());
            assert_eq!(*known, delivery.command, "n{id} delivers what others delivered");
        }
        for reply in &node.effects.replies {
            if let Reply::ReadFrom { id: read, index } = reply
                && let Some(committed) = self.reads.remove(&(id, *read))
            {
                assert!(*index >= committed, "stale read at n{id}: {index} of {committed}");
            }
        }
        self.drain(id);
        if let Err(violation) = checked {
            panic!("{violation}");
        }
    }

    fn drain(&mut self, id: u64) {
        let sent = core::mem::take(&mut self.node_mut(id).effects.sent);
        for (to, message) in sent {
            if !self.cut.contains(&(id, to.0)) {
                self.network.push_back((NodeId(id), to, message));
            }
        }
    }

    /// The disk has everything written so far.
    pub(super) fn sync(&mut self, id: u64) {
        while let Some((last, _)) = self.node(id).effects.log.last().cloned() {
            let node = self.node_mut(id);
            if node.raft.is_none() || last <= node.durable {
                break;
            }
            node.durable = last;
            node.gate.release(last, &mut node.effects);
            self.step_unsynced(id, Input::Durable(last));
        }
        self.drain(id);
    }

    /// Answers what the node asked of its parent about checkpoints and snapshots. Whether there was anything.
    pub(super) fn serve_parent(&mut self, id: u64) -> bool {
        let node = self.node_mut(id);
        let mut inputs = Vec::new();
        if let Some((meta, state)) = node.effects.checkpoint_asked.take() {
            node.checkpoint = Some((meta.clone(), state));
            inputs.push(SnapshotInput::Checkpointed { meta });
        }
        for read in core::mem::take(&mut node.effects.snapshot_reads) {
            inputs.push(read_chunk(node.checkpoint.as_ref(), read));
        }
        for chunk in core::mem::take(&mut node.effects.snapshot_chunks) {
            if chunk.chunk == 0 {
                node.arriving.clear();
            }
            node.arriving.extend_from_slice(&chunk.bytes);
            if chunk.last {
                let state = bytes_state(&node.arriving);
                node.checkpoint = Some((chunk.meta.clone(), state.clone()));
                node.effects.state = state;
                inputs.push(SnapshotInput::Installed { meta: chunk.meta });
            } else {
                inputs.push(SnapshotInput::Taken { chunk: chunk.chunk });
            }
        }
        let any = !inputs.is_empty();
        for input in inputs {
            self.step(id, Input::Snapshot(input));
        }
        any
    }

    /// Hands over one message.
    pub(super) fn deliver_one(&mut self) -> bool {
        let Some((from, to, message)) = self.network.pop_front() else { return false };
        if !self.cut.contains(&(from.0, to.0)) {
            self.step(to.0, Input::Message { from, message });
        }
        true
    }

    /// Until nothing is on its way.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut any = self.deliver_one();
            for id in 1..=self.nodes.len() as u64 {
                if self.node(id).raft.is_some() {
                    any |= self.serve_parent(id);
                }
            }
            if !any {
                return;
            }
        }
        panic!("the members never come to rest");
    }

    /// Lets time pass, timer by timer, settling in between.
    pub(super) fn advance(&mut self, ms: u64) {
        let end_ns = self.now_ns + ms * MS;
        self.settle();
        while let Some((at_ns, id, timer)) = self.next_timer() {
            if at_ns > end_ns {
                break;
            }
            self.now_ns = self.now_ns.max(at_ns);
            self.fire(id, timer);
            self.settle();
        }
        self.now_ns = end_ns;
    }

    fn next_timer(&self) -> Option<(u64, u64, Timer)> {
        let mut next = None;
        for (at, node) in self.nodes.iter().enumerate() {
            for (timer, at_ns) in &node.effects.timers {
                let candidate = (*at_ns, at as u64 + 1, *timer);
                if next.is_none_or(|other| candidate < other) {
                    next = Some(candidate);
                }
            }
        }
        next
    }

    pub(super) fn fire(&mut self, id: u64, timer: Timer) {
        self.node_mut(id).effects.timers.remove(&timer);
        self.step(id, Input::Timer(timer));
    }

    /// Lets time pass until somebody leads whom a majority follows; its id.
    pub(super) fn elect(&mut self) -> u64 {
        for _ in 0..500 {
            self.advance(10);
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody was elected within five seconds");
    }

    /// Makes this one lead, by letting only its timer fire.
    pub(super) fn elect_this(&mut self, id: u64) {
        for _ in 0..20 {
            self.now_ns += 600 * MS;
            self.fire(id, Timer::Election);
            self.settle();
            if self.raft(id).role() == Role::Leader {
                return;
            }
        }
        panic!("n{id} can't be elected");
    }

    /// The leader of the newest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let up = self.nodes.iter().filter_map(|node| node.raft.as_ref());
        let leader = up.filter(|raft| raft.role() == Role::Leader).max_by_key(|raft| raft.term())?;
        Some(leader.config().id.0)
    }

    pub(super) fn propose(&mut self, id: u64, request: u64, command: &str) {
        let command = Draft::copy_of(command.as_bytes());
        self.step(id, Input::Request(Request::Propose { id: RequestId(request), command }));
    }

    pub(super) fn read(&mut self, id: u64, request: u64, level: ReadLevel) {
        self.step(id, Input::Request(Request::Read { id: RequestId(request), level }));
    }

    pub(super) fn replies(&mut self, id: u64) -> Vec<Reply> {
        core::mem::take(&mut self.node_mut(id).effects.replies)
    }

    /// Cuts both directions between the node and all others.
    pub(super) fn isolate(&mut self, id: u64) {
        for other in 1..=self.nodes.len() as u64 {
            if other != id {
                self.cut.insert((id, other));
                self.cut.insert((other, id));
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The commands applied at the node, without the group's own entries.
    pub(super) fn applied(&self, id: u64) -> Vec<String> {
        let state = &self.node(id).effects.state;
        let commands = state.iter().filter(|(_, command)| !command.is_empty());
        commands.map(|(_, command)| String::from_utf8(command.to_vec()).unwrap()).collect()
    }

    /// Terms by index, of what the member's tail holds.
    pub(super) fn terms(&self, id: u64) -> Vec<u64> {
        let tail = self.raft(id).tail();
        let slots = tail.slots_from(tail.base().index + 1).unwrap();
        slots.map(|slot| slot.entry.term()).collect()
    }
}

fn read_chunk(checkpoint: Option<&(Bytes, State)>, read: SnapshotRead) -> SnapshotInput {
    let Some((meta, state)) = checkpoint else { return SnapshotInput::ReadFailed { to: read.to } };
    let bytes = state_bytes(state);
    let start = read.chunk as usize * CHUNK_BYTES;
    if start > 0 && start >= bytes.len() {
        return SnapshotInput::ReadFailed { to: read.to };
    }
    let end = bytes.len().min(start + CHUNK_BYTES);
    let chunk = SnapshotChunk {
        meta: meta.clone(),
        chunk: read.chunk,
        bytes: Bytes::copy_from_slice(&bytes[start..end]),
        last: end == bytes.len(),
    };
    SnapshotInput::Read { to: read.to, chunk }
}
