//! Laws of what travels, of the table of sessions, and of a sender before a log that loses, doubles and mixes up what it is given.

extern crate std;

mod opening;
mod sequencing;

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Incarnation, NodeId, RequestId, Wire};
use proptest::prelude::*;

use super::admission::{Admission, Admitted};
use super::message::Item;
use super::sender::Sender;
use super::sequencer::{Body, COUNT_MAX, Entry, HardState, Record, Viewstamp};
use super::sessions::{Sessions, Verdict};
use super::{Config, ConfigError, Message, SENDERS_MAX, sequencer};

fn encoded<T: Wire>(value: &T) -> Bytes {
    let mut out = Vec::new();
    value.encode(&mut out);
    Bytes::from(out)
}

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from)
}

fn item() -> impl Strategy<Value = Item> {
    let node = (1..9_u64).prop_map(NodeId);
    prop_oneof![
        (node.clone(), 1..u64::MAX, any::<u64>()).prop_map(|(node, session, after)| Item::Open {
            node,
            session,
            after
        }),
        (node, 1..9_u64, 1..99_u64, body()).prop_map(|(node, session, counter, body)| Item::Message {
            node,
            session,
            counter,
            body
        }),
    ]
}

fn entries() -> impl Strategy<Value = (Viewstamp, Vec<Entry>)> {
    let each = prop::collection::vec((0..3_u64, any::<u32>(), body()), 0..5);
    let at = (1..9_u64, 1..99_u64).prop_map(|(epoch, position)| Viewstamp { epoch, position });
    // With what comes right behind nothing, and behind little, a log can begin.
    let prev = prop_oneof![at, Just(Viewstamp::ZERO), Just(Viewstamp { epoch: 1, position: 1 })];
    (prev, each).prop_map(|(prev, each)| {
        let mut at = prev;
        let next = |(rise, stamp, command): (u64, u32, Bytes)| {
            at = Viewstamp { epoch: (at.epoch + rise).max(1), position: at.position + 1 };
            Entry { at, stamp_ms: u64::from(stamp), command }
        };
        (prev, each.into_iter().map(next).collect())
    })
}

fn order() -> impl Strategy<Value = Body> {
    let committed = prop_oneof![2 => Just(0), 1 => 0..99_u64];
    (entries(), committed).prop_map(|((prev, entries), committed)| Body::Order { prev, entries, committed })
}

fn said() -> impl Strategy<Value = Body> {
    let at = (1..99_u64, 1..99_u64).prop_map(|(epoch, position)| Viewstamp { epoch, position });
    let chunk = (0..9_u32, any::<bool>(), body(), body())
        .prop_map(|(chunk, last, meta, bytes)| keypact_protocol::SnapshotChunk { meta, chunk, bytes, last });
    prop_oneof![
        Just(Body::Assign),
        Just(Body::Collect),
        (0..99_u64).prop_map(|committed| Body::Working { committed }),
        prop_oneof![at, Just(Viewstamp::ZERO)].prop_map(|last| Body::Holds { last }),
        (0..99_u64).prop_map(|after| Body::Fetch { after }),
        entries().prop_map(|(prev, entries)| Body::Fetched { prev, entries }),
        (0..99_u64).prop_map(|base| Body::Compacted { base }),
        order(),
        (0..99_u64).prop_map(|held| Body::Accept { held }),
        (0..99_u64).prop_map(|last| Body::Gap { last }),
        chunk.prop_map(|chunk| Body::Snapshot { chunk }),
        (0..99_u64, 0..9_u32).prop_map(|(position, chunk)| Body::WantChunk { position, chunk }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        entries().prop_filter_map("one", |(_, entries)| entries.first().cloned().map(Record::Entry)),
        (0..99_u64, 0..9_u64).prop_map(|(epoch, node)| Record::HardState(HardState {
            epoch,
            sequencer: (node > 0).then_some(NodeId(node))
        })),
        (1..9_u64, 1..9_u64)
            .prop_map(|(epoch, position)| Record::Reset { at: Viewstamp { epoch, position } }),
    ]
}

/// One sender's way to the log: what is under way, and what the network does to it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The oldest arrives.
    Arrive,
    /// The oldest arrives, and stays under way.
    Double,
    /// The oldest is lost.
    Lose,
    /// The oldest goes behind the others.
    Delay,
    /// The log delivers its next.
    Deliver,
    /// Nothing came for a while.
    Silence,
    /// Another leads from now on.
    Change,
    /// One more is broadcast.
    Broadcast,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        6 => Just(Fate::Arrive),
        1 => Just(Fate::Double),
        1 => Just(Fate::Lose),
        2 => Just(Fate::Delay),
        6 => Just(Fate::Deliver),
        1 => Just(Fate::Silence),
        1 => Just(Fate::Change),
        3 => Just(Fate::Broadcast),
    ];
    prop::collection::vec(fate, 0..150)
}

