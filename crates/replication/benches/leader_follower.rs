//! What the protocol itself costs, in memory, where every disk answers at once: commands through a group of 1, 3 and 5 with no, one and all
//! acknowledgements; reads at the leader, at a follower, and by token; a change of leaders; how a loss is told from a last place.
//! `cargo bench -p keypact-replication --bench leader_follower`

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keypact_log::Position;
use keypact_protocol::{
    Context, Draft, Input, NodeId, Protocol, ReadLevel, Recover, Request, RequestId, SnapshotInput,
};
use keypact_replication::leader_follower::{
    Body, CATALOG, Choice, Config, LeaderFollower, Message, Succession, SuccessionConfig,
};
use keypact_simulator::CollectingSink;

const BATCH: u64 = 64;
const NOW: Context = Context { now_ns: 1_000, wall_ms: 1_000 };

type Out = CollectingSink<LeaderFollower>;

/// A whole group, delivering until it is quiet; disks and parents answer at once.
struct Group {
    members: Vec<(LeaderFollower, Out)>,
    in_flight: VecDeque<(NodeId, NodeId, Message)>,
    /// By member.
    delivered: Vec<u64>,
    replies: Vec<u64>,
}

impl Group {
    fn new(count: u64, acks: usize) -> Group {
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let member = |id: &NodeId| {
            let mut config = Config::new(*id, nodes.clone(), acks);
            config.checkpoint_after_bytes = 1 << 20;
            (LeaderFollower::begin(config, None, id.0).expect("nothing to read").finish(), Out::default())
        };
        let members = nodes.iter().map(member).collect();
        let [delivered, replies] = [vec![0; nodes.len()], vec![0; nodes.len()]];
        let mut group = Group { members, in_flight: VecDeque::new(), delivered, replies };
        for at in 0..group.members.len() {
            group.give(at, Input::Start);
        }
        let body = Body::Grant { sent_ns: 0, lease_ns: 1 << 60, allowed: 1 << 60 };
        group.give(0, Input::Message { from: CATALOG, message: Message { epoch: 1, body } });
        group.settle();
        group
    }

    /// One batch; then the disk has everything.
    fn give(&mut self, at: usize, input: Input<LeaderFollower>) {
        let (member, out) = &mut self.members[at];
        member.handle(input, NOW, out);
        member.flush(NOW, out);
        self.after(at);
    }

    fn after(&mut self, at: usize) {
        let (member, out) = &mut self.members[at];
        member.handle(Input::Durable(out.lsn), NOW, out);
        for meta in std::mem::take(&mut out.checkpoints) {
            member.handle(Input::Snapshot(SnapshotInput::Checkpointed { meta }), NOW, out);
        }
        member.flush(NOW, out);
        self.delivered[at] += out.delivered.drain(..).count() as u64;
        self.replies[at] += out.replies.drain(..).count() as u64;
        let from = NodeId(at as u64 + 1);
        self.in_flight.extend(out.sent.drain(..).map(|(to, message)| (from, to, message)));
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.in_flight.pop_front() {
            if to != CATALOG {
                self.give(to.0 as usize - 1, Input::Message { from, message });
            }
        }
    }

    fn write(&mut self) {
        let (member, out) = &mut self.members[0];
        for id in 0..BATCH {
            let command = Draft::copy_of(&[7; 64]);
            member.handle(Input::Request(Request::Propose { id: RequestId(id), command }), NOW, out);
        }
        member.flush(NOW, out);
        self.after(0);
        self.settle();
    }
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("leader-follower-write");
    group.throughput(Throughput::Elements(BATCH));
    for (count, acks) in [(1, 0), (3, 0), (3, 1), (3, 2), (5, 1), (5, 4)] {
        let mut row = Group::new(count, acks);
        let id = BenchmarkId::from_parameter(format!("{count}-members-{acks}-acks"));
        group.bench_function(id, |bencher| bencher.iter(|| row.write()));
        assert!(row.delivered[0] > BATCH, "commands went through");
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut row = Group::new(3, 1);
    row.write();
    row.write();
    let levels = [
        ("leader", 0, ReadLevel::Linearizable),
        ("follower-stale", 1, ReadLevel::Stale),
        ("follower-token", 1, ReadLevel::Session { epoch: 1, index: 60 }),
    ];
    for (name, at, level) in levels {
        let before = row.replies[at];
        criterion.bench_function(&format!("leader-follower-read/{name}"), |bencher| {
            bencher.iter(|| row.give(at, Input::Request(Request::Read { id: RequestId(1), level })));
        });
        assert!(row.replies[at] > before, "it was answered");
    }
}

fn successions(criterion: &mut Criterion) {
    let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
    let mut group = Succession::new(SuccessionConfig::new(nodes.clone(), 2));
    let mut last = Position { index: 1, term: 1 };
    let mut change = |group: &mut Succession| {
        let epoch = group.begin_sealing();
        for node in &nodes {
            group.sealed(*node, epoch, last, last.index);
        }
        let chosen = group.choose(Choice::Safe).expect("all are sealed");
        last = Position { index: chosen.after.index + 10, term: epoch };
        chosen
    };
    criterion.bench_function("leader-follower-succession/change-of-five", |bencher| {
        bencher.iter(|| black_box(change(&mut group)));
    });
    for _ in 0..1_100 {
        change(&mut group);
    }
    let (epoch, oldest) = (group.current().epoch, group.history()[1].epoch);
    let kept = Position { index: group.history()[2].after.index, term: oldest };
    criterion.bench_function("leader-follower-succession/loss-over-1022-epochs", |bencher| {
        bencher.iter(|| black_box(group.sealed(nodes[1], epoch, kept, 0)));
    });
    assert!(group.losses().is_empty(), "nothing was lost");
}

criterion_group!(benches, writes, reads, successions);
criterion_main!(benches);
