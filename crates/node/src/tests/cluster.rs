//! The driver: nodes, the messages between them, their logs and checkpoints, all in memory and under the story's control.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use keypact_coordination::raft::{self, Raft};
use keypact_data::Command;
use keypact_protocol::{Context, GroupId, Incarnation, Lsn, NodeId, SnapshotChunk, Wire};
use keypact_resp::{Arguments, Value, Version};

use crate::{
    DEFAULT, Member, Node, NodeConfig, NodeInput, NodeRecovery, Outside, PeerMessage, Reads, Roster,
    SessionId, StartError, Traffic,
};

/// A checkpoint: its meta and its chunks.
type Checkpoint = (Bytes, Vec<Bytes>);

/// One node's folder and what it said in the present batch.
#[derive(Default)]
pub(super) struct World {
    pub(super) log: Vec<(GroupId, Bytes)>,
    pub(super) durable: u64,
    pub(super) dropped_before: Lsn,
    pub(super) checkpoints: BTreeMap<GroupId, Checkpoint>,
    writing: BTreeMap<GroupId, Checkpoint>,
    incoming: BTreeMap<GroupId, Checkpoint>,
    sends: Vec<(NodeId, PeerMessage)>,
    replies: Vec<(SessionId, u64, Value)>,
    answers: VecDeque<NodeInput>,
    /// What the node last said of who belongs to the cluster.
    pub(super) roster: Roster,
    wake_at_ns: Option<u64>,
    /// The disk answers nothing while this is set.
    pub(super) disk_hangs: bool,
    /// Answers about snapshots wait while this is set.
    pub(super) checkpoints_hang: bool,
}

impl World {
    /// Answers about checkpoints and snapshots that the disk has yet to give.
    pub(super) fn owed_answers(&self) -> usize {
        self.answers.len()
    }
}

impl Outside for World {
    fn append(&mut self, group: GroupId, record: &raft::Record) -> Lsn {
        self.log.push((group, encoded(record)));
        Lsn(self.log.len() as u64)
    }

    fn send(&mut self, to: NodeId, _: Traffic, message: PeerMessage) {
        self.sends.push((to, message));
    }

    fn reply(&mut self, session: SessionId, seq: u64, value: Value) {
        self.replies.push((session, seq, value));
    }

    fn wake_at(&mut self, at_ns: u64) {
        self.wake_at_ns = Some(at_ns);
    }

    fn checkpoint_begin(&mut self, group: GroupId, meta: Bytes) {
        let before = self.writing.insert(group, (meta, Vec::new()));
        assert!(before.is_none(), "one checkpoint of a group at a time");
        self.answers.push_back(NodeInput::CheckpointChunkWanted(group));
    }

    fn checkpoint_chunk(&mut self, group: GroupId, chunk: Bytes) {
        assert!(chunk.len() <= 256 * 1024, "chunks have a limit");
        self.writing.get_mut(&group).expect("it was begun").1.push(chunk);
        self.answers.push_back(NodeInput::CheckpointChunkWanted(group));
    }

    fn checkpoint_finish(&mut self, group: GroupId) {
        let written = self.writing.remove(&group).expect("it was begun");
        self.checkpoints.insert(group, written);
        self.answers.push_back(NodeInput::Checkpointed(group));
    }

    fn checkpoint_abort(&mut self, group: GroupId) {
        self.writing.remove(&group);
    }

    fn checkpoint_read(&mut self, group: GroupId, to: NodeId, chunk: u32) {
        let chunk = self.checkpoints.get(&group).and_then(|(meta, chunks)| {
            let bytes = chunks.get(chunk as usize)?.clone();
            let last = chunk as usize + 1 == chunks.len();
            Some(SnapshotChunk { meta: meta.clone(), chunk, bytes, last })
        });
        self.answers.push_back(NodeInput::CheckpointRead { group, to, chunk });
    }

