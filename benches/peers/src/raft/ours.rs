//! Keypact's Raft, behind its gate, as a node drives it.

use std::time::Instant;

use bytes::{BufMut, Bytes};
use keypact_coordination::raft::{Config, Message, Raft, Record, Role, Timer};
use keypact_protocol::{
    Context, Delivery, DraftArena, Gate, Incarnation, Input, Lsn, NodeId, Outlet, Protocol, Recover, Reply,
    Request, RequestId, SnapshotChunk, SnapshotInput, SnapshotRead,
};

use super::{COMMAND_BYTES, Cluster, NODES, command};
use crate::error::Failure;

/// Passes in which a leader must be found: the time-out passes in real time, a pass takes less than a microsecond.
const ELECTION_PASSES_MAX: usize = 100_000_000;

/// What a node says, until it is handed on.
#[derive(Default)]
struct Effects {
    appended: Lsn,
    sent: Vec<(NodeId, Message)>,
    delivered: Vec<RequestId>,
    refused: bool,
    checkpoint: Option<Bytes>,
    election_at_ns: Option<u64>,
    heartbeat_at_ns: Option<u64>,
}

impl Effects {
    fn timer(&mut self, timer: Timer) -> &mut Option<u64> {
        match timer {
            Timer::Election => &mut self.election_at_ns,
            Timer::Heartbeat => &mut self.heartbeat_at_ns,
        }
    }

    fn due(&mut self, now_ns: u64) -> Option<Timer> {
        let due = |timer: &Timer| self.timer(*timer).is_some_and(|at_ns| at_ns <= now_ns);
        let timer = [Timer::Election, Timer::Heartbeat].into_iter().find(due)?;
        *self.timer(timer) = None;
        Some(timer)
    }
}

impl Outlet<Raft> for Effects {
    /// The log is memory: the tail that the protocol keeps already.
    fn append(&mut self, _record: Record) -> Lsn {
        self.appended = self.appended.next();
        self.appended
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }

    fn reply(&mut self, reply: Reply) {
        self.refused |= matches!(reply, Reply::Refused { .. } | Reply::Uncertain { .. });
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.delivered.extend(delivery.request);
    }

    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        *self.timer(timer) = Some(at_ns);
    }

    fn cancel_timer(&mut self, timer: Timer) {
        *self.timer(timer) = None;
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.checkpoint = Some(meta);
    }

    fn drop_log_before(&mut self, _lsn: Lsn) {}

    fn snapshot_out(&mut self, read: SnapshotRead) {
        unreachable!("no follower falls behind a checkpoint here: {read:?}");
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        unreachable!("nobody sent a snapshot: chunk {}", chunk.chunk);
    }
}

struct Node {
    raft: Raft,
    gate: Gate<Raft>,
    effects: Effects,
    inbox: Vec<(NodeId, Message)>,
}

impl Node {
    fn start(id: NodeId, members: &[(NodeId, Incarnation)]) -> Result<Node, Failure> {
        let config = Config::new(id, members.to_vec());
        config.validate().map_err(|error| Failure::server("raft", error.to_string()))?;
        let recovering =
            Raft::begin(config, None, id.0).map_err(|error| Failure::server("raft", error.to_string()))?;
        let mut node = Node {
            raft: recovering.finish(),
            gate: Gate::new(Lsn::ZERO),
            effects: Effects::default(),
            inbox: Vec::new(),
        };
        node.handle(Input::Start, Context::default());
        Ok(node)
    }

    #[inline]
    fn handle(&mut self, input: Input<Raft>, context: Context) {
        self.raft.handle(input, context, &mut self.gate.sink(&mut self.effects));
    }

    /// Ends a batch of inputs; what it appended is durable at once.
    fn flush(&mut self, context: Context, before: Lsn) {
        self.raft.flush(context, &mut self.gate.sink(&mut self.effects));
        self.raft.assert_invariants();
        let appended = self.effects.appended;
        if appended > before {
            self.gate.release(appended, &mut self.effects);
            self.handle(Input::Durable(appended), context);
            self.raft.flush(context, &mut self.gate.sink(&mut self.effects));
            self.raft.assert_invariants();
        }
    }
}

/// Three nodes, visited from the leader on.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    leader: usize,
    arena: DraftArena,
    start: Instant,
}

impl Nodes {
    pub(super) fn start() -> Result<Nodes, Failure> {
        let members: Vec<(NodeId, Incarnation)> =
            (1..=NODES as u64).map(|id| (NodeId(id), Incarnation(1))).collect();
        let nodes: Result<Vec<Node>, Failure> =
            members.iter().map(|(id, _)| Node::start(*id, &members)).collect();
        let mut cluster =
            Nodes { nodes: nodes?, leader: 0, arena: DraftArena::default(), start: Instant::now() };
        for _ in 0..ELECTION_PASSES_MAX {
            cluster.pass(&[], &mut Vec::new())?;
            if let Some(leader) = cluster.nodes.iter().position(|node| node.raft.role() == Role::Leader) {
                cluster.leader = leader;
                return Ok(cluster);
            }
        }
        Err(Failure::server("raft", "no leader"))
    }

    fn context(&self) -> Context {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).expect("a run is shorter than 500 years");
        Context { now_ns, wall_ms: now_ns / 1_000_000 }
    }

    fn hand_on(&mut self, at: usize, committed: &mut Vec<u32>) -> Result<(), Failure> {
        let effects = &mut self.nodes[at].effects;
        if effects.refused {
            return Err(Failure::server("raft", "refused a proposal"));
        }
        let clients = effects.delivered.drain(..).map(|id| u32::try_from(id.0).expect("few clients"));
        committed.extend(clients);
        let from = NodeId(at as u64 + 1);
        let mut sent = std::mem::take(&mut effects.sent);
        for (to, message) in sent.drain(..) {
            let to = usize::try_from(to.0 - 1).expect("few nodes");
            self.nodes[to].inbox.push((from, message));
        }
        self.nodes[at].effects.sent = sent;
        Ok(())
    }
}

impl Cluster for Nodes {
    fn pass(&mut self, proposals: &[u32], committed: &mut Vec<u32>) -> Result<(), Failure> {
        let context = self.context();
        for turn in 0..NODES {
            let at = (self.leader + turn) % NODES;
            let node = &mut self.nodes[at];
            let before = node.effects.appended;
            while let Some(timer) = node.effects.due(context.now_ns) {
                node.handle(Input::Timer(timer), context);
            }
            if let Some(meta) = node.effects.checkpoint.take() {
                node.handle(Input::Snapshot(SnapshotInput::Checkpointed { meta }), context);
            }
            let mut inbox = std::mem::take(&mut node.inbox);
            for (from, message) in inbox.drain(..) {
                node.handle(Input::Message { from, message }, context);
            }
            node.inbox = inbox;
            if turn == 0 {
                for client in proposals {
                    let draft = self.arena.draft(COMMAND_BYTES, |out| out.put_slice(&command(*client)));
                    let request = Request::Propose { id: RequestId(u64::from(*client)), command: draft };
                    self.nodes[at].handle(Input::Request(request), context);
                }
            }
            self.nodes[at].flush(context, before);
            self.hand_on(at, committed)?;
        }
        Ok(())
    }
}
