//! Messages and records as bytes: there and back, and garbage.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, EntryHeader, Kind, Position};
use keypact_protocol::{Draft, Incarnation, NodeId, SnapshotChunk, Wire};
use proptest::prelude::*;

use crate::raft::{AppendOutcome, Body, Change, ChangeRefusal, HardState, Message, Record, SnapshotOutcome};

fn bytes_of(value: &impl Wire) -> Bytes {
    let mut out = std::vec![0xAA, 0xBB];
    value.encode(&mut out);
    assert_eq!(out[..2], [0xAA, 0xBB], "what was there stays");
    Bytes::from(out).slice(2..)
}

fn entry(index: u64, term: u64, command: &[u8]) -> Entry {
    let header = EntryHeader { term, index, stamp_ms: 3, seed: 4, kind: Kind::Command };
    Entry::seal(Draft::copy_of(command), header)
}

fn position() -> impl Strategy<Value = Position> {
    (0..1_u64 << 40, 0..1_u64 << 40).prop_map(|(index, term)| Position { index, term })
}

fn append() -> impl Strategy<Value = Body> {
    let commands = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5);
    (position(), commands, 0..1_u64 << 40, any::<u64>()).prop_map(|(prev, commands, commit, round)| {
        let entries = commands.iter().enumerate();
        let entries =
            entries.map(|(at, command)| entry(prev.index + 1 + at as u64, prev.term, command)).collect();
        Body::Append { prev, entries, commit, round }
    })
}

fn chunk() -> impl Strategy<Value = Body> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    (bytes(), any::<u32>(), bytes(), any::<bool>()).prop_map(|(meta, chunk, bytes, last)| Body::Snapshot {
        chunk: SnapshotChunk { meta, chunk, bytes, last },
    })
}

fn body() -> impl Strategy<Value = Body> {
    let count = || 0..1_u64 << 40;
    prop_oneof![
        (count(), position()).prop_map(|(next_term, last)| Body::PreVote { next_term, last }),
        (count(), any::<bool>()).prop_map(|(next_term, granted)| Body::PreVoteReply { next_term, granted }),
        (position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        (any::<bool>(), any::<u64>())
            .prop_map(|(granted, candidate)| Body::VoteReply { granted, candidate: Incarnation(candidate) }),
        Just(Body::TimeoutNow),
        (1_u64..9, any::<u64>(), 1_u64..9).prop_map(|(node, incarnation, other)| {
            let change = Change::default().learn(NodeId(node), Incarnation(incarnation));
            Body::Change(change.promote(NodeId(other)).remove(NodeId(node + other)))
        }),
        count().prop_map(|to| Body::Transfer { to: NodeId(to) }),
        Just(Body::Answer(Ok(()))),
        (any::<u64>(), any::<u64>())
            .prop_map(|(node, missing)| Body::Answer(Err(ChangeRefusal::NotCaughtUp { node, missing }))),
        append(),
        (any::<u64>(), count())
            .prop_map(|(round, index)| Body::AppendReply { round, outcome: AppendOutcome::Match { index } }),
        (any::<u64>(), count(), count(), count()).prop_map(|(round, prev_index, hint_term, hint_index)| {
            Body::AppendReply {
                round,
                outcome: AppendOutcome::Conflict { prev_index, hint_term, hint_index },
            }
        }),
        (count(), any::<u64>()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        any::<u64>().prop_map(|round| Body::HeartbeatReply { round }),
        chunk(),
        (count(), any::<u32>()).prop_map(|(index, chunk)| Body::SnapshotReply {
            index,
            outcome: SnapshotOutcome::Next { chunk }
        }),
        count().prop_map(|index| Body::SnapshotReply { index, outcome: SnapshotOutcome::Installed }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    // Terms above those of the entries.
    (1_u64 << 41..1_u64 << 42, any::<u64>(), body()).prop_map(|(term, incarnation, body)| Message {
        term,
        incarnation: Incarnation(incarnation),
        body,
    })
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..50).prop_map(|command| Record::Entry(entry(1, 2, &command))),
        (any::<u64>(), any::<Option<u64>>()).prop_map(|(term, voted)| {
            Record::HardState(HardState { term, voted_for: voted.map(NodeId) })
        }),
        (position(), any::<u64>()).prop_map(|(position, stamp_ms)| Record::Reset { position, stamp_ms }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(message in message()) {
        prop_assert_eq!(Message::decode(bytes_of(&message)), Ok(message));
    }

    #[test]
    fn records_come_back(record in record()) {
        prop_assert_eq!(Record::decode(bytes_of(&record)), Ok(record));
    }

    #[test]
    fn garbage_is_an_error_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(Bytes::from(bytes.clone()));
        let _ = Record::decode(Bytes::from(bytes));
    }

    #[test]
    fn damaged_messages_never_panic(message in message(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = bytes_of(&message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Message::decode(Bytes::from(bytes)) {
            prop_assert_ne!(other, message);
        }
    }

    #[test]
    fn cut_off_messages_are_errors_unless_they_carry_raw_bytes(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&message);
        let cut = bytes.slice(..at.index(bytes.len()));
        let raw = matches!(message.body, Body::Snapshot { .. } | Body::Append { .. });
        prop_assert!(raw || Message::decode(cut).is_err());
    }
}

#[test]
fn entries_must_follow_each_other_and_not_pass_the_senders_term() {
    let prev = Position { index: 4, term: 2 };
    let decode = |term, entries: Vec<Entry>| {
        let body = Body::Append { prev, entries, commit: 0, round: 0 };
        Message::decode(bytes_of(&Message { term, incarnation: Incarnation(1), body }))
    };
    assert!(decode(3, std::vec![entry(5, 2, b"a"), entry(6, 3, b"b")]).is_ok());
    assert!(decode(3, std::vec![entry(6, 2, b"a")]).is_err(), "a gap");
    assert!(decode(3, std::vec![entry(5, 1, b"a")]).is_err(), "a falling term");
    assert!(decode(2, std::vec![entry(5, 3, b"a")]).is_err(), "a term above the sender's");
}

#[test]
fn absurd_counts_are_refused() {
    for body in [
        Body::PreVote { next_term: u64::MAX, last: Position::default() },
        Body::Heartbeat { commit: u64::MAX, round: 1 },
        Body::Vote { last: Position { index: u64::MAX, term: 1 }, transfer: false },
    ] {
        assert!(Message::decode(bytes_of(&Message { term: 1, incarnation: Incarnation(1), body })).is_err());
    }
    let body = Body::HeartbeatReply { round: 1 };
    assert!(
        Message::decode(bytes_of(&Message { term: u64::MAX, incarnation: Incarnation(1), body })).is_err()
    );
}