    fn incoming_chunk(&mut self, group: GroupId, chunk: SnapshotChunk) {
        if chunk.chunk == 0 {
            self.incoming.insert(group, (chunk.meta.clone(), Vec::new()));
        }
        let (_, chunks) = self.incoming.get_mut(&group).expect("chunk 0 came first");
        assert!(chunks.len() == chunk.chunk as usize, "chunks come in order");
        chunks.push(chunk.bytes);
        if chunk.last {
            let whole = self.incoming.remove(&group).expect("just written to");
            self.checkpoints.insert(group, whole);
        }
        self.answers.push_back(NodeInput::IncomingTaken { group, chunk: chunk.chunk });
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        assert!(lsn >= self.dropped_before, "the log only gets shorter");
        self.dropped_before = lsn;
    }

    fn roster_changed(&mut self, roster: &Roster) {
        self.roster = roster.clone();
    }
}

pub(super) fn encoded(message: &impl Wire) -> Bytes {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes.into()
}

/// A command that was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Asked {
    node: u64,
    session: u64,
    seq: u64,
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Arrives,
    Lost,
    Waits,
    Twice,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) message: PeerMessage,
}

type Rule = Box<dyn FnMut(&Packet) -> Fate>;

/// One to three nodes and all between them.
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) worlds: BTreeMap<u64, World>,
    pub(super) configs: BTreeMap<u64, NodeConfig>,
    pub(super) now_ns: u64,
    pub(super) wall_ms: u64,
    packets: VecDeque<Packet>,
    pub(super) waiting: Vec<Packet>,
    rule: Rule,
    answers: BTreeMap<Asked, Value>,
    next_seq: u64,
    lives: u64,
    /// Nodes whose clocks stand still and that hear nothing.
    pub(super) paused: BTreeSet<u64>,
    /// How far nodes' wall clocks are off, milliseconds; those not named are right.
    pub(super) skews_ms: BTreeMap<u64, i64>,
}

pub(super) fn command(text: &str) -> Command {
    let parts: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    Command::parse(Arguments::from_parts(&parts)).expect("stories use commands that exist")
}

pub(super) fn members(count: u64) -> Vec<Member> {
    (1..=count)
        .map(|id| Member {
            id,
            incarnation: 1,
            resp: format!("127.0.0.1:{}", 7000 + id),
            peer: format!("127.0.0.1:{}", 7100 + id),
            http: format!("127.0.0.1:{}", 7200 + id),
        })
        .collect()
}

impl Cluster {
    /// Nodes 1 to `count`, started, with a leader that has committed something.
    pub(super) fn new(count: u64, reads: Reads) -> Cluster {
        Cluster::with(count, |config| config.reads = reads)
    }

    /// The same with other settings.
    pub(super) fn with(count: u64, set: impl Fn(&mut NodeConfig)) -> Cluster {
        let mut cluster = Cluster::asleep(count, set);
        for id in 1..=count {
            cluster.start(id);
        }
        cluster.until(|cluster| {
            let leader = cluster.leader();
            leader.is_some_and(|leader| {
                let raft = cluster.raft(leader);
                raft.term_start().is_some_and(|start| raft.commit_index() >= start)
                    && cluster.nodes.keys().all(|id| cluster.raft(*id).leader() == Some(NodeId(leader)))
            })
        });
        cluster
    }

    /// Nodes that are not started.
    pub(super) fn asleep(count: u64, set: impl Fn(&mut NodeConfig)) -> Cluster {
        let configs = (1..=count).map(|id| {
            let mut config = NodeConfig::new(NodeId(id), members(count));
            config.incarnation = Incarnation(1);
            set(&mut config);
            (id, config)
        });
        Cluster {
            nodes: BTreeMap::new(),
            worlds: (1..=count).map(|id| (id, World::default())).collect(),
            configs: configs.collect(),
            now_ns: 1_000_000_000,
            wall_ms: 1_700_000_000_000,
            packets: VecDeque::new(),
            waiting: Vec::new(),
            rule: Box::new(|_| Fate::Arrives),
            answers: BTreeMap::new(),
            next_seq: 0,
            lives: 0,
            paused: BTreeSet::new(),
            skews_ms: BTreeMap::new(),
        }
    }

    pub(super) fn context(&self) -> Context {
        Context { now_ns: self.now_ns, wall_ms: self.wall_ms }
    }

