//! Replicas stay equal: random entries, snapshots at random points while writes go on, and a replica restored from each.

use bytes::{Bytes, BytesMut};
use keypact_data::{Command, Loader, Partition, Place, table};
use keypact_resp::{Arguments, Value};
use proptest::prelude::*;

const START_MS: u64 = 1_700_000_000_000;

/// Every write, and how deadlines and numbers get into it. K is a key, V a value, N a small number.
const WRITES: &[&str] = &[
    "SET K V",
    "SET K V PX N",
    "SET K V NX",
    "SET K V XX GET",
    "SET K V KEEPTTL",
    "SET K N",
    "SET K V PXAT N",
    "MSET K V K V K V",
    "MSETNX K V K V",
    "APPEND K V",
    "SETRANGE K N V",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K N",
    "GETDEL K",
    "GETEX K PX N",
    "GETEX K PERSIST",
    "GETSET K V",
    "SETNX K V",
    "SETEX K N V",
    "PSETEX K N V",
    "DEL K K",
    "UNLINK K",
    "EXPIRE K N",
    "PEXPIRE K N",
    "PEXPIRE K N GT",
    "PEXPIRE K N XX LT",
    "PEXPIREAT K N",
    "PERSIST K",
    "GET K",
    "MGET K K",
    "PTTL K",
    "PEXPIRETIME K",
    "STRLEN K",
    "DBSIZE",
    "SCAN 0 COUNT N",
    "KEYS *",
];

/// What commands look for, and numbers at the edges.
const WORDS: &[&[u8]] = &[
    b"a",
    b"b",
    b"10",
    b"-1",
    b"EX",
    b"PX",
    b"PXAT",
    b"NX",
    b"GT",
    b"GET",
    b"MATCH",
    b"COUNT",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e4932",
    b"",
    b"0",
];

#[derive(Clone, Debug)]
struct Step {
    write: usize,
    words: [u16; 4],
    time_ms: u64,
    chunk: bool,
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    // FLUSHALL would leave little to test if it were as frequent as the others.
    let write = prop_oneof![300 => 0..WRITES.len(), 1 => Just(usize::MAX)];
    let step = (write, any::<[u16; 4]>(), prop_oneof![4 => Just(0), 1 => 0..30u64], any::<bool>());
    prop::collection::vec(step, 1..count).prop_map(|steps| {
        steps
            .into_iter()
            .map(|(write, words, time_ms, chunk)| Step { write, words, time_ms, chunk })
            .collect()
    })
}

/// The step's command, through its bytes.
fn command(step: &Step) -> Command {
    let Some(template) = WRITES.get(step.write) else {
        return Command::parse(Arguments::from_parts(&[b"FLUSHALL"])).expect("a command");
    };
    let mut words = step.words.iter().cycle();
    let parts: Vec<Vec<u8>> = template
        .split(' ')
        .map(|part| match part {
            "K" => format!("key:{}", words.next().expect("a cycle") % 60).into_bytes(),
            // One in eight is longer than what is copied.
            "V" => {
                let word = *words.next().expect("a cycle");
                vec![
                    b'a' + (word % 26) as u8;
                    if word.is_multiple_of(8) { 1_500 } else { usize::from(word % 40) }
                ]
            }
            "N" => (words.next().expect("a cycle") % 100).to_string().into_bytes(),
            other => other.as_bytes().to_vec(),
        })
        .collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let mut bytes = BytesMut::new();
    Command::parse(Arguments::from_parts(&parts)).expect("a command").encode(&mut bytes);
    Command::decode(bytes.freeze()).expect("what was encoded")
}

fn same(a: &Partition, b: &Partition) {
    assert_eq!(a.state_hash(), b.state_hash());
    assert_eq!(
        (a.len(), a.memory_bytes(), a.next_deadline_ms()),
        (b.len(), b.memory_bytes(), b.next_deadline_ms())
    );
    assert_eq!((a.applied_index(), a.applied_stamp_ms()), (b.applied_index(), b.applied_stamp_ms()));
}

