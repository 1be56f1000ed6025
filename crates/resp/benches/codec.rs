//! Parsing and encoding, ours beside `redis-protocol`: `cargo bench -p keypact-resp`.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use keypact_resp::{CommandParser, Limits, Value, ValueParser, Version, encode_command};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;

const PIPELINE: usize = 16;

fn pipeline(parts: &[&[u8]]) -> BytesMut {
    let mut stream = BytesMut::new();
    for _ in 0..PIPELINE {
        encode_command(parts, &mut stream);
    }
    stream
}

/// A read buffer as a connection has it: with room, and filled anew for each round.
fn parse(c: &mut Criterion, name: &str, stream: &BytesMut) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let fresh = || BytesMut::from(&stream[..]);
    group.bench_function("keypact", |b| {
        let mut parser = CommandParser::new(Limits::default());
        b.iter_batched_ref(
            fresh,
            |input| {
                while let Some(arguments) = parser.next(input).expect("valid") {
                    black_box(arguments);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("redis-protocol", |b| {
        b.iter_batched_ref(
            fresh,
            |input| {
                while let Some(frame) = decode_bytes_mut(input).expect("valid") {
                    black_box(frame);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn encode(c: &mut Criterion, name: &str, value: &Value, frame: &BytesFrame) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(PIPELINE as u64));
    group.bench_function("keypact", |b| {
        let mut out = BytesMut::with_capacity(4096);
        b.iter(|| {
            out.clear();
            for _ in 0..PIPELINE {
                black_box(value).encode(Version::Resp2, &mut out);
            }
        });
    });
    group.bench_function("redis-protocol", |b| {
        let mut out = BytesMut::with_capacity(4096);
        b.iter(|| {
            out.clear();
            for _ in 0..PIPELINE {
                extend_encode(&mut out, black_box(frame), false).expect("room");
            }
        });
    });
    group.finish();
}

fn replies(c: &mut Criterion) {
    let mut stream = BytesMut::new();
    for _ in 0..PIPELINE {
        Value::bulk(vec![b'v'; 64]).encode(Version::Resp2, &mut stream);
    }
    let mut group = c.benchmark_group("read 16 bulks of 64 bytes");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let fresh = || BytesMut::from(&stream[..]);
    group.bench_function("keypact", |b| {
        let mut parser = ValueParser::new(Limits::default());
        b.iter_batched_ref(
            fresh,
            |input| {
                while let Some(value) = parser.next(input).expect("valid") {
                    black_box(value);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("redis-protocol", |b| {
        b.iter_batched_ref(
            fresh,
            |input| {
                while let Some(frame) = decode_bytes_mut(input).expect("valid") {
                    black_box(frame);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn codec(c: &mut Criterion) {
    let value = [b'v'; 64];
    parse(c, "parse 16 SETs of 64 bytes", &pipeline(&[b"SET", b"key:000000000001", &value]));
    parse(c, "parse 16 GETs", &pipeline(&[b"GET", b"key:000000000001"]));
    encode(c, "encode 16 OKs", &Value::ok(), &BytesFrame::SimpleString(Bytes::from_static(b"OK")));
    encode(c, "encode 16 integers", &Value::Integer(123_456), &BytesFrame::Integer(123_456));
    let bulk = Bytes::copy_from_slice(&value);
    encode(c, "encode 16 bulks of 64 bytes", &Value::Bulk(bulk.clone()), &BytesFrame::BulkString(bulk));
    replies(c);
}

criterion_group!(benches, codec);
criterion_main!(benches);