/// A sender, the network, whom it submits to, and the log.
struct Way {
    sender: Sender,
    sessions: Sessions,
    admission: Admission,
    leader: u64,
    under_way: VecDeque<Bytes>,
    log: VecDeque<Bytes>,
    broadcast: u64,
    answered: Vec<u64>,
    delivered: Vec<u64>,
}

const ME: NodeId = NodeId(7);

impl Way {
    fn new(seed: u64) -> Way {
        Way {
            sender: Sender::new(ME, seed),
            sessions: Sessions::default(),
            admission: Admission::new(3),
            leader: 1,
            under_way: VecDeque::new(),
            log: VecDeque::new(),
            broadcast: 0,
            answered: Vec::new(),
            delivered: Vec::new(),
        }
    }

    fn submit(&mut self) {
        let present = self.sessions.get(ME).map_or(0, |known| known.session);
        let batches = self.sender.due(NodeId(self.leader), present, 40);
        self.under_way.extend(batches.into_iter().flatten());
        self.sender.assert_invariants(1_000);
    }

    fn arrive(&mut self, item: Bytes) {
        let Ok(Item::Message { node, session, counter, .. }) = Item::decode(item.clone()) else {
            return self.log.push_back(item);
        };
        if self.admission.judge(&self.sessions, (node, session, counter), &item) != Admitted::Next {
            return;
        }
        let mut next = Some((counter, item));
        while let Some((counter, item)) = next {
            self.log.push_back(item);
            self.admission.proposed(node, session, counter);
            next = self.admission.take_next(&self.sessions, node, session);
        }
    }

    fn deliver(&mut self) {
        let Some(item) = self.log.pop_front() else { return };
        match Item::decode(item).expect("the sender's own") {
            Item::Open { node, session, after } => {
                let open = self.sessions.open(node, session, after);
                if self.sender.is_session(node, session) {
                    self.sender.decided(open, self.sessions.get(node));
                }
            }
            Item::Message { node, session, counter, body } => {
                match self.sessions.take(node, session, counter) {
                    Verdict::Next => {
                        self.delivered.push(u64::from(body[0]));
                        self.answered.extend(self.sender.delivered(counter).map(|id| id.0));
                    }
                    Verdict::Gap => self.sender.came_too_early(),
                    Verdict::Duplicate | Verdict::Closed => {}
                }
            }
        }
    }

