//! What scripts and the simulator do not pin: encodings, configurations, and what recovery makes of a log.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{CheckpointMeta, Entry, EntryHeader, Kind, Position};
use keypact_protocol::{Draft, Lsn, NodeId, Protocol, Recover, SnapshotChunk, Wire};

use super::{
    AppendOutcome, Body, CATALOG, Config, ConfigError, HardState, LeaderFollower, Message, Record,
    SnapshotOutcome,
};

mod laws;
mod rebuild;
mod succession;

fn config() -> Config {
    Config::new(NodeId(2), vec![NodeId(1), NodeId(2), NodeId(3)], 1)
}

fn entry(index: u64, epoch: u64) -> Entry {
    let header =
        EntryHeader { term: epoch, index, stamp_ms: 1_000 + index, seed: index, kind: Kind::Command };
    Entry::seal(Draft::copy_of(b"command"), header)
}

fn place(index: u64, term: u64) -> Position {
    Position { index, term }
}

fn meta(index: u64, epoch: u64) -> Bytes {
    CheckpointMeta { position: place(index, epoch), stamp_ms: 1_000 + index }.encode()
}

/// What recovery makes of these records, numbered from 1: (index, epoch) of each entry of the tail.
fn recovered(checkpoint: Option<Bytes>, records: Vec<Record>) -> LeaderFollower {
    let mut recovery = LeaderFollower::begin(config(), checkpoint, 7).expect("the meta is ours");
    for (at, record) in records.into_iter().enumerate() {
        recovery.replay(Lsn(at as u64 + 1), record).expect("the log makes sense");
    }
    let member = recovery.finish();
    member.assert_invariants();
    member
}

fn places(member: &LeaderFollower) -> Vec<(u64, u64)> {
    let base = member.tail().base().index;
    let slots = member.tail().slots_from(base + 1).into_iter().flatten();
    slots.map(|slot| (slot.entry.index(), slot.entry.term())).collect()
}

fn entries(range: core::ops::RangeInclusive<u64>, epoch: u64) -> Vec<Record> {
    range.map(|index| Record::Entry(entry(index, epoch))).collect()
}

fn hard(epoch: u64, led: bool) -> Record {
    Record::HardState(HardState { epoch, led })
}

#[test]
fn messages_and_records_survive_the_wire() {
    let chunk = SnapshotChunk { meta: meta(5, 2), chunk: 3, bytes: Bytes::from_static(b"state"), last: true };
    let bodies = [
        Body::Append { prev: place(4, 2), entries: vec![entry(5, 2), entry(6, 3)], commit: 4, echo_ns: 8 },
        Body::AppendReply { outcome: AppendOutcome::Match { index: 6 }, sent_ns: 1 },
        Body::AppendReply { outcome: AppendOutcome::Conflict { prev_index: 9, next: 3 }, sent_ns: 1 },
        Body::AppendReply { outcome: AppendOutcome::Diverged { agreed: 4 }, sent_ns: 1 },
        Body::Snapshot { log_end: 9, chunk },
        Body::SnapshotReply { index: 5, outcome: SnapshotOutcome::Next { chunk: 4 } },
        Body::SnapshotReply { index: 5, outcome: SnapshotOutcome::Ahead { base: 7 } },
        Body::Seal,
        Body::Sealed { last: place(6, 3), visible: 5 },
        Body::Assign { leader: NodeId(3), after: place(6, 2) },
        Body::Tail { last: place(7, 3), before: place(4, 2), entries: vec![entry(5, 2)] },
        Body::Noted { last: place(7, 3), kept: 6 },
        Body::Renew { sent_ns: 17, last: 9 },
        Body::Resigned,
        Body::Grant { sent_ns: 17, lease_ns: 500, allowed: 90 },
    ];
    for body in bodies {
        let message = Message { epoch: 3, body };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(Bytes::from(bytes.clone())), Ok(message.clone()));
        for len in 0..bytes.len() {
            // Cut short it may be another message, an append of fewer entries; it must not be this one, nor panic.
            assert_ne!(Message::decode(Bytes::copy_from_slice(&bytes[..len])), Ok(message.clone()));
        }
    }
    let reset = Record::Reset { position: place(5, 2) };
    for record in [Record::Entry(entry(1, 1)), hard(4, true), hard(5, false), reset] {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(Record::decode(Bytes::from(bytes.clone())), Ok(record));
        for len in 0..bytes.len() {
            assert!(Record::decode(Bytes::copy_from_slice(&bytes[..len])).is_err());
        }
    }
}

