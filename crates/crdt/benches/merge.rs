//! Merging, mutating and encoding sets, beside crate `crdts` where it has the like: `cargo bench -p keypact-crdt`.

use std::hint::black_box;

use crdts::{CmRDT, CvRDT};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use keypact_crdt::{Delta, Lattice, OrSet};
use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::Wire;

const ELEMENTS: u64 = 10_000;

/// Two replicas that share half of their elements, have each removed a tenth, and have each added as many of their own.
fn ours() -> (OrSet<u64>, OrSet<u64>) {
    let (a, b) = (ReplicaId(1), ReplicaId(2));
    let mut left = OrSet::default();
    for element in 0..ELEMENTS / 2 {
        left.add(element, a);
    }
    let mut right = left.clone();
    for element in 0..ELEMENTS / 2 {
        left.add(ELEMENTS + element, a);
        right.add(2 * ELEMENTS + element, b);
    }
    for element in (0..ELEMENTS / 2).step_by(10) {
        left.remove(&element, a);
        right.remove(&(element + 1), b);
    }
    (left, right)
}

fn theirs() -> (crdts::Orswot<u64, u64>, crdts::Orswot<u64, u64>) {
    type Set = crdts::Orswot<u64, u64>;
    let add = |set: &mut Set, element, actor| {
        let context = set.read_ctx().derive_add_ctx(actor);
        set.apply(set.add(element, context));
    };
    let remove = |set: &mut Set, element| {
        let context = set.contains(&element).derive_rm_ctx();
        set.apply(set.rm(element, context));
    };
    let mut left = Set::new();
    for element in 0..ELEMENTS / 2 {
        add(&mut left, element, 1);
    }
    let mut right = left.clone();
    for element in 0..ELEMENTS / 2 {
        add(&mut left, ELEMENTS + element, 1);
        add(&mut right, 2 * ELEMENTS + element, 2);
    }
    for element in (0..ELEMENTS / 2).step_by(10) {
        remove(&mut left, element);
        remove(&mut right, element + 1);
    }
    (left, right)
}

fn merges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("or-set 10,000 + 10,000");
    let (left, right) = ours();
    let (other_left, other_right) = theirs();
    let (mut merged, mut other_merged) = (left.clone(), other_left.clone());
    merged.merge(right.clone());
    other_merged.merge(other_right.clone());
    assert_eq!(merged.len(), other_merged.read().val.len(), "both say the same");
    group.bench_function("keypact", |bencher| {
        let pair = || (left.clone(), right.clone());
        bencher.iter_batched(
            pair,
            |(mut left, right)| {
                left.merge(right);
                left
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("crdts", |bencher| {
        let pair = || (other_left.clone(), other_right.clone());
        bencher.iter_batched(
            pair,
            |(mut left, right)| {
                left.merge(right);
                left
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn deltas(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("or-set of 10,000");
    let (left, _) = ours();
    let mut other = left.clone();
    let delta = other.add(77, ReplicaId(3));
    let mut bytes = Vec::new();
    left.encode(&mut bytes);
    println!("a delta of one add: {} bytes; the state: {} bytes", delta.encoded_len(), bytes.len());
    group.bench_function("add and remove", |bencher| {
        let mut set = left.clone();
        bencher.iter(|| {
            black_box(set.add(1_234_567, ReplicaId(1)));
            black_box(set.remove(&1_234_567, ReplicaId(1)))
        });
    });
    group.bench_function("apply a delta", |bencher| {
        let mut set = left.clone();
        bencher.iter(|| set.apply(black_box(delta.clone())));
    });
    group.bench_function("delta since nothing", |bencher| {
        bencher.iter(|| left.delta_since(&DotContext::new()))
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            left.encode(&mut bytes);
        });
    });
    let encoded = bytes::Bytes::from(bytes.clone());
    group.bench_function("decode", |bencher| bencher.iter(|| OrSet::<u64>::decode(encoded.clone())));
    group.finish();
}

criterion_group!(benches, merges, deltas);
criterion_main!(benches);