    fn suffer(&mut self, fate: Fate) {
        match fate {
            Fate::Arrive => {
                if let Some(item) = self.under_way.pop_front() {
                    self.arrive(item);
                }
            }
            Fate::Double => {
                if let Some(item) = self.under_way.front().cloned() {
                    self.arrive(item);
                }
            }
            Fate::Lose => drop(self.under_way.pop_front()),
            Fate::Delay => {
                if let Some(item) = self.under_way.pop_front() {
                    self.under_way.push_back(item);
                }
            }
            Fate::Deliver => self.deliver(),
            Fate::Silence => self.sender.overdue(),
            Fate::Change => {
                self.leader += 1;
                self.admission.clear();
            }
            Fate::Broadcast => {
                self.broadcast += 1;
                let body = Bytes::from(vec![self.broadcast as u8]);
                self.sender.push(RequestId(self.broadcast), body);
            }
        }
        self.submit();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(item in item(), body in said(), epoch in 0..99_u64, record in record(), all in prop::collection::vec(item(), 0..4)) {
        prop_assert_eq!(Item::decode(encoded(&item)), Ok(item));
        prop_assert_eq!(Record::decode(encoded(&record)), Ok(record));
        let message = sequencer::Message { epoch, body };
        prop_assert_eq!(sequencer::Message::decode(encoded(&message)), Ok(message.clone()));
        let items = all.iter().map(encoded).collect();
        for either in [Message::Log(message), Message::Submit { items }] {
            prop_assert_eq!(Message::decode(encoded(&either)), Ok(either));
        }
    }

    #[test]
    fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let bytes = Bytes::from(bytes);
        let again = |read: Result<Bytes, DecodeError>| read.map_or(true, |again| again == bytes);
        prop_assert!(again(Item::decode(bytes.clone()).map(|item| encoded(&item))));
        prop_assert!(again(Record::decode(bytes.clone()).map(|record| encoded(&record))));
        prop_assert!(again(Sessions::decode(bytes.clone()).map(|sessions| encoded(&sessions))));
        let message = Message::<sequencer::Message>::decode(bytes.clone());
        prop_assert!(again(message.map(|message| encoded(&message))));
    }

    /// However often and in whatever order items stand in the log: of each node the messages 1, 2, 3, each once.
    #[test]
    fn sessions_are_a_function_of_the_log(items in prop::collection::vec(item(), 0..200), cut in any::<prop::sample::Index>()) {
        let mut sessions = Sessions::default();
        let mut counts = std::collections::BTreeMap::new();
        let mut middle = Sessions::default();
        for (at, item) in items.iter().enumerate() {
            if at == cut.index(items.len()) {
                middle = Sessions::decode(encoded(&sessions)).expect("its own bytes");
                prop_assert_eq!(&middle, &sessions);
            }
            match *item {
                Item::Open { node, session, after } => { sessions.open(node, session, after); }
                Item::Message { node, session, counter, .. } => {
                    if sessions.take(node, session, counter) == Verdict::Next {
                        let count: &mut u64 = counts.entry(node).or_default();
                        *count += 1;
                        prop_assert_eq!(*count, counter);
                    }
                }
            }
        }
        // Who begins with a checkpoint comes to the same.
        for item in items.iter().skip(if items.is_empty() { 0 } else { cut.index(items.len()) }) {
            match *item {
                Item::Open { node, session, after } => { middle.open(node, session, after); }
                Item::Message { node, session, counter, .. } => { middle.take(node, session, counter); }
            }
        }
        prop_assert_eq!(middle, sessions);
    }

    /// What a sender broadcasts is delivered once, in its order, and answered, if the network lets anything through in the end.
    #[test]
    fn all_is_delivered_once_in_order(fates in fates(), seed in any::<u64>()) {
        let mut way = Way::new(seed);
        for fate in fates {
            way.suffer(fate);
        }
        for _ in 0..3_000 {
            if way.answered.len() as u64 == way.broadcast {
                break;
            }
            [Fate::Arrive, Fate::Deliver].into_iter().for_each(|fate| way.suffer(fate));
            if way.under_way.is_empty() && way.log.is_empty() {
                way.suffer(Fate::Silence);
            }
        }
        let all: Vec<u64> = (1..=way.broadcast).collect();
        prop_assert_eq!(&way.delivered, &all);
        prop_assert_eq!(&way.answered, &all);
    }
}

