//! Recovery: every kind of record, and logs that hold more or less than the checkpoint.

use bytes::Bytes;
use keypact_log::{Entry, EntryHeader, Kind, Position};
use keypact_protocol::{Draft, Lsn, NodeId, Protocol, Recover, RecoveryError};

use super::driver::members;
use crate::raft::{Config, HardState, Raft, Record};
use keypact_log::CheckpointMeta;

fn entry(index: u64, term: u64) -> Record {
    let header = EntryHeader { term, index, stamp_ms: 1, seed: 0, kind: Kind::Command };
    Record::Entry(Entry::seal(Draft::copy_of(b"x"), header))
}

fn hard(term: u64, voted_for: Option<u64>) -> Record {
    Record::HardState(HardState { term, voted_for: voted_for.map(NodeId) })
}

fn reset(index: u64, term: u64) -> Record {
    Record::Reset { position: Position { index, term }, stamp_ms: 1 }
}

fn meta(index: u64, term: u64) -> Bytes {
    CheckpointMeta { position: Position { index, term }, stamp_ms: 1 }.encode()
}

fn recover(checkpoint: Option<Bytes>, records: &[Record]) -> Result<Raft, RecoveryError> {
    let mut recovering = Raft::begin(Config::new(NodeId(1), members(3)), checkpoint, 1)?;
    for (at, record) in records.iter().enumerate() {
        recovering.replay(Lsn(at as u64 + 1), record.clone())?;
    }
    let raft = recovering.finish();
    raft.assert_invariants();
    Ok(raft)
}

fn terms(raft: &Raft) -> std::vec::Vec<u64> {
    let tail = raft.tail();
    tail.slots_from(tail.base().index + 1).unwrap().map(|slot| slot.entry.term()).collect()
}

#[test]
fn an_empty_disk_gives_a_member_without_a_past() {
    let raft = recover(None, &[]).unwrap();
    assert_eq!((raft.term(), raft.last(), raft.commit_index()), (0, Position::default(), 0));
}

#[test]
fn votes_terms_and_entries_come_back() {
    let records = [hard(1, Some(2)), entry(1, 1), entry(2, 1), hard(2, None), hard(2, Some(3)), entry(2, 2)];
    let raft = recover(None, &records).unwrap();
    let expected = HardState { term: 2, voted_for: Some(NodeId(3)) };
    assert_eq!(raft.durable_hard_state(), Some(expected));
    assert_eq!(terms(&raft), [1, 2]);
    assert_eq!(raft.tail().durable_index(), 2);
    assert_eq!((raft.commit_index(), raft.delivered_index()), (0, 0));
}

#[test]
fn entries_in_the_checkpoint_are_passed_over() {
    let records = [hard(1, None), entry(1, 1), entry(2, 1), entry(3, 1)];
    let raft = recover(Some(meta(2, 1)), &records).unwrap();
    assert_eq!((raft.tail().base().index, raft.last().index, raft.delivered_index()), (2, 3, 2));
}

#[test]
fn a_log_that_begins_behind_the_checkpoint_follows_on_it() {
    let raft = recover(Some(meta(5, 2)), &[entry(6, 2), hard(3, None), entry(7, 3)]).unwrap();
    assert_eq!((terms(&raft), raft.term()), (std::vec![2, 3], 3));
}

#[test]
fn entries_that_were_cut_off_before_the_checkpoint_do_not_come_back() {
    // 5 to 8 of term 1 gave way to 5 and 6 of term 2; the checkpoint is at 6.
    let old = [hard(1, None), entry(5, 1), entry(6, 1), entry(7, 1), entry(8, 1)];
    let new = [hard(2, None), entry(5, 2), entry(6, 2)];
    let records = [&old[..], &new[..]].concat();
    let raft = recover(Some(meta(6, 2)), &records).unwrap();
    assert_eq!(raft.last(), Position { index: 6, term: 2 });
    // The newer ones did not reach the disk: what stands behind still does not follow on the checkpoint.
    let raft = recover(Some(meta(6, 2)), &old).unwrap();
    assert_eq!(raft.last(), Position { index: 6, term: 2 });
    // Nor if the log begins in the middle of them.
    let raft = recover(Some(meta(6, 2)), &old[3..]).unwrap();
    assert_eq!(raft.last(), Position { index: 6, term: 2 });
    let raft = recover(Some(meta(6, 2)), &[&old[4..], &new[..], &[entry(7, 2)][..]].concat()).unwrap();
    assert_eq!(raft.last(), Position { index: 7, term: 2 });
}

#[test]
fn a_reset_voids_the_log_before_it() {
    let records = [hard(2, None), entry(1, 1), entry(2, 1), entry(3, 1), reset(2, 2), entry(3, 2)];
    let raft = recover(Some(meta(2, 2)), &records).unwrap();
    assert_eq!(raft.last(), Position { index: 3, term: 2 });
    let error = recover(None, &[hard(2, None), reset(2, 2)]).unwrap_err();
    assert_eq!((error.lsn, error.what), (Lsn(2), "a snapshot that the checkpoint does not hold"));
    // An older snapshot's reset, then the log up to the checkpoint and past it.
    let records = [hard(2, None), reset(2, 2), entry(3, 2), entry(4, 2), entry(5, 2)];
    let raft = recover(Some(meta(4, 2)), &records).unwrap();
    assert_eq!(raft.last(), Position { index: 5, term: 2 });
}

#[test]
fn a_term_lost_with_an_unsynced_record_is_taken_from_the_checkpoint() {
    let raft = recover(Some(meta(4, 9)), &[hard(3, Some(2))]).unwrap();
    assert_eq!(raft.durable_hard_state(), Some(HardState { term: 9, voted_for: None }));
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let cases: [(&[Record], &str); 5] = [
        (&[entry(1, 1), entry(3, 1)], "an entry that leaves a gap"),
        (&[entry(1, 2), entry(2, 1)], "an entry of an older term than the one before"),
        (&[hard(3, None), hard(2, None)], "a term that falls"),
        (&[hard(3, Some(1)), hard(3, Some(2))], "two votes in one term"),
        (&[hard(3, Some(1)), hard(3, None)], "two votes in one term"),
    ];
    for (records, what) in cases {
        assert_eq!(recover(None, records).unwrap_err().what, what);
    }
    let error = recover(Some(Bytes::from_static(b"nonsense")), &[]).unwrap_err();
    assert_eq!((error.what, error.lsn), ("a checkpoint's meta that is not Raft's", Lsn::ZERO));
    let mut config = Config::new(NodeId(1), members(3));
    config.heartbeat_ms = 0;
    assert_eq!(Raft::begin(config, None, 1).unwrap_err().what, "a time or limit is zero");
}