    /// Recovers a node from its folder.
    pub(super) fn recover(&mut self, id: u64) -> Result<Node, StartError> {
        self.lives += 1;
        let seed = self.lives * 1_000 + id;
        let world = &self.worlds[&id];
        let mut recovery = NodeRecovery::begin(self.configs[&id].clone(), seed)?;
        for (group, (meta, chunks)) in &world.checkpoints {
            recovery.checkpoint(*group, meta.clone())?;
            for chunk in chunks {
                recovery.checkpoint_chunk(*group, chunk.clone())?;
            }
            recovery.checkpoint_end(*group)?;
        }
        for (at, (group, body)) in world.log.iter().enumerate() {
            let lsn = Lsn(at as u64 + 1);
            if lsn >= world.dropped_before {
                recovery.replay(lsn, *group, body.clone())?;
            }
        }
        recovery.finish(Lsn(world.log.len() as u64))
    }

    pub(super) fn start(&mut self, id: u64) {
        let node = self.recover(id).expect("what a node wrote it can read");
        self.nodes.insert(id, node);
        self.input(id, NodeInput::Start);
    }

    /// Power goes: what is not durable is gone, and every peer's connection to it breaks if `noticed`.
    pub(super) fn crash(&mut self, id: u64, noticed: bool) {
        self.nodes.remove(&id).expect("it was running");
        let world = self.worlds.get_mut(&id).expect("every node has a folder");
        world.log.truncate(usize::try_from(world.durable).expect("logs of stories are short"));
        let World { log, durable, dropped_before, checkpoints, .. } = core::mem::take(world);
        *world = World { log, durable, dropped_before, checkpoints, ..World::default() };
        self.packets.retain(|packet| packet.from != id && packet.to != id);
        if noticed {
            for other in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.input(other, NodeInput::Unreachable(NodeId(id)));
            }
        }
    }

    /// What becomes of each message from now on.
    pub(super) fn network(&mut self, rule: impl FnMut(&Packet) -> Fate + 'static) {
        self.rule = Box::new(rule);
    }

    /// All arrives from now on, and what waited too.
    pub(super) fn network_heals(&mut self) {
        self.rule = Box::new(|_| Fate::Arrives);
        self.packets.extend(self.waiting.drain(..));
    }

    pub(super) fn input(&mut self, id: u64, input: NodeInput) {
        self.inputs(id, vec![input]);
    }

    /// One batch.
    pub(super) fn inputs(&mut self, id: u64, inputs: Vec<NodeInput>) {
        let mut context = self.context();
        context.wall_ms = context.wall_ms.saturating_add_signed(self.skews_ms.get(&id).copied().unwrap_or(0));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let world = self.worlds.get_mut(&id).expect("every node has a folder");
        for input in inputs {
            node.handle(input, context, world);
        }
        node.flush(context, world);
        for (session, seq, value) in world.replies.drain(..) {
            let asked = Asked { node: id, session: session.0, seq };
            let before = self.answers.insert(asked, value);
            assert!(before.is_none(), "{asked:?} is answered twice");
        }
        let sends = core::mem::take(&mut world.sends);
        for (to, message) in sends {
            let packet = Packet { from: id, to: to.0, message };
            match (self.rule)(&packet) {
                Fate::Arrives => self.packets.push_back(packet),
                Fate::Lost => {}
                Fate::Waits => self.waiting.push(packet),
                Fate::Twice => self.packets.extend([packet.clone(), packet]),
            }
        }
    }

    /// Asks a command on a connection, without letting anything else happen.
    pub(super) fn ask(&mut self, node: u64, session: u64, text: &str) -> Asked {
        let seq = self.next_seq;
        self.next_seq += 1;
        let input = NodeInput::Command { session: SessionId(session), seq, command: command(text) };
        self.input(node, input);
        Asked { node, session, seq }
    }

    /// Asks and lets everything happen that needs no time.
    pub(super) fn run(&mut self, node: u64, session: u64, text: &str) -> String {
        let asked = self.ask(node, session, text);
        self.settle();
        self.told(asked)
    }

    /// The answer as RESP3 text; "-" and the code alone for errors; "nothing" if there is none yet.
    pub(super) fn told(&self, asked: Asked) -> String {
        match self.answers.get(&asked) {
            None => String::from("nothing"),
            Some(Value::Error(error)) => format!("-{}", error.code),
            Some(value) => {
                let mut text = bytes::BytesMut::new();
                value.encode(Version::Resp3, &mut text);
                let text = String::from_utf8_lossy(&text).into_owned();
                text.trim_end().rsplit("\r\n").next().unwrap_or_default().to_owned()
            }
        }
    }

    /// How many keys an answer lists; `None` if it is no list, or not there yet.
    pub(super) fn keys_told(&self, asked: Asked) -> Option<usize> {
        match self.answers.get(&asked) {
            Some(Value::Bulks(keys)) => Some(keys.len()),
            _ => None,
        }
    }

    /// Delivers a message now.
    pub(super) fn deliver(&mut self, packet: Packet) {
        // Over the wire, as the server does.
        let message = PeerMessage::decode(encoded(&packet.message)).expect("nodes say what they understand");
        self.input(packet.to, NodeInput::Peer { from: NodeId(packet.from), message });
    }

    /// Lets disks and messages do their work until nothing more happens without time.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.settle_step() {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    fn settle_step(&mut self) -> bool {
        if let Some(at) = self.packets.iter().position(|packet| !self.paused.contains(&packet.to)) {
            let packet = self.packets.remove(at).expect("its position was just found");
            self.deliver(packet);
            return true;
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.paused.contains(&id) {
                continue;
            }
            let world = self.worlds.get_mut(&id).expect("every node has a folder");
            let written = world.log.len() as u64;
            if !world.disk_hangs && world.durable < written {
                world.durable = written;
                self.input(id, NodeInput::Durable(Lsn(written)));
                return true;
            }
            if !world.checkpoints_hang
                && let Some(answer) = world.answers.pop_front()
            {
                self.input(id, answer);
                return true;
            }
        }
        false
    }

    /// Lets time pass, waking nodes when they asked for it.
    pub(super) fn advance(&mut self, ms: u64) {
        let end_ns = self.now_ns + ms * 1_000_000;
        self.settle();
        loop {
            let due = self
                .nodes
                .keys()
                .filter(|id| !self.paused.contains(id))
                .filter_map(|id| self.worlds[id].wake_at_ns.map(|at_ns| (at_ns, *id)))
                .min();
            let Some((at_ns, id)) = due.filter(|(at_ns, _)| *at_ns <= end_ns) else { break };
            self.pass_to(at_ns.max(self.now_ns));
            self.worlds.get_mut(&id).expect("every node has a folder").wake_at_ns = None;
            self.input(id, NodeInput::Wake);
            self.settle();
        }
        self.pass_to(end_ns);
        self.settle();
    }

    fn pass_to(&mut self, now_ns: u64) {
        let before_ms = self.now_ns / 1_000_000;
        self.now_ns = now_ns;
        self.wall_ms += now_ns / 1_000_000 - before_ms;
    }

    /// Lets time pass until something holds.
    pub(super) fn until(&mut self, holds: impl Fn(&Cluster) -> bool) {
        for _ in 0..2_000 {
            self.settle();
            if holds(self) {
                return;
            }
            self.advance(10);
        }
        panic!("what a story waits for does not come");
    }

    /// Lets time pass until these are answered.
    pub(super) fn until_told(&mut self, asked: &[Asked]) -> Vec<String> {
        self.until(|cluster| asked.iter().all(|one| cluster.answers.contains_key(one)));
        asked.iter().map(|one| self.told(*one)).collect()
    }

    pub(super) fn raft(&self, id: u64) -> &Raft {
        self.nodes[&id].raft(DEFAULT).expect("every node has the group")
    }

    /// Who leads `default` in the newest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let leaders = self.nodes.keys().filter(|id| self.raft(**id).role() == raft::Role::Leader);
        leaders.max_by_key(|id| self.raft(**id).term()).copied()
    }

    /// A leader, and a node that is none.
    pub(super) fn pair(&self) -> (u64, u64) {
        let leader = self.leader().expect("someone leads");
        let other = self.nodes.keys().copied().find(|id| *id != leader).expect("more than one node runs");
        (leader, other)
    }
}

/// The message as a forwarded command, if it is one.
pub(super) fn is_forward(packet: &Packet) -> bool {
    matches!(packet.message, PeerMessage::Forward(_))
}

/// The message as the answer to one.
pub(super) fn is_forward_reply(packet: &Packet) -> bool {
    matches!(packet.message, PeerMessage::ForwardReply(_))
}
