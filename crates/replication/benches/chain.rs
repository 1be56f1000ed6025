//! What the protocol itself costs: a command through a whole chain of 1, 3 and 5 members in memory, where every disk answers at once; a
//! clean read and a dirty one; a change of the layout. `cargo bench -p keypact-replication`

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keypact_protocol::{
    Context, Draft, GroupId, Input, NodeId, Protocol, ReadLevel, Recover, Request, RequestId, SnapshotInput,
};
use keypact_replication::chain::{Body, CATALOG, Chain, Config, Layout, Message};
use keypact_simulator::CollectingSink;

const GROUP: GroupId = GroupId(1);
const BATCH: u64 = 64;

type Out = CollectingSink<Chain>;

fn key_of(command: &[u8], mark: &mut dyn FnMut(u64)) {
    mark(u64::from(command[0]));
}

/// A whole chain, delivering until it is quiet; disks and parents answer at once.
struct Row {
    members: Vec<(Chain, Out)>,
    in_flight: VecDeque<(NodeId, NodeId, Message)>,
    layout: Layout,
    /// By the head.
    delivered: u64,
}

const NOW: Context = Context { now_ns: 1_000, wall_ms: 1_000 };

impl Row {
    fn new(count: u64) -> Row {
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let member = |id: &NodeId| {
            let mut config = Config::new(*id, GROUP, nodes.clone());
            config.keys_of = key_of;
            config.checkpoint_after_bytes = 1 << 20;
            (Chain::begin(config, None, id.0).expect("nothing to read").finish(), Out::default())
        };
        let members = nodes.iter().map(member).collect();
        let layout = Layout::new(&nodes);
        let mut row = Row { members, in_flight: VecDeque::new(), layout, delivered: 0 };
        for at in 0..row.members.len() {
            row.give(at, Input::Start);
        }
        row.settle();
        assert_eq!(row.layout.serving().count() as u64, count, "all serve");
        for at in 0..row.members.len() {
            let life = row.members[at].0.life();
            let body = Body::Grant { life, sent_ns: 0, lease_ns: 1 << 60 };
            let message = Message { group: GROUP, epoch: row.layout.epoch, body };
            row.give(at, Input::Message { from: CATALOG, message });
        }
        row
    }

    /// One batch; then the disk has everything.
    fn give(&mut self, at: usize, input: Input<Chain>) {
        let (chain, out) = &mut self.members[at];
        chain.handle(input, NOW, out);
        chain.flush(NOW, out);
        self.after(at);
    }

    fn after(&mut self, at: usize) {
        let (chain, out) = &mut self.members[at];
        chain.handle(Input::Durable(out.lsn), NOW, out);
        for meta in std::mem::take(&mut out.checkpoints) {
            chain.handle(Input::Snapshot(SnapshotInput::Checkpointed { meta }), NOW, out);
        }
        chain.flush(NOW, out);
        let delivered = out.delivered.drain(..).count() as u64;
        self.delivered += if at == 0 { delivered } else { 0 };
        out.replies.clear();
        let from = NodeId(at as u64 + 1);
        self.in_flight.extend(out.sent.drain(..).map(|(to, message)| (from, to, message)));
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.in_flight.pop_front() {
            if to != CATALOG {
                self.give(to.0 as usize - 1, Input::Message { from, message });
                continue;
            }
            let changed = match message.body {
                Body::Renew { life, .. } => self.layout.heard(from, life),
                Body::Synced { node, life } => self.layout.synced(from, message.epoch, node, life),
                _ => false,
            };
            if changed {
                let body = Body::Assign { members: self.layout.members.clone() };
                let assign = Message { group: GROUP, epoch: self.layout.epoch, body };
                let to = (1..=self.members.len() as u64).map(NodeId);
                self.in_flight.extend(to.map(|to| (CATALOG, to, assign.clone())));
            }
        }
    }

    fn write(&mut self) {
        let (chain, out) = &mut self.members[0];
        for id in 0..BATCH {
            let command = Draft::copy_of(&[7; 64]);
            chain.handle(Input::Request(Request::Propose { id: RequestId(id), command }), NOW, out);
        }
        chain.flush(NOW, out);
        self.after(0);
        self.settle();
    }
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain-write");
    group.throughput(Throughput::Elements(BATCH));
    for count in [1, 3, 5] {
        let mut row = Row::new(count);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| bencher.iter(|| row.write()));
        assert!(row.delivered > 0, "commands went through");
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut row = Row::new(3);
    row.write();
    let read =
        |key| Input::Request(Request::ReadKey { id: RequestId(1), level: ReadLevel::Linearizable, key });
    criterion.bench_function("chain-read/clean", |bencher| bencher.iter(|| row.give(1, read(7))));
    // An entry of key 7 reaches the middle, and no further.
    let command = Draft::copy_of(&[7; 64]);
    row.give(0, Input::Request(Request::Propose { id: RequestId(1), command }));
    let (from, to, message) = row.in_flight.pop_front().expect("it is passed on");
    row.in_flight.clear();
    row.give(to.0 as usize - 1, Input::Message { from, message });
    row.in_flight.clear();
    criterion.bench_function("chain-read/dirty", |bencher| {
        bencher.iter(|| {
            row.give(1, read(7));
            // The question and its answer; nothing else is under way.
            row.settle();
        });
    });
    assert!(row.members[1].0.counters().asked_reads > 0 && row.members[1].0.counters().clean_reads > 0);
}

fn layouts(criterion: &mut Criterion) {
    let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
    let mut layout = Layout::new(&nodes);
    let mut start = 0;
    criterion.bench_function("chain-layout/restart-of-five", |bencher| {
        bencher.iter(|| {
            start += 1;
            for node in &nodes {
                let life = keypact_replication::chain::Life { copy: node.0, start };
                black_box(layout.heard(*node, life));
            }
        });
    });
}

criterion_group!(benches, writes, reads, layouts);
criterion_main!(benches);
