//! What a lookup costs by each partitioner, and what a join of a large ring does.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keypact_partitioning::Member;
use keypact_partitioning::hash::SlotTable;
use keypact_partitioning::range::{KeyOrder, RangeMap};
use keypact_partitioning::ring::{Point, Ring, RingConfig, RingTable};
use keypact_protocol::NodeId;
use std::hint::black_box;

/// How many keys are looked up in turn: more than fit the nearest cache.
const KEYS: usize = 4_096;

fn keys() -> Vec<Vec<u8>> {
    (0..KEYS).map(|number| format!("user:{}", number * 7_919 % 1_000_003).into_bytes()).collect()
}

fn lookups(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("partitioning/lookup");
    group.throughput(Throughput::Elements(1));

    let mut next = 0;
    let mut key = move || {
        next = (next + 1) % KEYS;
        next
    };
    let points: Vec<_> =
        (1..1_000u64).map(|at| KeyOrder::Integer.split_point((at * 1_000).to_string().as_bytes())).collect();
    let replicas = (0..1_000).map(|at| vec![NodeId(at % 10 + 1)]).collect();
    let range = RangeMap::new(KeyOrder::Integer, &points, replicas).expect("split points rise");
    group.bench_function("range, 1000 slices", |bench| {
        bench.iter(|| black_box(range.find(black_box(&keys[key()])).owner()));
    });

    let nodes: Vec<NodeId> = (1..=1_000).map(NodeId).collect();
    let slots = SlotTable::even(&nodes).expect("fewer nodes than slots");
    group.bench_function("hash, 1000 nodes", |bench| {
        bench.iter(|| black_box(slots.find(black_box(&keys[key()])).owner()));
    });

    let members: Vec<Member> = (1..=1_000).map(|id| Member::alone(NodeId(id))).collect();
    let ring = Ring::of(RingConfig::default(), &members).expect("members are different");
    let table = RingTable::new(&ring).expect("members are there");
    group.bench_function("ring, 1000 nodes x 128", |bench| {
        bench.iter(|| black_box(table.owner(Point::of(black_box(&keys[key()])))));
    });
    group.finish();
}

fn joins(criterion: &mut Criterion) {
    let members: Vec<Member> = (1..=100).map(|id| Member::alone(NodeId(id))).collect();
    let ring = Ring::of(RingConfig::default(), &members).expect("members are different");
    criterion.bench_function("partitioning/join, 100 nodes x 128", |bench| {
        bench.iter(|| {
            let mut ring = ring.clone();
            ring.join(Member::alone(NodeId(101))).expect("it is not there yet");
            black_box(ring.len())
        });
    });
}

criterion_group!(benches, lookups, joins);
criterion_main!(benches);
