//! What is written is read back; what nobody wrote is refused, never a panic.

extern crate std;

use std::vec::Vec;

use bytes::Bytes;
use keypact_protocol::Wire;
use proptest::prelude::*;

use super::dot;
use crate::clock::{COUNTER_MAX, Dot, DotContext, HybridStamp, LamportStamp, ReplicaId, VectorClock, varint};

fn bytes_of<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = std::vec![7];
    value.encode(&mut out);
    assert_eq!(out.remove(0), 7, "what is there already stays");
    out
}

fn round_trip<T: Wire + PartialEq + core::fmt::Debug>(value: &T) -> usize {
    let bytes = bytes_of(value);
    assert_eq!(T::decode(bytes.clone().into()).as_ref(), Ok(value));
    for cut in 0..bytes.len() {
        assert!(T::decode(Bytes::copy_from_slice(&bytes[..cut])).is_err(), "cut at {cut}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(T::decode(longer.into()).is_err(), "a byte too many");
    bytes.len()
}

/// Whatever is accepted is what the encoder would have written.
fn accepts_only_its_own<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = T::decode(Bytes::copy_from_slice(bytes)) {
        assert_eq!(bytes_of(&value), bytes);
    }
}

fn any_dot() -> impl Strategy<Value = Dot> {
    prop_oneof![
        (0_u64..4, 1_u64..12).prop_map(|(replica, counter)| dot(replica, counter)),
        (any::<u64>(), 1_u64..=COUNTER_MAX).prop_map(|(replica, counter)| dot(replica, counter)),
    ]
}

proptest! {
    #[test]
    fn values_come_back(dots in prop::collection::vec(any_dot(), 0..20)) {
        let context: DotContext = dots.iter().copied().collect();
        prop_assert_eq!(round_trip(&context), context.encoded_len());
        let clock: VectorClock = dots.iter().map(|dot| (dot.replica, dot.counter)).collect();
        prop_assert_eq!(round_trip(&clock), clock.encoded_len());
        for dot in dots {
            round_trip(&LamportStamp { time: dot.counter, replica: dot.replica });
            round_trip(&HybridStamp { wall_ms: dot.counter >> 3, count: dot.replica.0 as u32 });
            let mut out = Vec::new();
            dot.put(&mut out);
            prop_assert_eq!(Dot::take(&mut out.into()), Ok(dot));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..40)) {
        accepts_only_its_own::<DotContext>(&bytes);
        accepts_only_its_own::<VectorClock>(&bytes);
        accepts_only_its_own::<LamportStamp>(&bytes);
        accepts_only_its_own::<HybridStamp>(&bytes);
    }

    #[test]
    fn integers_come_back(value in prop_oneof![any::<u64>(), 0_u64..300, (0_u32..64).prop_map(|bits| (1 << bits) - 1)]) {
        let mut out = Vec::new();
        varint::put(value, &mut out);
        prop_assert_eq!(out.len(), varint::len(value));
        let mut bytes = Bytes::from(out);
        prop_assert_eq!(varint::take(&mut bytes), Ok(value));
        prop_assert!(bytes.is_empty());
    }
}

#[test]
fn bad_bytes_are_named() {
    let refuse = |bytes: &[u8]| DotContext::decode(Bytes::copy_from_slice(bytes)).expect_err("refused").what;
    assert_eq!(refuse(&[]), "a whole integer");
    assert_eq!(refuse(&[9, 0, 0, 0]), "a count that the rest can hold");
    assert_eq!(refuse(&[0, 0]), "nothing behind a clock");
    assert_eq!(refuse(&[1, 0x80, 0, 0, 0]), "an integer without idle bytes");
    let end = [0xff; 9].iter().chain(&[1]).copied().collect::<Vec<u8>>();
    assert_eq!(refuse(&[&[1, 0][..], &end, &[0]].concat()), "dots below 2^63");
    let refuse = |bytes: &[u8]| VectorClock::decode(Bytes::copy_from_slice(bytes)).expect_err("refused").what;
    assert_eq!(refuse(&[1, 5, 0]), "a vector clock without zeros");
    assert_eq!(refuse(&[2, 5, 1, 0, 1]), "a vector clock's replicas in order");
    assert_eq!(
        varint::take(&mut Bytes::from_static(&[0xff; 11])).expect_err("refused").what,
        "an integer below 2^64"
    );
}

/// A replica that takes in "I have seen 2^64 - 1 events of yours" could not count its next one.
#[test]
fn no_counter_leaves_a_replica_without_a_next_one() {
    let context = |last| {
        let span = crate::clock::Span { replica: ReplicaId(7), first: 3, last };
        DotContext::decode(Bytes::from(bytes_of(&DotContext::from_iter([span]))))
    };
    let mut held = context(COUNTER_MAX).expect("it can still be counted on");
    assert_eq!(held.next(ReplicaId(7)).counter, COUNTER_MAX + 1);
    for beyond in [COUNTER_MAX + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(context(beyond).expect_err("refused").what, "dots below 2^63");
        let mut out = Vec::new();
        dot(7, beyond).put(&mut out);
        assert_eq!(Dot::take(&mut out.into()).expect_err("refused").what, "a dot's counter below 2^63");
        let clock: VectorClock = [(ReplicaId(7), beyond)].into_iter().collect();
        let refused = VectorClock::take_of_events(&mut bytes_of(&clock).into(), 9).expect_err("refused");
        assert_eq!(refused.what, "a vector clock's counters below 2^63");
    }
}

#[test]
fn a_clock_of_too_many_replicas_is_refused_before_it_is_read() {
    let clock: VectorClock = (1..=5).map(|replica| (ReplicaId(replica), 1)).collect();
    let take = |max| VectorClock::take_of_events(&mut bytes_of(&clock).into(), max);
    assert_eq!(take(5), Ok(clock.clone()));
    assert_eq!(take(4).expect_err("refused").what, "a vector clock of fewer replicas");
    let other: VectorClock = (4..=7).map(|replica| (ReplicaId(replica), 2)).collect();
    let mut both = clock.clone();
    both.merge(&other);
    assert_eq!((clock.merged_len(&other), other.merged_len(&clock), both.len()), (7, 7, 7));
}

#[test]
fn a_life_has_an_identity() {
    use keypact_protocol::{Incarnation, NodeId};
    let replica = ReplicaId::of_life(NodeId(5), Incarnation(2)).expect("small numbers fit");
    assert_eq!(replica.life(), (NodeId(5), Incarnation(2)));
    assert_ne!(Some(replica), ReplicaId::of_life(NodeId(5), Incarnation(3)));
    assert_eq!(ReplicaId::of_life(NodeId(1 << 48), Incarnation(0)), None);
    assert_eq!(ReplicaId::of_life(NodeId(1), Incarnation(1 << 16)), None);
    assert_eq!(std::format!("{} {}", dot(4, 2), Dot::new(replica, 7)), "4.2 5/2.7");
}
