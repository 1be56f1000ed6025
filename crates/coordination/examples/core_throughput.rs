//! How fast the core orders commands in process: three members on one thread, a network and disks that take no time, closed-loop clients.
//!
//! ```sh
//! cargo run --release -p keypact-coordination --example core_throughput [seconds]
//! ```
//! Prints proposals per second for 64 and 4,096 clients, each with one 64-byte command under way.

use std::error::Error;
use std::time::Instant;

use bytes::{BufMut, Bytes};
use keypact_coordination::raft::{Config, Message, Raft, Record, Role, Timer};
use keypact_protocol::{
    Context, Delivery, DraftArena, Gate, Incarnation, Input, Lsn, NodeId, Outlet, Protocol, Recover, Reply,
    Request, RequestId, SnapshotChunk, SnapshotInput, SnapshotRead,
};

const COMMAND_BYTES: usize = 64;

#[derive(Default)]
struct Effects {
    lsn: u64,
    log_bytes: u64,
    sent: Vec<(NodeId, Message)>,
    answered: Vec<RequestId>,
    delivered: u64,
    checkpoint: Option<Bytes>,
    timer: Option<(Timer, u64)>,
}

impl Outlet<Raft> for Effects {
    fn append(&mut self, record: Record) -> Lsn {
        if let Record::Entry(entry) = &record {
            self.log_bytes += entry.len_bytes() as u64;
        }
        self.lsn += 1;
        Lsn(self.lsn)
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn reply(&mut self, reply: Reply) {
        panic!("nothing is refused here: {reply:?}");
    }
    fn deliver(&mut self, delivery: Delivery) {
        self.delivered += 1;
        self.answered.extend(delivery.request);
    }
    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        self.timer = Some((timer, at_ns));
    }
    fn cancel_timer(&mut self, _: Timer) {}
    fn checkpoint(&mut self, meta: Bytes) {
        self.checkpoint = Some(meta);
    }
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

struct Node {
    raft: Raft,
    gate: Gate<Raft>,
    effects: Effects,
    durable: u64,
}

impl Node {
    /// One batch, then all that it wrote becomes durable, and the batch that follows from that.
    fn batch(&mut self, inputs: &mut Vec<Input<Raft>>, context: Context) {
        self.handle(inputs, context);
        while self.effects.lsn > self.durable || self.effects.checkpoint.is_some() {
            if let Some(meta) = self.effects.checkpoint.take() {
                inputs.push(Input::Snapshot(SnapshotInput::Checkpointed { meta }));
            }
            self.durable = self.effects.lsn;
            self.gate.release(Lsn(self.durable), &mut self.effects);
            inputs.push(Input::Durable(Lsn(self.durable)));
            self.handle(inputs, context);
        }
    }

    fn handle(&mut self, inputs: &mut Vec<Input<Raft>>, context: Context) {
        let mut sink = self.gate.sink(&mut self.effects);
        for input in inputs.drain(..) {
            self.raft.handle(input, context, &mut sink);
        }
        self.raft.flush(context, &mut sink);
        self.raft.assert_invariants();
    }
}

struct Cluster {
    nodes: Vec<Node>,
    inboxes: Vec<Vec<Input<Raft>>>,
    start: Instant,
}

impl Cluster {
    fn new() -> Result<Cluster, Box<dyn Error>> {
        let members: Vec<(NodeId, Incarnation)> = (1..=3).map(|id| (NodeId(id), Incarnation(1))).collect();
        let mut nodes = Vec::new();
        for id in 1..=3 {
            let config = Config::new(NodeId(id), members.clone());
            let raft = Raft::begin(config, None, id)?.finish();
            nodes.push(Node { raft, gate: Gate::new(Lsn::ZERO), effects: Effects::default(), durable: 0 });
        }
        let inboxes = vec![vec![Input::Start], vec![Input::Start], vec![Input::Start]];
        Ok(Cluster { nodes, inboxes, start: Instant::now() })
    }

    /// Lets every member handle what came for it, and carries what they say.
    fn round(&mut self) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).expect("less than 500 years");
        let context = Context { now_ns, wall_ms: 1_700_000_000_000 + now_ns / 1_000_000 };
        for at in 0..self.nodes.len() {
            let inbox = &mut self.inboxes[at];
            if let Some((timer, _)) = self.nodes[at].effects.timer.take_if(|(_, at_ns)| *at_ns <= now_ns) {
                inbox.push(Input::Timer(timer));
            }
            if inbox.is_empty() {
                continue;
            }
            self.nodes[at].batch(inbox, context);
            for (to, message) in self.nodes[at].effects.sent.drain(..) {
                let to = usize::try_from(to.0 - 1).expect("three members");
                self.inboxes[to].push(Input::Message { from: NodeId(at as u64 + 1), message });
            }
        }
    }

    fn elect(&mut self) -> usize {
        loop {
            self.round();
            let leads = |node: &Node| node.raft.role() == Role::Leader && node.raft.commit_index() > 0;
            if let Some(leader) = self.nodes.iter().position(leads) {
                return leader;
            }
        }
    }
}

fn run(clients: u64, seconds: f64) -> Result<f64, Box<dyn Error>> {
    let mut cluster = Cluster::new()?;
    let leader = cluster.elect();
    let mut arena = DraftArena::default();
    let mut idle: Vec<RequestId> = (0..clients).map(RequestId).collect();
    let command = [0x5a_u8; COMMAND_BYTES];
    let mut done = 0_u64;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        for id in idle.drain(..) {
            let command = arena.draft(COMMAND_BYTES, |buffer| buffer.put_slice(&command));
            cluster.inboxes[leader].push(Input::Request(Request::Propose { id, command }));
        }
        cluster.round();
        let answered = &mut cluster.nodes[leader].effects.answered;
        done += answered.len() as u64;
        idle.append(answered);
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    let followers = cluster.nodes.iter().map(|node| node.effects.delivered).min().unwrap_or(0);
    assert!(followers + 4 * clients >= done, "the followers keep up");
    Ok(rate)
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(3.0), |text| text.parse())?;
    for clients in [64, 4_096] {
        println!("{clients:>5} clients: {:>9.0} proposals/s", run(clients, seconds)?);
    }
    Ok(())
}
