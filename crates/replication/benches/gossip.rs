//! What the protocol itself costs, in memory, where every disk answers at once: a write; a round in which nothing is missing; a write that a
//! peer hears of and joins; a transfer of a whole state. `cargo bench -p keypact-replication --bench gossip`

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keypact_crdt::OrSet;
use keypact_protocol::{Context, Draft, GroupId, Input, NodeId, Protocol, Recover, Request, RequestId};
use keypact_replication::gossip::{Config, Gossip, Timer, View};
use keypact_simulator::CollectingSink;

type Set = OrSet<Bytes>;

type Out = CollectingSink<Gossip<Set>>;

const NOW: Context = Context { now_ns: 1_000, wall_ms: 1_000 };

struct Pair {
    replicas: Vec<(Gossip<Set>, Out)>,
    written: u64,
}

impl Pair {
    fn new(push_to: usize, recent_bytes_max: usize) -> Pair {
        let nodes = [NodeId(1), NodeId(2)];
        let replica = |id: &NodeId| {
            let config = Config::new(*id, GroupId(1), View::of_founders(&nodes));
            // No checkpoints: they are not what is measured.
            let config = Config { push_to, recent_bytes_max, checkpoint_after_bytes: usize::MAX, ..config };
            (Gossip::begin(config, None, id.0).expect("sound").finish(), Out::default())
        };
        Pair { replicas: nodes.iter().map(replica).collect(), written: 0 }
    }

    fn give(&mut self, at: usize, input: Input<Gossip<Set>>) {
        let (replica, out) = &mut self.replicas[at];
        replica.handle(input, NOW, out);
        replica.flush(NOW, out);
        // Nobody is its parent.
        out.delivered.clear();
        out.replies.clear();
    }

    /// An element of a thousand is added anew.
    fn write(&mut self) {
        self.written += 1;
        let command = Draft::copy_of(format!("+element-{}", self.written % 1_000).as_bytes());
        self.give(0, Input::Request(Request::Propose { id: RequestId(self.written), command }));
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..2 {
                for (to, message) in std::mem::take(&mut self.replicas[at].1.sent) {
                    quiet = false;
                    let from = NodeId(at as u64 + 1);
                    self.give(to.0 as usize - 1, Input::Message { from, message });
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn is_equal(&self) -> bool {
        self.replicas[0].0.version() == self.replicas[1].0.version()
    }
}

fn writes(criterion: &mut Criterion) {
    let mut alone = Pair::new(0, 1 << 20);
    criterion.bench_function("gossip/write", |bencher| bencher.iter(|| alone.write()));
    let mut pushed = Pair::new(1, 1 << 20);
    criterion.bench_function("gossip/write-pushed-and-joined", |bencher| {
        bencher.iter(|| {
            pushed.write();
            pushed.settle();
        });
    });
    assert!(pushed.is_equal(), "every write was joined");
}

fn rounds(criterion: &mut Criterion) {
    let mut pair = Pair::new(1, 1 << 20);
    for _ in 0..1_000 {
        pair.write();
        pair.settle();
    }
    criterion.bench_function("gossip/round-nothing-missing", |bencher| {
        bencher.iter(|| {
            pair.give(0, Input::Timer(Timer::Round));
            pair.settle();
        });
    });
}

fn transfers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gossip/transfer-whole-state");
    for count in [100_u64, 1_000] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            let mut pair = Pair::new(0, 0);
            (0..count).for_each(|_| pair.write());
            let source = pair.replicas.remove(0);
            let mut source = Some(source);
            bencher.iter(|| {
                let mut pair = Pair::new(0, 0);
                pair.replicas[0] = source.take().expect("it comes back");
                pair.give(1, Input::Timer(Timer::Round));
                pair.settle();
                assert!(pair.is_equal(), "the whole state came over");
                source = Some(pair.replicas.swap_remove(0));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, writes, rounds, transfers);
criterion_main!(benches);
