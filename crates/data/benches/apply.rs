//! Time per command in one partition of 100,000 and 1,000,000 keys, 16-byte keys and 64-byte values, in random order; and
//! of taking and loading a snapshot. `cargo bench -p keypact-data`

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keypact_data::{Command, Loader, MAX_CHUNK_BYTES, Partition};
use keypact_resp::Arguments;

const SIZES: [u64; 2] = [100_000, 1_000_000];
const STAMP_MS: u64 = 1_700_000_000_000;

fn encoded(parts: &[&[u8]]) -> Bytes {
    let mut bytes = BytesMut::new();
    Command::parse(Arguments::from_parts(parts)).expect("a command").encode(&mut bytes);
    bytes.freeze()
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn filled(keys: u64) -> Partition {
    let mut partition = Partition::new([5; 16]);
    for number in 0..keys {
        let set =
            Command::decode(encoded(&[b"SET", key(number).as_bytes(), &[b'v'; 64]])).expect("a command");
        partition.apply(number + 1, STAMP_MS, 0, &set);
    }
    partition
}

/// Random keys, the same in each run, as entries.
fn entries(keys: u64, parts: impl Fn(&str) -> Bytes) -> Vec<Bytes> {
    let mut state = 1u64;
    let draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % keys
    };
    std::iter::repeat_with(draw).take(1 << 16).map(|number| parts(&key(number))).collect()
}

fn apply(criterion: &mut Criterion) {
    for keys in SIZES {
        let mut partition = filled(keys);
        let mut group = criterion.benchmark_group("apply");
        let stories: [(&str, Vec<Bytes>); 4] = [
            ("set", entries(keys, |key| encoded(&[b"SET", key.as_bytes(), &[b'w'; 64]]))),
            (
                "set-px",
                entries(keys, |key| encoded(&[b"SET", key.as_bytes(), &[b'w'; 64], b"PX", b"1000000"])),
            ),
            ("get", entries(keys, |key| encoded(&[b"GET", key.as_bytes()]))),
            ("incr", entries(keys, |key| encoded(&[b"INCR", format!("n{key}").as_bytes()]))),
        ];
        for (name, entries) in stories {
            let mut next = entries.iter().cycle();
            group.bench_function(BenchmarkId::new(name, keys), |bencher| {
                bencher.iter(|| {
                    let command = Command::decode(next.next().expect("a cycle").clone()).expect("a command");
                    if command.spec().is_write() {
                        let index = partition.applied_index() + 1;
                        black_box(partition.apply(index, STAMP_MS, 0, &command))
                    } else {
                        black_box(partition.read(STAMP_MS, &command))
                    }
                });
            });
        }
        group.finish();
    }
}

fn new_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new-keys");
    let sets: Vec<Command> = (0..100_000)
        .map(|number| {
            Command::decode(encoded(&[b"SET", key(number).as_bytes(), &[b'v'; 64]])).expect("a command")
        })
        .collect();
    group.throughput(Throughput::Elements(100_000)).sample_size(20);
    group.bench_function("set", |bencher| {
        bencher.iter_batched_ref(
            || Partition::new([5; 16]),
            |partition| {
                for (set, index) in sets.iter().zip(1..) {
                    black_box(partition.apply(index, STAMP_MS, 0, set));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    let mut partition = filled(1_000_000);
    let mut group = criterion.benchmark_group("snapshot");
    group.throughput(Throughput::Elements(1_000_000)).sample_size(10);
    let mut chunks = Vec::new();
    group.bench_function("take", |bencher| {
        bencher.iter(|| {
            partition.begin_snapshot();
            chunks = std::iter::from_fn(|| partition.next_chunk(MAX_CHUNK_BYTES)).collect();
        });
    });
    group.bench_function("load", |bencher| {
        bencher.iter(|| {
            let mut loader = Loader::new();
            for chunk in &chunks {
                loader.chunk(chunk.clone()).expect("a good chunk");
            }
            loader.finish().expect("a whole snapshot").len()
        });
    });
    group.finish();
}

fn parse(criterion: &mut Criterion) {
    let arguments = Arguments::from_parts(&[b"SET", b"key:000000000001", &[b'v'; 64]]);
    criterion.bench_function("parse-encode", |bencher| {
        let mut out = BytesMut::with_capacity(1 << 16);
        bencher.iter(|| {
            out.clear();
            Command::parse(black_box(arguments.clone())).expect("a command").encode(&mut out);
        });
    });
}

criterion_group!(benches, parse, apply, new_keys, snapshot);
criterion_main!(benches);