#[test]
fn numbers_that_could_overflow_are_refused() {
    let beyond = |numbers: &[u64]| {
        let mut out = vec![];
        numbers.iter().for_each(|number| crate::clock::varint::put(*number, &mut out));
        Bytes::from(out)
    };
    let refused = sequencer::Message::decode(beyond(&[COUNT_MAX + 1, 0])).expect_err("too large");
    assert_eq!(refused.what, "a number of at most 2^62");
    let refused = sequencer::Message::decode(beyond(&[1, 3, 5, 0])).expect_err("half a viewstamp");
    assert_eq!(refused.what, "a viewstamp, both parts above 0 or none");
    let refused = sequencer::Message::decode(beyond(&[1, 11, 5, u64::from(u32::MAX)])).expect_err("no next");
    assert_eq!(refused.what, "a piece's number below 2^32 - 1");
    let refused = Item::decode(beyond(&[1, 1, 1, 1 << 63, 0])).expect_err("too large");
    assert_eq!(refused.what, "a message counted from 1, below 2^63");
    let refused = Item::decode(beyond(&[0, 1 << 48, 1, 0])).expect_err("no stream for it");
    assert_eq!(refused.what, "a node's number of at most 48 bits");
    // A gap between entries, and an epoch that falls.
    for second in [[1_u64, 7, 0, 0], [0, 6, 0, 0]] {
        let bytes = beyond(&[&[2, 7, 1, 4, 2, 1, 5, 0, 0][..], &second, &[0]].concat());
        assert!(sequencer::Message::decode(bytes).is_err());
    }
}

#[test]
fn a_late_request_closes_no_newer_session() {
    let mut sessions = Sessions::default();
    assert!(sessions.open(ME, 11, 0) && sessions.open(ME, 11, 0), "said twice");
    assert_eq!(sessions.take(ME, 11, 1), Verdict::Next);
    assert!(sessions.open(ME, 22, 11), "the next life");
    assert!(!sessions.open(ME, 33, 11) && !sessions.open(ME, 11, 0), "both come late");
    assert_eq!(sessions.take(ME, 11, 2), Verdict::Closed);
    assert_eq!(
        [2, 2, 4].map(|counter| sessions.take(ME, 22, counter)),
        [Verdict::Next, Verdict::Duplicate, Verdict::Gap]
    );
}

#[test]
fn the_table_of_sessions_is_bounded() {
    let mut sessions = Sessions::default();
    let opened = (1..=SENDERS_MAX as u64 + 5).filter(|node| sessions.open(NodeId(*node), 1, 0)).count();
    assert_eq!((opened, sessions.len()), (SENDERS_MAX, SENDERS_MAX));
    assert!(sessions.open(ME, 2, 1), "who is in it goes on");
    assert_eq!(Sessions::decode(encoded(&sessions)), Ok(sessions));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let members: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let log = sequencer::Config::new(NodeId(1), members.clone());
    let good = Config::new(NodeId(1), members, log.clone());
    assert_eq!((good.validate(), log.validate(), log.majority()), (Ok(()), Ok(()), 2));
    let cases = [
        (Config { members: vec![], ..good.clone() }, ConfigError::Members),
        (Config { members: vec![NodeId(1); 2], ..good.clone() }, ConfigError::Members),
        (Config { id: NodeId(9), ..good.clone() }, ConfigError::NotAMember),
        (Config { members: vec![NodeId(1), NodeId(1 << 48)], ..good.clone() }, ConfigError::Identity),
        (Config { window: 0, ..good.clone() }, ConfigError::Zero),
        (Config { resend_ms: 0, ..good }, ConfigError::Zero),
    ];
    for (config, error) in cases {
        assert_eq!(config.validate(), Err(error));
    }
    let members = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    let cases = [
        (sequencer::Config { members: members(&[0, 1]), ..log.clone() }, sequencer::ConfigError::Members),
        (
            sequencer::Config { members: members(&[1, 1]), ..log.clone() },
            sequencer::ConfigError::DuplicateMember,
        ),
        (sequencer::Config { id: NodeId(4), ..log.clone() }, sequencer::ConfigError::NotAMember),
        (sequencer::Config { max_inflight: 0, ..log.clone() }, sequencer::ConfigError::Zero),
        (sequencer::Config { log_limit_bytes: 9, ..log }, sequencer::ConfigError::LogTooSmall),
    ];
    for (config, error) in cases {
        assert_eq!(config.validate(), Err(error));
    }
    assert_eq!(Incarnation(0), super::config::stream_of(ME).expect("a small number").life().1);
}
