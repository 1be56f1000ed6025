//! One partition by itself: time, snapshots, order, bounds. Replies of single commands are in `tests/commands`.

use keypact_resp::Arguments;

use super::*;
use crate::store::listing::MAX_LISTINGS;
use crate::{LoadError, Loader, MAX_CHUNK_BYTES};

const START_MS: u64 = 1_000_000;

fn command(line: &str) -> Command {
    let parts: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    Command::parse(Arguments::from_parts(&parts)).unwrap()
}

fn write_at(partition: &mut Partition, stamp_ms: u64, line: &str) -> Value {
    let index = partition.applied_index() + 1;
    partition.apply(index, stamp_ms, 0, &command(line))
}

fn write(partition: &mut Partition, line: &str) -> Value {
    let stamp_ms = partition.applied_stamp_ms().max(START_MS);
    write_at(partition, stamp_ms, line)
}

fn read(partition: &Partition, line: &str) -> Value {
    partition.read(partition.applied_stamp_ms(), &command(line))
}

fn filled(count: usize) -> Partition {
    let mut partition = Partition::new([1; 16]);
    for key in 0..count {
        write(&mut partition, &format!("SET key:{key} value:{key}"));
    }
    partition
}

fn chunks(partition: &mut Partition, max_bytes: usize) -> Vec<Bytes> {
    core::iter::from_fn(|| partition.next_chunk(max_bytes)).collect()
}

fn load(chunks: &[Bytes]) -> Result<Partition, LoadError> {
    let mut loader = Loader::new();
    for chunk in chunks {
        loader.chunk(chunk.clone())?;
    }
    loader.finish()
}

fn loaded(chunks: &[Bytes]) -> Partition {
    let partition = load(chunks).unwrap();
    partition.assert_invariants();
    partition
}

#[test]
fn a_key_is_gone_at_its_deadline() {
    let mut partition = Partition::new([0; 16]);
    write(&mut partition, "SET a 1 PX 100");
    let deadline = START_MS + 100;
    assert_eq!(partition.next_deadline_ms(), Some(deadline));
    let get = command("GET a");
    assert_eq!(partition.read(deadline - 1, &get), Value::bulk("1"));
    assert_eq!(partition.read(deadline, &get), Value::Null);
    // A stale read takes the applied stamp, whatever the wall says.
    assert_eq!(read(&partition, "GET a"), Value::bulk("1"));
    partition.skip(2, deadline);
    assert_eq!(partition.len(), 0);
    assert_eq!(partition.next_deadline_ms(), None);
    assert_eq!(read(&partition, "GET a"), Value::Null);
}

/// Guards against a reader behind a faster clock seeing a key come back.
#[test]
fn a_strong_read_that_meets_a_deadline_asks_for_a_tick() {
    let mut partition = Partition::new([0; 16]);
    write(&mut partition, "SET a 1 PX 100");
    write(&mut partition, "SET b 1 PX 200");
    write(&mut partition, "SET c 1");
    let meets = |partition: &Partition, line: &str, wall_ms: u64| {
        partition.read_meets_deadline(&command(line), wall_ms)
    };
    for (line, before, at_a, at_b) in [
        ("GET a", false, true, true),
        ("GET b", false, false, true),
        ("GET c", false, false, false),
        ("MGET c b", false, false, true),
        ("DBSIZE", false, true, true),
        ("SCAN 0", false, true, true),
    ] {
        assert!(!meets(&partition, line, START_MS), "{line}");
        assert_eq!(meets(&partition, line, START_MS + 99), before, "{line}");
        assert_eq!(meets(&partition, line, START_MS + 100), at_a, "{line}");
        assert_eq!(meets(&partition, line, START_MS + 200), at_b, "{line}");
    }
    assert!(partition.has_deadline_at_or_before(START_MS + 100));
    assert!(!partition.has_deadline_at_or_before(START_MS + 99));
    partition.skip(4, START_MS + 100);
    assert!(!meets(&partition, "GET a", START_MS + 100));
    assert!(!meets(&partition, "GET a", START_MS));
    assert!(meets(&partition, "GET b", START_MS + 200));
}

