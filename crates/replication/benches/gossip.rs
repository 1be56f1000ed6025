//! What the protocol itself costs, in memory, where every disk answers at once: a write; a round in which nothing is missing; a write that a
//! peer hears of and joins; a transfer of a whole state. `cargo bench -p keypact-replication --bench gossip`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keypact_crdt::OrSet;
use keypact_protocol::{
    Context, Delivery, Draft, GroupId, Input, Lsn, NodeId, Protocol, Recover, Reply, Request, RequestId,
    Sink, SnapshotChunk, SnapshotRead,
};
use keypact_replication::gossip::{Config, Gossip, Message, Record, Timer, View};

type Set = OrSet<Bytes>;

/// Takes what a replica says; its disk and its parent answer at once.
#[derive(Default)]
struct Out {
    lsn: Lsn,
    sent: Vec<(NodeId, Message)>,
    delivered: u64,
}

impl Sink<Gossip<Set>> for Out {
    fn append(&mut self, record: Record) -> Lsn {
        black_box(record);
        self.lsn = self.lsn.next();
        self.lsn
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn send_early(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn reply(&mut self, _: Reply) {}
    fn reply_early(&mut self, _: Reply) {}
    fn deliver(&mut self, _: Delivery) {
        self.delivered += 1;
    }
    fn deliver_early(&mut self, _: Delivery) {
        self.delivered += 1;
    }
    fn set_timer(&mut self, _: Timer, _: u64) {}
    fn cancel_timer(&mut self, _: Timer) {}
    fn checkpoint(&mut self, _: Bytes) {}
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

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