/// A snapshot under way: what it must give, and its chunks so far.
struct Taking {
    hash: u64,
    index: u64,
    chunks: Vec<Bytes>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// One replica takes snapshots all the time, small chunk by small chunk; another none; a third is restored from each
    /// snapshot and fed what came after it.
    #[test]
    fn replicas_stay_equal(steps in steps(600)) {
        let mut busy = Partition::new([9; 16]);
        let mut quiet = Partition::new([9; 16]);
        let mut entries: Vec<(u64, Command)> = Vec::new();
        let mut taking: Option<Taking> = None;
        let mut stamp_ms = START_MS;
        for (step, index) in steps.iter().zip(1..) {
            stamp_ms += step.time_ms;
            let command = command(step);
            let reply = busy.apply(index, stamp_ms, 0, &command);
            prop_assert_eq!(&reply, &quiet.apply(index, stamp_ms, 0, &command));
            entries.push((stamp_ms, command));
            if !step.chunk {
                continue;
            }
            let snapshot = taking.get_or_insert_with(|| {
                busy.begin_snapshot();
                Taking { hash: quiet.state_hash(), index, chunks: Vec::new() }
            });
            match busy.next_chunk(700) {
                Some(chunk) => snapshot.chunks.push(chunk),
                None => {
                    let Taking { hash, index, chunks } = taking.take().unwrap();
                    let mut restored = restore(&chunks);
                    prop_assert_eq!(restored.state_hash(), hash);
                    prop_assert_eq!(restored.applied_index(), index);
                    for (at, (stamp_ms, command)) in entries.iter().enumerate().skip(index as usize) {
                        restored.apply(at as u64 + 1, *stamp_ms, 0, command);
                    }
                    same(&restored, &quiet);
                }
            }
        }
        busy.assert_invariants();
        same(&busy, &quiet);
    }

    /// Nothing that a client may send, and no time, makes a partition panic; what fails changes nothing.
    #[test]
    fn no_command_panics(
        row in 0..table::TABLE.len(),
        more in prop::collection::vec(prop_oneof![
            prop::sample::select(WORDS).prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..12),
        ], 0..7),
        stamp_ms in prop_oneof![Just(0), Just(START_MS), Just(u64::MAX), any::<u64>()],
    ) {
        let spec = &table::TABLE[row];
        let mut parts: Vec<&[u8]> = vec![spec.name.as_bytes()];
        parts.extend(more.iter().map(Vec::as_slice));
        let Ok(command) = Command::parse(Arguments::from_parts(&parts)) else { return Ok(()) };
        prop_assume!(command.spec().place() == Place::Partition);
        let mut partition = Partition::new([0; 16]);
        for line in [[&b"SET"[..], b"a", b"12"], [b"SET", b"b", b"text"]] {
            let set = Command::parse(Arguments::from_parts(&line)).unwrap();
            partition.apply(partition.applied_index() + 1, 0, 0, &set);
        }
        let before = partition.state_hash();
        partition.read_meets_deadline(&command, stamp_ms);
        let reply = partition.apply(3, stamp_ms, 0, &command);
        partition.assert_invariants();
        if matches!(reply, Value::Error(_)) {
            prop_assert_eq!(partition.state_hash(), before);
        }
    }

    #[test]
    fn no_chunk_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut loader = Loader::new();
        prop_assert!(loader.chunk(bytes.into()).is_err());
        prop_assert!(loader.finish().is_err());
    }
}

fn restore(chunks: &[Bytes]) -> Partition {
    let mut loader = Loader::new();
    for chunk in chunks {
        loader.chunk(chunk.clone()).expect("a good chunk");
    }
    let partition = loader.finish().expect("a whole snapshot");
    partition.assert_invariants();
    partition
}