#[test]
fn expiry_is_bounded_and_never_seen() {
    let mut partition = Partition::new([0; 16]);
    for key in 0..1_000 {
        write(&mut partition, &format!("SET key:{key} v PX 100"));
    }
    write(&mut partition, "SET stays v");
    let after = START_MS + 100;
    assert_eq!(write_at(&mut partition, after, "SET another v"), Value::ok());
    assert_eq!(partition.len(), 1_000 - EXPIRED_PER_APPLY + 2);
    assert_eq!(read(&partition, "DBSIZE"), Value::Integer(2));
    let Value::Array(keys) = read(&partition, "KEYS *") else { panic!("keys") };
    assert_eq!(keys.len(), 2);
    assert!(matches!(read(&partition, "RANDOMKEY"), Value::Bulk(_)));
    partition.skip(partition.applied_index() + 1, after);
    assert_eq!(partition.len(), 1_000 - EXPIRED_PER_APPLY - EXPIRED_PER_SKIP + 2);
    while partition.has_deadline_at_or_before(after) {
        partition.skip(partition.applied_index() + 1, after);
    }
    assert_eq!(partition.len(), 2);
    partition.assert_invariants();
}

#[test]
fn long_values_share_their_entry_and_short_ones_do_not() {
    let shares = |value: usize, line: &str| {
        let mut bytes = bytes::BytesMut::new();
        command(&line.replace('V', &"v".repeat(value))).encode(&mut bytes);
        let entry = bytes.freeze();
        let mut partition = Partition::new([0; 16]);
        partition.apply(1, START_MS, 0, &Command::decode(entry.clone()).unwrap());
        let Value::Bulk(value) = read(&partition, "GET a") else { panic!("a value") };
        entry.as_ptr_range().contains(&value.as_ptr())
    };
    assert!(!shares(1024, "SET a V"));
    assert!(shares(1025, "SET a V"));
    assert!(shares(1025, "SETNX a V"));
    // The value would keep more alive than itself.
    assert!(!shares(1025, "MSET a V b V c V"));
}

