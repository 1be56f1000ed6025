//! Bytes from outside, limits, and recovery; stories stand in `interaction/`.

extern crate std;

mod limits;

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{Incarnation, Lsn, NodeId, Protocol, Recover, Wire};
use proptest::prelude::*;

use super::record::Meta;
use super::{Body, Config, ConfigError, Jump, Record, View};
use crate::clock::{Dot, ReplicaId, VectorClock};
use crate::envelope::Envelope;
use crate::fifo::Fifo;

fn replica() -> impl Strategy<Value = ReplicaId> {
    (1..6_u64, 0..3_u64).prop_map(|(node, life)| {
        ReplicaId::of_life(NodeId(node), Incarnation(life)).expect("small numbers fit")
    })
}

fn dot() -> impl Strategy<Value = Dot> {
    (replica(), 1..1_000_u64).prop_map(|(replica, counter)| Dot::new(replica, counter))
}

fn clock() -> impl Strategy<Value = VectorClock> {
    prop::collection::vec((replica(), 1..1_000_u64), 0..5).prop_map(|entries| entries.into_iter().collect())
}

fn envelope() -> impl Strategy<Value = Envelope> {
    (dot(), clock(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(dot, mut after, body)| {
        after.forget(dot.replica);
        Envelope { dot, after, body: Bytes::from(body) }
    })
}

fn view() -> impl Strategy<Value = View> {
    (0..100_u64, prop::collection::btree_set(1..50_u64, 1..6))
        .prop_map(|(number, members)| View::new(number, members.into_iter().map(NodeId).collect()))
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        prop::collection::vec(envelope(), 0..4).prop_map(|envelopes| Body::Data { envelopes }),
        (0..9_u64, clock()).prop_map(|(view, holds)| Body::Status { view, holds }),
        (replica(), 1..9_u64, 0..9_u64).prop_map(|(replica, first, more)| Body::Want {
            replica,
            first,
            last: first + more
        }),
        Just(Body::Join),
        clock().prop_map(|holds| Body::Welcome { holds }),
        (dot(), clock()).prop_map(|(dot, holds)| Body::Gone {
            replica: dot.replica,
            counter: dot.counter,
            holds
        }),
        view().prop_map(Body::View),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (1..99_u64, any::<u64>(), envelope()).prop_map(|(index, stamp_ms, envelope)| Record::Delivered {
            index,
            stamp_ms,
            envelope
        }),
        (0..99_u64, clock()).prop_map(|(after_index, to)| Record::Jumped(Jump { after_index, to })),
        view().prop_map(Record::View),
    ]
}

fn encoded(value: &impl Wire) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn messages_and_records_come_back(body in body(), record in record()) {
        prop_assert_eq!(Body::decode(Bytes::from(encoded(&body))), Ok(body));
        prop_assert_eq!(Record::decode(Bytes::from(encoded(&record))), Ok(record));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), body in body(), flip in any::<(u8, u8)>()) {
        let _ = Body::decode(Bytes::from(bytes.clone()));
        let _ = Record::decode(Bytes::from(bytes.clone()));
        let _ = Meta::decode(Bytes::from(bytes.clone()));
        let _ = Envelope::decode(Bytes::from(bytes));
        // Nearly right is harder to refuse.
        let mut near = encoded(&body);
        let at = usize::from(flip.0) % near.len();
        near[at] = flip.1;
        if let Ok(other) = Body::decode(Bytes::from(near.clone())) {
            prop_assert_eq!(encoded(&other), near, "each message has one encoding");
        }
    }
}

#[test]
fn settings_that_cant_work_are_named() {
    let good = || Config::new(NodeId(1), vec![NodeId(1), NodeId(2)]);
    assert_eq!(good().validate(), Ok(()));
    let with = |change: fn(&mut Config)| {
        let mut config = good();
        change(&mut config);
        config.validate()
    };
    assert_eq!(with(|config| config.members.clear()), Err(ConfigError::Members));
    assert_eq!(with(|config| config.members[1] = NodeId(0)), Err(ConfigError::Members));
    assert_eq!(with(|config| config.members[1] = NodeId(1)), Err(ConfigError::DuplicateMember));
    assert_eq!(with(|config| config.id = NodeId(7)), Err(ConfigError::NotAMember));
    assert_eq!(with(|config| config.incarnation = Incarnation(1 << 16)), Err(ConfigError::Identity));
    assert_eq!(with(|config| config.window = 0), Err(ConfigError::Zero));
    assert_eq!(with(|config| config.held_back_max = 0), Err(ConfigError::Zero));
}

#[test]
fn recovery_refuses_what_no_log_has() {
    let config = || Config::new(NodeId(1), vec![NodeId(1)]);
    let delivered = |index| {
        let dot = Dot::new(ReplicaId::of_life(NodeId(1), Incarnation(1)).expect("it fits"), index);
        let envelope = Envelope { dot, after: VectorClock::new(), body: Bytes::new() };
        Record::Delivered { index, stamp_ms: 0, envelope }
    };
    let mut recovery = Fifo::begin(config(), None, 1).expect("nothing to read");
    recovery.replay(Lsn(1), delivered(1)).expect("the first");
    let gap = recovery.replay(Lsn(2), delivered(3)).expect_err("the second is missing");
    assert_eq!(gap.what, "a delivery after a gap");
    let backwards = recovery.replay(Lsn(1), delivered(2)).expect_err("the log goes back");
    assert_eq!(backwards.what, "a record before the one before it");
    assert!(Fifo::begin(config(), Some(Bytes::from_static(&[9, 9])), 1).is_err(), "no meta of ours");
    let member = recovery.finish();
    assert_eq!((member.index(), member.delivered().get(member.replica())), (1, 1));
}
