//! What scripts and the simulator do not pin: the table of states, encodings, configurations, recovery.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{CheckpointMeta, Entry, EntryHeader, Kind, Position};
use keypact_protocol::{Draft, GroupId, Lsn, NodeId, Protocol, Recover, SnapshotChunk, Wire};

use super::unapplied::Unapplied;
use super::{
    Body, CATALOG, Chain, Config, ConfigError, Life, Member, MemberState, Message, Record, SnapshotOutcome,
};

mod layout;

const GROUP: GroupId = GroupId(7);

fn config() -> Config {
    Config::new(NodeId(2), GROUP, vec![NodeId(1), NodeId(2), NodeId(3)])
}

fn entry(index: u64, epoch: u64) -> Entry {
    let header =
        EntryHeader { term: epoch, index, stamp_ms: 1_000 + index, seed: index, kind: Kind::Command };
    Entry::seal(Draft::copy_of(b"command"), header)
}

fn entries(range: core::ops::RangeInclusive<u64>, epoch: u64) -> Vec<Record> {
    range.map(|index| Record::Entry(entry(index, epoch))).collect()
}

fn place(index: u64, term: u64) -> Position {
    Position { index, term }
}

fn meta(index: u64, epoch: u64) -> Bytes {
    CheckpointMeta { position: place(index, epoch), stamp_ms: 1_000 + index }.encode()
}

fn life(copy: u64, start: u64) -> Life {
    Life { copy, start }
}

/// What recovery makes of these records, numbered from 1.
fn recovered(checkpoint: Option<Bytes>, records: Vec<Record>) -> Chain {
    let mut recovery = Chain::begin(config(), checkpoint, 77).expect("the meta is ours");
    for (at, record) in records.into_iter().enumerate() {
        recovery.replay(Lsn(at as u64 + 1), record).expect("the log makes sense");
    }
    let member = recovery.finish();
    member.assert_invariants();
    member
}

fn places(member: &Chain) -> Vec<(u64, u64)> {
    let base = member.tail().base().index;
    let slots = member.tail().slots_from(base + 1).into_iter().flatten();
    slots.map(|slot| (slot.entry.index(), slot.entry.term())).collect()
}

#[test]
fn messages_and_records_survive_the_wire() {
    let chunk = SnapshotChunk { meta: meta(5, 2), chunk: 3, bytes: Bytes::from_static(b"state"), last: true };
    let member = |node, state| Member { node: NodeId(node), life: life(node * 10, 2), state };
    let bodies = [
        Body::Forward { prev: place(4, 2), entries: vec![entry(5, 2), entry(6, 3)], watermark: 5, commit: 4 },
        Body::Ack { received: 6, durable: 5, commit: 4, gap: true },
        Body::Snapshot(chunk),
        Body::SnapshotReply { index: 5, outcome: SnapshotOutcome::Next { chunk: 4 } },
        Body::SnapshotReply { index: 5, outcome: SnapshotOutcome::Installed },
        Body::Query { round: 9 },
        Body::Answer { round: 9, commit: 4 },
        Body::Assign { members: vec![member(3, MemberState::Serving), member(1, MemberState::Offline)] },
        Body::Renew { life: life(u64::MAX, 3), sent_ns: 17 },
        Body::Grant { life: life(u64::MAX, 3), sent_ns: 17, lease_ns: 500 },
        Body::Synced { node: NodeId(3), life: life(30, 2) },
    ];
    for body in bodies {
        let message = Message { group: GROUP, epoch: 3, body };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(Bytes::from(bytes.clone())), Ok(message.clone()));
        for len in 0..bytes.len() {
            // Cut short it may be another message, of fewer entries; it must not be this one, nor panic.
            assert_ne!(Message::decode(Bytes::copy_from_slice(&bytes[..len])), Ok(message.clone()));
        }
    }
    for record in [Record::Entry(entry(1, 1)), Record::Life(life(9, 4))] {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(Record::decode(Bytes::from(bytes.clone())), Ok(record));
        for len in 0..bytes.len() {
            assert!(Record::decode(Bytes::copy_from_slice(&bytes[..len])).is_err());
        }
    }
}

#[test]
fn what_no_member_sends_is_refused() {
    let decoded = |epoch, body| {
        let mut bytes = Vec::new();
        Message { group: GROUP, epoch, body }.encode(&mut bytes);
        Message::decode(Bytes::from(bytes)).map(|_| ()).map_err(|error| error.what)
    };
    let forward = |entries| Body::Forward { prev: place(4, 2), entries, watermark: 4, commit: 4 };
    assert_eq!(decoded(3, forward(vec![entry(5, 2), entry(6, 3)])), Ok(()));
    assert_eq!(decoded(3, forward(vec![entry(6, 3)])), Err("entries without gaps"));
    assert_eq!(decoded(3, forward(vec![entry(5, 1)])), Err("entries whose epochs do not fall"));
    assert_eq!(decoded(3, forward(vec![entry(5, 4)])), Err("entries whose epochs do not fall"));
    assert!(decoded(1 << 63, Body::Query { round: 1 }).is_err());
    let member = |node, state| Member { node: NodeId(node), life: life(1, 1), state };
    let order = "members in the order of their states";
    let wrong = vec![member(1, MemberState::Offline), member(2, MemberState::Serving)];
    assert_eq!(decoded(1, Body::Assign { members: wrong }), Err(order));
    let twice = vec![member(1, MemberState::Serving), member(1, MemberState::Offline)];
    assert_eq!(decoded(1, Body::Assign { members: twice }), Err(order));
    let two = [(1, MemberState::Serving), (2, MemberState::Syncing), (3, MemberState::Syncing)];
    let two = two.map(|(node, state)| member(node, state)).to_vec();
    assert_eq!(
        decoded(1, Body::Assign { members: two }),
        Err("one member at most that syncs, with one that serves")
    );
    let alone = vec![member(1, MemberState::Syncing), member(2, MemberState::Offline)];
    assert!(decoded(1, Body::Assign { members: alone }).is_err(), "nobody to sync from");
}

