//! What it costs the node's thread to gather a record, with the payload's checksum known and not.
//!
//! `cargo run --release -p keypact-storage --example append`
//!
//! Nanoseconds per record, the median of rounds that alternate; figures of one run compare with each other only.

use std::hint::black_box;
use std::time::Instant;

use keypact_protocol::{GroupId, Lsn};
use keypact_storage::{Appender, checksum};

const ROUNDS: usize = 31;
const RECORDS: usize = 4_096;
const HEAD: [u8; 13] = [1; 13];

fn main() {
    println!("{:>13} {:>9} {:>9} {:>7}", "payload bytes", "unknown", "known", "saved");
    for bytes in [64, 128, 1_024, 16_384] {
        let payload = vec![7; bytes];
        let known = checksum(&payload);
        let mut nanoseconds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            nanoseconds[0].push(round(|appender| appender.push(GroupId(2), &[&HEAD, &payload])));
            nanoseconds[1].push(round(|appender| {
                appender.push_with_checksum(GroupId(2), &HEAD, &payload, black_box(known))
            }));
        }
        let [unknown, known] = nanoseconds.map(|mut all| {
            all.sort_unstable_by(f64::total_cmp);
            all[ROUNDS / 2]
        });
        println!("{bytes:>13} {unknown:>6.1} ns {known:>6.1} ns {:>4.1} ns", unknown - known);
    }
}

fn round(push: impl Fn(&mut Appender) -> Lsn) -> f64 {
    let mut appender = Appender::new(Lsn(1), 1 << 20);
    let mut spent = std::time::Duration::ZERO;
    for _ in 0..RECORDS / 64 {
        let began = Instant::now();
        for _ in 0..64 {
            black_box(push(&mut appender));
        }
        spent += began.elapsed();
        let batch = appender.take();
        appender.recycle(batch);
    }
    spent.as_nanos() as f64 / RECORDS as f64
}