#[test]
fn scan_lists_every_key_once_whatever_is_written() {
    let mut partition = filled(5_000);
    let mut cursor = "0".to_owned();
    let mut seen = Vec::new();
    let mut round = 0;
    loop {
        let reply = read(&partition, &format!("SCAN {cursor} COUNT 7"));
        let Value::Array(parts) = reply else { panic!("two parts") };
        let Value::Array(keys) = &parts[1] else { panic!("keys") };
        assert!(keys.len() <= 8);
        seen.extend(keys.iter().map(|key| key.as_bytes().unwrap().to_vec()));
        cursor = String::from_utf8(parts[0].as_bytes().unwrap().to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
        assert!(cursor.parse::<u64>().unwrap() < 1 << crate::CURSOR_BITS);
        // Growth and removal of others in between.
        write(&mut partition, &format!("SET other:{round} v"));
        write(&mut partition, &format!("DEL other:{}", round / 2));
        round += 1;
    }
    seen.retain(|key| key.starts_with(b"key:"));
    seen.sort();
    assert_eq!(seen.len(), 5_000);
    seen.dedup();
    assert_eq!(seen.len(), 5_000);
    // A cursor of nowhere ends.
    assert_eq!(
        read(&partition, "SCAN 18446744073709551615"),
        Value::Array(vec![Value::bulk("0"), Value::Array(vec![])])
    );
}

#[test]
fn randomkey_reaches_every_key() {
    let partition = filled(50);
    let mut seen: Vec<Vec<u8>> =
        (0..2_000).map(|_| read(&partition, "RANDOMKEY").as_bytes().unwrap().to_vec()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50);
}

#[test]
fn order_comes_from_contents() {
    let forward = filled(300);
    let mut backward = Partition::new([1; 16]);
    for key in (0..600).rev() {
        write(&mut backward, &format!("SET key:{key} value:{key}"));
    }
    for key in 300..600 {
        write(&mut backward, &format!("DEL key:{key}"));
    }
    assert_eq!(read(&forward, "KEYS *"), read(&backward, "KEYS *"));
    assert_eq!(read(&forward, "SCAN 0 COUNT 20"), read(&backward, "SCAN 0 COUNT 20"));
    assert_eq!(forward.state_hash(), backward.state_hash());
    assert_eq!(forward.memory_bytes(), backward.memory_bytes());
    write(&mut backward, "SET key:1 other");
    assert_ne!(forward.state_hash(), backward.state_hash());
}

#[test]
fn a_snapshot_is_the_state_at_its_beginning() {
    let mut partition = filled(3_000);
    write(&mut partition, &format!("SET long {}", "x".repeat(600_000)));
    write(&mut partition, "SET mortal v PX 5000");
    let (hash, len) = (partition.state_hash(), partition.len());
    let meta = partition.begin_snapshot();
    assert_eq!(meta.applied_index, partition.applied_index());
    let mut pieces = vec![partition.next_chunk(10_000).unwrap()];
    let mut key = 0;
    while let Some(chunk) = partition.next_chunk(10_000) {
        assert!(chunk.len() <= 10_000);
        pieces.push(chunk);
        for line in [
            "SET key:K changed",
            "DEL key:K",
            "SET new:K v",
            "EXPIRE key:K 10",
            "SET key:K again",
            "PERSIST mortal",
            "DEL long",
        ] {
            write(&mut partition, &line.replace('K', &(key % 4_000).to_string()));
        }
        key += 17;
    }
    assert!(!partition.in_snapshot());
    assert!(pieces.len() > 60);
    let copy = loaded(&pieces);
    assert_eq!((copy.state_hash(), copy.len()), (hash, len));
    assert_eq!((copy.applied_index(), copy.applied_stamp_ms()), (meta.applied_index, START_MS));
    assert_ne!(partition.state_hash(), hash);
    partition.assert_invariants();
}

fn encoded(value: &Value) -> bytes::BytesMut {
    let mut text = bytes::BytesMut::new();
    value.encode(keypact_resp::Version::Resp2, &mut text);
    text
}

/// Guards listings in slices: each is `KEYS` of its moment, also beside a snapshot and another listing, and whatever is written.
#[test]
fn a_listing_is_the_answer_of_its_beginning() {
    let mut partition = filled(3_000);
    write(&mut partition, "SET mortal v PX 5000");
    partition.begin_snapshot();
    let mut wanted = std::collections::BTreeMap::new();
    let (mut answered, mut key) = (0, 0);
    while answered < 12 {
        if wanted.len() < MAX_LISTINGS && answered + wanted.len() < 12 {
            let keys = command(["KEYS *", "KEYS key:*7*", "KEYS new:*"][key % 3]);
            let at_ms = partition.applied_stamp_ms();
            let answer = partition.read(at_ms, &keys);
            wanted.insert(partition.begin_listing(at_ms, &keys).expect("there is room"), answer);
        }
        for line in [
            "SET key:K changed",
            "DEL key:K",
            "SET new:K v",
            "EXPIRE key:K 10",
            "SET key:K again",
            "PERSIST mortal",
        ] {
            write(&mut partition, &line.replace('K', &(key % 4_000).to_string()));
        }
        if key == 17 * 40 {
            write(&mut partition, "FLUSHALL");
            let stamp_ms = partition.applied_stamp_ms();
            write_at(&mut partition, stamp_ms + 6_000, "SET later v");
        }
        key += 17;
        if let Some((id, value)) = partition.go_on_listing(300) {
            assert_eq!(encoded(&value), encoded(&wanted.remove(&id).expect("it was begun")));
            answered += 1;
        }
    }
    assert!(!partition.is_listing());
    partition.assert_invariants();
}

#[test]
fn what_a_snapshot_replaces_is_freed_bit_by_bit() {
    let mut old = filled(1_000);
    write(&mut old, "SET mortal v PX 5000");
    let mut partition = Partition::new([2; 16]);
    write(&mut partition, "SET a 1");
    partition.replace(old);
    assert_eq!((partition.len(), read(&partition, "GET a")), (1, Value::bulk("1")));
    assert_eq!(partition.next_deadline_ms(), None);
    let mut portions = 0;
    while partition.reclaim(100) {
        portions += 1;
    }
    assert!(portions >= 10 && !partition.has_discarded());
    partition.assert_invariants();
}

#[test]
fn listings_are_few() {
    let mut partition = filled(10);
    let keys = command("KEYS *");
    for _ in 0..MAX_LISTINGS {
        assert!(partition.begin_listing(START_MS, &keys).is_some());
    }
    assert!(partition.begin_listing(START_MS, &keys).is_none());
    assert!(partition.go_on_listing(usize::MAX).is_some());
    assert!(partition.begin_listing(START_MS, &keys).is_some());
}

#[test]
fn flushing_leaves_a_snapshot_whole() {
    let mut partition = filled(2_000);
    let hash = partition.state_hash();
    partition.begin_snapshot();
    write(&mut partition, "SET key:1 changed");
    let mut pieces = vec![partition.next_chunk(5_000).unwrap()];
    write(&mut partition, "SET key:2 changed");
    write(&mut partition, "FLUSHALL");
    write(&mut partition, "SET key:3 changed");
    pieces.push(partition.next_chunk(5_000).unwrap());
    write(&mut partition, "FLUSHALL");
    write(&mut partition, "SET key:4 changed");
    pieces.extend(chunks(&mut partition, 5_000));
    assert_eq!(loaded(&pieces).state_hash(), hash);
    assert_eq!(partition.len(), 1);
    while partition.reclaim(100) {}
    assert!(!partition.reclaim(1));
    partition.assert_invariants();
}

#[test]
fn a_snapshot_can_be_given_up_and_begun_again() {
    let mut partition = filled(2_000);
    partition.begin_snapshot();
    partition.next_chunk(1_000).unwrap();
    write(&mut partition, "SET key:7 changed");
    write(&mut partition, "FLUSHALL");
    partition.abort_snapshot();
    assert_eq!(partition.next_chunk(1_000), None);
    write(&mut partition, "SET a 1");
    let hash = partition.state_hash();
    partition.begin_snapshot();
    write(&mut partition, "SET a 2");
    let pieces = chunks(&mut partition, MAX_CHUNK_BYTES);
    assert_eq!(pieces.len(), 1);
    assert_eq!(loaded(&pieces).state_hash(), hash);
}

#[test]
fn an_empty_partition_has_a_snapshot() {
    let mut partition = Partition::with_limits([3; 16], Limits { max_value_bytes: 5 });
    partition.skip(7, 9);
    partition.begin_snapshot();
    let mut copy = loaded(&chunks(&mut partition, 64));
    assert_eq!((copy.applied_index(), copy.applied_stamp_ms(), copy.len()), (7, 9, 0));
    // The limits came along.
    let refused = Value::error("ERR", "string exceeds maximum allowed size (proto-max-bulk-len)");
    assert_eq!(write_at(&mut copy, 9, "SET a 123456"), refused);
    assert_eq!(write_at(&mut copy, 9, "MSET a 1 b 123456"), refused);
    assert_eq!(copy.len(), 0);
    assert_eq!(copy.applied_index(), 9);
}

#[test]
fn wrong_snapshots_are_refused() {
    let mut partition = filled(500);
    partition.begin_snapshot();
    let good = chunks(&mut partition, 2_000);
    assert!(good.len() > 5);
    assert!(load(&good).is_ok());
    let changed = |change: &dyn Fn(&mut Vec<Bytes>)| {
        let mut pieces = good.clone();
        change(&mut pieces);
        load(&pieces).err()
    };
    assert_eq!(changed(&|pieces| drop(pieces.pop())), Some(LoadError::Incomplete));
    assert_eq!(changed(&|pieces| pieces.clear()), Some(LoadError::Incomplete));
    assert_eq!(changed(&|pieces| drop(pieces.remove(2))), Some(LoadError::Sequence));
    assert_eq!(changed(&|pieces| pieces.swap(1, 2)), Some(LoadError::Sequence));
    assert_eq!(changed(&|pieces| pieces.insert(1, pieces[0].clone())), Some(LoadError::Sequence));
    assert_eq!(changed(&|pieces| pieces.push(pieces[0].clone())), Some(LoadError::AfterEnd));
    assert_eq!(changed(&|pieces| pieces[3] = pieces[3].slice(..10)), Some(LoadError::ChunkLength));
    assert_eq!(changed(&|pieces| pieces[3] = pieces[3].slice(..100)), Some(LoadError::Checksum));
    let too_long = Bytes::from(vec![0; MAX_CHUNK_BYTES + 1]);
    assert_eq!(changed(&|pieces| pieces[0] = too_long.clone()), Some(LoadError::ChunkLength));
}

/// What a checksum would not catch: a sender that is wrong itself.
#[test]
fn wrong_contents_are_refused() {
    let mut partition = filled(20);
    partition.begin_snapshot();
    let good = chunks(&mut partition, MAX_CHUNK_BYTES).remove(0);
    // The stream starts at 17; its entry count at 36 and its first entry at 44 from there.
    for (at, byte, error) in [
        (8, b'X', LoadError::Version),
        (16, 0, LoadError::Incomplete),
        (17 + 35, 0xff, LoadError::Head),
        (17 + 36, 19, LoadError::Contents),
        (17 + 36, 21, LoadError::Contents),
        (17 + 44, 9, LoadError::Entry),
        (17 + 44 + 3, 0xff, LoadError::Incomplete),
        (17 + 44 + 8, 0xff, LoadError::Entry),
        (17 + 44 + 17, b'K', LoadError::Contents),
        (good.len() - 1, 0, LoadError::Contents),
    ] {
        let mut chunk = good.to_vec();
        assert_ne!(chunk[at], byte);
        chunk[at] = byte;
        let checksum = xxhash_rust::xxh3::xxh3_64(&chunk[8..]);
        chunk[..8].copy_from_slice(&checksum.to_le_bytes());
        let mut loader = Loader::new();
        let result = loader.chunk(Bytes::from(chunk));
        let refused = result.err().or(loader.finish().err());
        assert_eq!(refused, Some(error), "byte {at}");
    }
}

#[test]
#[should_panic(expected = "an entry is applied once")]
fn an_entry_is_not_applied_twice() {
    let mut partition = filled(1);
    partition.apply(1, START_MS, 0, &command("INCR a"));
}

#[test]
#[should_panic(expected = "stamps never fall")]
fn time_does_not_go_back() {
    let mut partition = filled(1);
    partition.skip(2, START_MS - 1);
}

#[test]
#[should_panic(expected = "belongs to the node")]
fn commands_of_the_node_are_not_applied() {
    write(&mut filled(1), "PING");
}

/// Two keys with the same bucket and tag, found by trying five million. Guards the order between such, and pins the hash
/// function: it stands in every partition.
#[test]
fn keys_of_one_place_stay_apart() {
    const TWINS: [&str; 2] = ["c2154122", "c2867834"];
    for order in [[0, 1], [1, 0]] {
        let mut partition = Partition::new([1; 16]);
        for twin in order {
            assert_eq!(partition.store.locate(TWINS[twin].as_bytes()).rank(), 1_631_934_633_740);
            write(&mut partition, &format!("SET {} {twin} PX 100", TWINS[twin]));
        }
        let both = Value::Array(TWINS.map(Value::bulk).to_vec());
        let Value::Array(scanned) = read(&partition, "SCAN 0 COUNT 1") else { panic!("two parts") };
        assert_eq!(scanned[1], both, "a cursor can't come between them");
        assert_eq!(read(&partition, "KEYS *"), both);
        assert_eq!(read(&partition, &format!("GET {}", TWINS[1])), Value::bulk("1"));
        partition.assert_invariants();
        // Both have expired; the lesser one goes first, whichever came first.
        partition.store.remove_expired(START_MS + 100, 1);
        assert_eq!(read(&partition, "KEYS *"), Value::Array(vec![Value::bulk(TWINS[1])]));
        partition.assert_invariants();
    }
}