#[test]
fn configurations_that_cannot_work_are_named() {
    type Change = fn(&mut Config);
    let cases: [(Change, ConfigError); 8] = [
        (|c| c.members.clear(), ConfigError::Members),
        (|c| c.members.push(CATALOG), ConfigError::Members),
        (|c| c.members.push(NodeId(1)), ConfigError::DuplicateMember),
        (|c| c.id = NodeId(9), ConfigError::NotAMember),
        (|c| c.heartbeat_ms = 0, ConfigError::Zero),
        (|c| c.max_pending_reads = 0, ConfigError::Zero),
        (|c| c.drift_bound_ppm = 500_000, ConfigError::DriftBoundTooLarge),
        (|c| c.tail_limit_bytes = 1_000, ConfigError::TailTooSmall),
    ];
    assert_eq!(config().validate(), Ok(()));
    for (change, error) in cases {
        let mut config = config();
        change(&mut config);
        assert_eq!(config.validate(), Err(error));
    }
}

#[test]
fn each_start_is_another_life_of_the_same_copy() {
    assert_eq!(recovered(None, vec![]).life(), life(77, 1), "a copy is named when it is begun");
    let member = recovered(None, vec![Record::Life(life(5, 1)), Record::Life(life(5, 2))]);
    assert_eq!(member.life(), life(5, 3));
    assert_eq!((member.epoch(), member.state()), (0, MemberState::Offline), "no life begins with a place");
}

#[test]
fn recovery_of_a_log_that_was_cut_jumped_over_and_overwritten() {
    let mut records = entries(1..=5, 1);
    records.extend(entries(3..=4, 2));
    assert_eq!(places(&recovered(None, records.clone())), [(1, 1), (2, 1), (3, 2), (4, 2)]);
    // Entries that the checkpoint's history does not have: older than its last.
    assert_eq!(places(&recovered(Some(meta(3, 4)), records.clone())), []);
    records.extend(entries(4..=5, 4));
    assert_eq!(places(&recovered(Some(meta(3, 4)), records)), [(4, 4), (5, 4)]);
    // A snapshot jumped far ahead of the log.
    let mut records = entries(1..=2, 1);
    records.extend(entries(21..=22, 3));
    assert_eq!(places(&recovered(Some(meta(20, 3)), records)), [(21, 3), (22, 3)]);
}

#[test]
fn logs_that_we_did_not_write_are_refused() {
    let refused = |records: Vec<Record>| {
        let mut recovery = Chain::begin(config(), None, 7).expect("no meta");
        let results = records.into_iter().zip(1..).map(|(record, lsn)| recovery.replay(Lsn(lsn), record));
        results.filter_map(Result::err).map(|error| error.what).next()
    };
    let gap = vec![Record::Entry(entry(1, 1)), Record::Entry(entry(3, 1))];
    assert_eq!(refused(gap), Some("an entry that leaves a gap"));
    let falls = vec![Record::Entry(entry(1, 2)), Record::Entry(entry(2, 1))];
    assert_eq!(refused(falls), Some("an entry of an older epoch than the one before"));
    let copies = vec![Record::Life(life(1, 1)), Record::Life(life(2, 2))];
    assert_eq!(refused(copies), Some("a life of another copy, or an earlier one"));
    assert!(Chain::begin(config(), Some(Bytes::from_static(b"?")), 7).is_err());
}

#[test]
fn keys_are_dirty_until_their_last_entry_is_applied() {
    /// Each byte of a command is a key; `*` writes all.
    fn keys(command: &[u8], mark: &mut dyn FnMut(u64)) {
        if command != b"*" {
            command.iter().for_each(|key| mark(u64::from(*key)));
        }
    }
    let mut unapplied = Unapplied::new(keys);
    unapplied.add(1, b"ab");
    unapplied.add(2, b"a");
    let dirty = |unapplied: &Unapplied| {
        [Some(b'a'), Some(b'b'), Some(b'c'), None].map(|key| unapplied.may_write(key.map(u64::from)))
    };
    assert_eq!(dirty(&unapplied), [true, true, false, true]);
    unapplied.applied(1, b"ab");
    assert_eq!(dirty(&unapplied), [true, false, false, true]);
    unapplied.add(3, b"*");
    unapplied.applied(2, b"a");
    assert_eq!(dirty(&unapplied), [true; 4], "what may write any key");
    unapplied.applied(3, b"*");
    assert_eq!(dirty(&unapplied), [false; 4]);
    assert!(unapplied.is_empty());
}
