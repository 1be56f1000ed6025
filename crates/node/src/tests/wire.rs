//! Guards what nodes say to each other: it comes back as it was said, and bytes from outside are an error, never a panic.

use bytes::Bytes;
use keypact_coordination::raft::{self, AppendOutcome, Body};
use keypact_data::Command;
use keypact_protocol::{GroupId, Incarnation, NodeId, Wire};
use keypact_resp::{Arguments, Value};
use proptest::prelude::*;

use super::cluster::{command, encoded};
use crate::peer::{Forward, ForwardReply, PeerMessage, Resolution};
use crate::value;

fn values() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        Just(Value::ok()),
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
        (-1e300..1e300f64).prop_map(Value::Double),
        bytes().prop_map(Value::bulk),
        "[A-Z]{1,9}".prop_flat_map(|code| "[a-z ]{1,30}".prop_map(move |m| Value::error(code.clone(), m))),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Set),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn resolutions() -> impl Strategy<Value = Resolution> {
    prop_oneof![
        values().prop_map(Resolution::Value),
        Just(Resolution::Value(Value::NullArray)),
        any::<Option<u64>>().prop_map(|leader| Resolution::Redirect { leader: leader.map(NodeId) }),
        Just(Resolution::Overloaded),
        Just(Resolution::Uncertain),
    ]
}

fn raft_messages() -> impl Strategy<Value = raft::Message> {
    // Counts of correct members are far below 2^62.
    let count = || 0..1u64 << 40;
    let body = prop_oneof![
        (count(), count()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        count().prop_map(|round| Body::HeartbeatReply { round }),
        (any::<bool>(), any::<u64>())
            .prop_map(|(granted, candidate)| Body::VoteReply { granted, candidate: Incarnation(candidate) }),
        (count(), count()).prop_map(|(round, last)| Body::AppendReply {
            round,
            outcome: AppendOutcome::Match { index: last },
        }),
    ];
    (count(), any::<u64>(), body).prop_map(|(term, incarnation, body)| raft::Message {
        term,
        incarnation: Incarnation(incarnation),
        body,
    })
}

fn messages() -> impl Strategy<Value = PeerMessage> {
    let forward = (any::<[u64; 5]>(), prop::collection::vec(any::<u8>(), 0..60), any::<u8>());
    prop_oneof![
        (any::<u64>(), raft_messages())
            .prop_map(|(group, message)| PeerMessage::Group { group: GroupId(group), message }),
        (any::<u64>(), prop::collection::vec((any::<u64>().prop_map(GroupId), raft_messages()), 0..8))
            .prop_map(|(wall_ms, lines)| PeerMessage::Heartbeats { wall_ms, lines }),
        forward.prop_map(|([life, session, term, generation, place], value, kind)| {
            let set: [&[u8]; 3] = [b"SET", &[kind], &value];
            let get: [&[u8]; 2] = [b"GET", &value];
            let parts = if kind % 2 == 0 { &set[..] } else { &get[..] };
            let command = Command::parse(Arguments::from_parts(parts)).expect("both exist");
            PeerMessage::Forward(Forward { life, session, term, generation, place, command })
        }),
        (any::<[u64; 4]>(), resolutions()).prop_map(|([life, session, generation, place], resolution)| {
            PeerMessage::ForwardReply(ForwardReply { life, session, generation, place, resolution })
        }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were_said(message in messages()) {
        let bytes = encoded(&message);
        let back = PeerMessage::decode(bytes.clone()).expect("it was just encoded");
        prop_assert_eq!(format!("{back:?}"), format!("{message:?}"));
        prop_assert_eq!(encoded(&back), bytes);
    }

    #[test]
    fn cut_messages_are_errors_or_shorter_messages(message in messages(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&message);
        let cut = bytes.slice(..cut.index(bytes.len()));
        if let Ok(shorter) = PeerMessage::decode(cut.clone()) {
            prop_assert!(matches!(shorter, PeerMessage::Heartbeats { .. }), "only lists have shorter ones: {:?}", cut);
        }
    }

    #[test]
    fn garbage_never_panics(kind in 0u8..5, mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bytes.insert(0, kind);
        let bytes = Bytes::from(bytes);
        let _ = PeerMessage::decode(bytes.clone());
        let _ = PeerMessage::decode(bytes.slice(1..));
        let _ = value::decode(bytes);
    }

    #[test]
    fn changed_messages_never_panic(
        message in messages(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&message).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = PeerMessage::decode(bytes.into());
    }

    #[test]
    fn values_come_back_as_they_were_said(value in values()) {
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        let back = value::decode(bytes.into()).expect("it was just encoded");
        prop_assert_eq!(format!("{back:?}"), format!("{value:?}"));
    }
}

/// A peer must not get the node's own commands carried out by a partition, which has no such thing.
#[test]
fn commands_of_the_node_are_not_forwarded() {
    for text in ["PING", "CLIENT ID", "COMMAND"] {
        let command = command(text);
        let forward = Forward { life: 1, session: 1, term: 1, generation: 1, place: 0, command };
        let bytes = encoded(&PeerMessage::Forward(forward));
        assert!(PeerMessage::decode(bytes).is_err(), "{text}");
    }
}

/// A long reply, as `KEYS *` may give, is no reason to cut a peer off.
#[test]
fn long_replies_come_back() {
    let many = Value::Array(vec![Value::Integer(7); 1_100_000]);
    let long = Value::Array(vec![Value::bulk(vec![b'x'; 17 << 20]); 4]);
    let mut keys = keypact_resp::Bulks::default();
    (0..100_000).for_each(|key| keys.push(format!("key:{key}").as_bytes()));
    for value in [many, long, Value::Bulks(keys), Value::Bulks(keypact_resp::Bulks::default())] {
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        assert!(value::decode(bytes.into()).is_ok_and(|back| back == value));
    }
}

#[test]
fn a_list_that_can_not_be_is_refused() {
    let list = |count: u64, text: &[u8]| [&[2][..], &count.to_le_bytes(), text].concat();
    assert!(value::decode(list(1, b"$1\r\na\r\n").into()).is_ok());
    for bytes in [
        list(u64::MAX, b"$1\r\na\r\n"),
        list(2, b"$1\r\na\r\n"),
        list(1, b"$1\r\na"),
        list(0, b"$"),
        vec![2, 0],
    ] {
        assert!(value::decode(bytes.into()).is_err());
    }
}