#[test]
fn entries_that_no_leader_sends_are_refused() {
    let append = |entries: Vec<Entry>| {
        let mut bytes = Vec::new();
        Message { epoch: 3, body: Body::Append { prev: place(4, 2), entries, commit: 4, echo_ns: 0 } }
            .encode(&mut bytes);
        Message::decode(Bytes::from(bytes)).map_err(|error| error.what)
    };
    assert!(append(vec![entry(5, 2), entry(6, 3)]).is_ok());
    assert_eq!(append(vec![entry(6, 3)]), Err("entries without gaps"));
    assert_eq!(append(vec![entry(5, 1)]), Err("entries whose epochs do not fall"));
    assert_eq!(append(vec![entry(5, 4)]), Err("entries whose epochs do not fall"));
    let tail = |last, entries: Vec<Entry>| {
        let mut bytes = Vec::new();
        Message { epoch: 3, body: Body::Tail { last, before: place(4, 2), entries } }.encode(&mut bytes);
        Message::decode(Bytes::from(bytes)).map(|_| ()).map_err(|error| error.what)
    };
    assert_eq!(tail(place(6, 2), vec![entry(5, 2)]), Ok(()));
    assert_eq!(tail(place(5, 2), vec![entry(5, 2), entry(6, 2)]), Err("entries of a tail, up to its end"));
    assert_eq!(tail(place(6, 2), vec![entry(5, 3)]), Err("entries whose epochs do not fall"));
    let huge = Message { epoch: 1 << 63, body: Body::Seal };
    let mut bytes = Vec::new();
    huge.encode(&mut bytes);
    assert!(Message::decode(Bytes::from(bytes)).is_err());
}

#[test]
fn configurations_that_cannot_work_are_named() {
    type Change = fn(&mut Config);
    let cases: [(Change, ConfigError); 8] = [
        (|c| c.members.clear(), ConfigError::Members),
        (|c| c.members.push(CATALOG), ConfigError::Members),
        (|c| c.members.push(NodeId(1)), ConfigError::DuplicateMember),
        (|c| c.id = NodeId(9), ConfigError::NotAMember),
        (|c| c.acks = 3, ConfigError::TooManyAcks),
        (|c| c.heartbeat_ms = 0, ConfigError::Zero),
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
fn recovery_keeps_the_log_and_whether_the_epoch_was_led() {
    let mut records = vec![hard(1, true)];
    records.extend(entries(1..=3, 1));
    let member = recovered(None, records);
    assert_eq!(places(&member), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!((member.epoch(), member.leads(), member.hard.led), (1, false, true));
    assert_eq!(member.delivered_index(), 0, "nothing is known to be visible");
}

#[test]
fn recovery_of_a_log_that_was_cut_and_overwritten() {
    let mut records = entries(1..=5, 1);
    records.push(hard(2, false));
    records.extend(entries(3..=4, 2));
    assert_eq!(places(&recovered(None, records)), [(1, 1), (2, 1), (3, 2), (4, 2)]);
}

/// Entries that the disk kept may seem to continue a snapshot that in truth contradicts them: 51 of epoch 2 stood on 50 of epoch 2, and the
/// snapshot ends with 50 of epoch 1.
#[test]
fn entries_before_a_snapshot_that_took_the_state_back_do_not_count() {
    let mut records = vec![hard(2, true)];
    records.extend(entries(51..=60, 2));
    records.push(hard(5, false));
    records.push(Record::Reset { position: place(50, 1) });
    assert_eq!(places(&recovered(Some(meta(50, 1)), records.clone())), []);
    // The crash came before the snapshot was durable: the old checkpoint and the old log stand.
    assert_eq!(places(&recovered(Some(meta(50, 2)), records.clone())).len(), 10);
    // And what followed the snapshot counts again.
    records.extend(entries(51..=52, 5));
    assert_eq!(places(&recovered(Some(meta(50, 1)), records)), [(51, 5), (52, 5)]);
}

#[test]
fn a_log_that_makes_no_sense_is_refused() {
    let refused = |records: Vec<Record>| {
        let mut recovery = LeaderFollower::begin(config(), None, 7).expect("no meta");
        let mut lsn = Lsn::ZERO;
        records.into_iter().find_map(|record| {
            lsn = lsn.next();
            recovery.replay(lsn, record).err().map(|error| error.what)
        })
    };
    let gap = vec![Record::Entry(entry(1, 1)), Record::Entry(entry(3, 1))];
    assert_eq!(refused(gap), Some("an entry that leaves a gap"));
    let falls = vec![Record::Entry(entry(1, 2)), Record::Entry(entry(2, 1))];
    assert_eq!(refused(falls), Some("an entry of an older epoch than the one before"));
    assert_eq!(refused(vec![hard(3, false), hard(2, false)]), Some("an epoch that falls"));
    assert_eq!(refused(vec![hard(3, true), hard(3, false)]), Some("an epoch that falls"));
    let bad_meta = LeaderFollower::begin(config(), Some(Bytes::from_static(b"?")), 7);
    assert!(bad_meta.is_err());
}
