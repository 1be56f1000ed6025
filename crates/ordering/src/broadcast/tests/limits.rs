//! What others say can't take a member beyond its limits: it refuses, counts that, and goes on.

use keypact_protocol::{Context, Draft, Input, Refusal, Reply, Request, RequestId};
use keypact_simulator::CollectingSink;

use super::super::{Jump, STREAMS_MAX, TooManyStreams};
use super::*;
use crate::clock::COUNTER_MAX;

type Seen = CollectingSink<Fifo>;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn first_life(node: u64) -> ReplicaId {
    ReplicaId::of_life(NodeId(node), Incarnation(1)).expect("small numbers fit")
}

/// One message of each of so many streams of nodes that are long gone.
fn streams(first_node: u64, count: usize) -> VectorClock {
    (first_node..first_node + count as u64).map(|node| (first_life(node), 1)).collect()
}

fn recovered(config: Config, records: Vec<Record>) -> (Fifo, Seen) {
    let mut recovery = Fifo::begin(config, None, 1).expect("nothing to read");
    let mut seen = Seen::default();
    for record in records {
        seen.lsn = seen.lsn.next();
        recovery.replay(seen.lsn, record).expect("a log that was written");
    }
    (recovery.finish(), seen)
}

/// A member of two that jumped over the first messages of so many streams.
fn who_knows(count: usize) -> (Fifo, Seen) {
    let jump = Jump { after_index: 0, to: streams(1_000, count) };
    recovered(Config::new(ME, vec![ME, OTHER]), vec![Record::Jumped(jump)])
}

fn step(member: &mut Fifo, seen: &mut Seen, input: Input<Fifo>) {
    let context = Context { now_ns: 1_000_000, wall_ms: 1_000 };
    member.handle(input, context, seen);
    member.flush(context, seen);
    member.assert_invariants();
}

fn says(body: Body) -> Input<Fifo> {
    Input::Message { from: OTHER, message: body }
}

fn propose(member: &mut Fifo, seen: &mut Seen) -> Option<Reply> {
    let command = Draft::copy_of(b"x");
    step(member, seen, Input::Request(Request::Propose { id: RequestId(1), command }));
    seen.replies.pop()
}

#[test]
fn who_knows_all_streams_begins_no_other() {
    let overloaded = Some(Reply::Refused { id: RequestId(1), why: Refusal::Overloaded });
    let (mut member, mut seen) = who_knows(STREAMS_MAX);
    assert_eq!(propose(&mut member, &mut seen), overloaded);
    let envelope =
        Envelope { dot: Dot::new(first_life(2), 1), after: VectorClock::new(), body: Bytes::new() };
    step(&mut member, &mut seen, says(Body::Data { envelopes: vec![envelope.clone()] }));
    assert_eq!((member.counters().refused, member.counters().dropped_full), (1, 1));
    assert_eq!((member.index(), seen.delivered.len(), seen.lsn), (0, 0, Lsn(1)), "nothing was written");
    // With room for one stream it is taken by who comes first.
    let (mut member, mut seen) = who_knows(STREAMS_MAX - 1);
    assert_eq!(propose(&mut member, &mut seen), None);
    assert_eq!(propose(&mut member, &mut seen), None, "its own stream is known now");
    step(&mut member, &mut seen, says(Body::Data { envelopes: vec![envelope] }));
    assert_eq!((member.index(), member.delivered().len()), (2, STREAMS_MAX));
}

#[test]
fn what_would_be_too_many_streams_is_refused() {
    // Each clock is within the limit, the union of two is not.
    let (mut member, mut seen) = who_knows(0);
    let holds = |first, count| Body::Status { view: 0, holds: streams(first, count) };
    step(&mut member, &mut seen, says(holds(1_000, STREAMS_MAX)));
    step(&mut member, &mut seen, says(holds(1_001, STREAMS_MAX)));
    step(&mut member, &mut seen, says(Body::Welcome { holds: streams(5, 1) }));
    let data = |node| {
        let dot = Dot::new(first_life(node), 1);
        Body::Data { envelopes: vec![Envelope { dot, after: VectorClock::new(), body: Bytes::new() }] }
    };
    step(&mut member, &mut seen, says(data(5)));
    assert_eq!((member.counters().refused_streams, member.index()), (3, 0));
    assert_eq!(member.known_of(OTHER), Some(&streams(1_000, STREAMS_MAX)));
    step(&mut member, &mut seen, says(data(1_000)));
    assert_eq!((member.counters().refused_streams, member.index()), (3, 1), "what is known goes on");
}

#[test]
fn nobody_begins_anew_beyond_the_limit() {
    let (mut member, mut seen) = who_knows(STREAMS_MAX - 1);
    let holds = streams(10, 2);
    let gone = Body::Gone { replica: first_life(10), counter: 1, holds };
    step(&mut member, &mut seen, says(gone.clone()));
    assert_eq!((member.counters().refused_streams, member.counters().jumps), (1, 0));
    assert_eq!((member.delivered(), seen.lsn), (&streams(1_000, STREAMS_MAX - 1), Lsn(1)), "nothing changed");
    // One stream fewer, and both find room.
    let (mut member, mut seen) = who_knows(STREAMS_MAX - 2);
    step(&mut member, &mut seen, says(gone));
    assert_eq!((member.counters().refused_streams, member.counters().jumps), (0, 1));
    assert_eq!(member.delivered().len(), STREAMS_MAX);
}

#[test]
fn questions_nobody_asked_are_bounded() {
    let (mut member, mut seen) = who_knows(0);
    for node in 10..10 + STREAMS_MAX as u64 + 2 {
        let gone = Body::Gone { replica: first_life(node), counter: 1, holds: VectorClock::new() };
        step(&mut member, &mut seen, says(gone));
    }
    assert_eq!(member.counters().refused_streams, 2);
    assert_eq!(member.note_gone(OTHER, Dot::new(first_life(9), 1)), Err(TooManyStreams));
}

#[test]
fn a_welcome_leaves_no_number_to_overflow() {
    let config = Config { joins: true, ..Config::new(ME, vec![ME, OTHER]) };
    let (mut member, mut seen) = recovered(config, vec![]);
    let welcome = |counter| Body::Welcome { holds: [(first_life(1), counter)].into_iter().collect() };
    for counter in [COUNTER_MAX + 1, u64::MAX] {
        let refused = Body::decode(Bytes::from(encoded(&welcome(counter)))).expect_err("refused");
        assert_eq!(refused.what, "a vector clock's counters below 2^63");
    }
    step(&mut member, &mut seen, says(welcome(COUNTER_MAX)));
    assert!(member.has_joined());
    let overloaded = Some(Reply::Refused { id: RequestId(1), why: Refusal::Overloaded });
    assert_eq!(propose(&mut member, &mut seen), overloaded, "its numbers are used up");
    step(&mut member, &mut seen, says(Body::Status { view: 0, holds: streams(3, 1) }));
}

#[test]
fn no_message_names_more_streams_than_the_limit() {
    let many = streams(10, STREAMS_MAX + 1);
    let envelope = |after| Envelope { dot: Dot::new(first_life(1), 1), after, body: Bytes::new() };
    let messages = [
        Body::Status { view: 0, holds: many.clone() },
        Body::Welcome { holds: many.clone() },
        Body::Gone { replica: first_life(1), counter: 1, holds: many.clone() },
        Body::Data { envelopes: vec![envelope(many.clone())] },
    ];
    for message in messages {
        let refused = Body::decode(Bytes::from(encoded(&message))).expect_err("refused");
        assert_eq!(refused.what, "a vector clock of fewer replicas");
    }
    let most = Body::Welcome { holds: streams(10, STREAMS_MAX) };
    assert_eq!(Body::decode(Bytes::from(encoded(&most))), Ok(most));
    let mut far = vec![2];
    for number in [first_life(1).0, 1, COUNTER_MAX + 1] {
        crate::clock::varint::put(number, &mut far);
    }
    assert_eq!(Body::decode(Bytes::from(far)).expect_err("refused").what, "a range from a first to a last");
}

#[test]
fn a_log_beyond_the_limit_is_refused() {
    let replayed = |second| {
        let mut recovery = Fifo::begin(Config::new(ME, vec![ME]), None, 1).expect("nothing to read");
        let jump = Jump { after_index: 0, to: streams(1_000, STREAMS_MAX) };
        recovery.replay(Lsn(1), Record::Jumped(jump)).expect("within the limit");
        recovery.replay(Lsn(2), second).map(|()| recovery.finish().delivered().len())
    };
    let envelope =
        Envelope { dot: Dot::new(first_life(1), 1), after: VectorClock::new(), body: Bytes::new() };
    let delivered =
        replayed(Record::Delivered { index: 1, stamp_ms: 0, envelope }).expect_err("one too many");
    let jumped = |first| replayed(Record::Jumped(Jump { after_index: 0, to: streams(first, 5) }));
    assert_eq!(delivered.what, "more streams than a member knows");
    assert_eq!(jumped(998).expect_err("two too many").what, "more streams than a member knows");
    assert_eq!(jumped(1_001), Ok(STREAMS_MAX), "all of them known");
}

/// The checkpoint covers deliveries after the jump. Who reads the log must not take the jump for one from there.
#[test]
fn a_jump_is_where_it_was_after_a_restart_too() {
    let to = streams(20, 2);
    let delivered: VectorClock = to.iter().chain([(first_life(2), 3)]).collect();
    let view = View::new(0, vec![ME, OTHER]);
    let meta = Meta { index: 5, stamp_ms: 0, joined: true, delivered, view };
    let jump = Jump { after_index: 2, to };
    let begin = || {
        let checkpoint = Bytes::from(encoded(&meta));
        Fifo::begin(Config::new(ME, vec![ME, OTHER]), Some(checkpoint), 1).expect("a meta of ours")
    };
    let mut recovery = begin();
    recovery.replay(Lsn(1), Record::Jumped(jump.clone())).expect("it was written");
    let member = recovery.finish();
    assert_eq!((member.last_jump(), member.index()), (Some(&jump), 5));
    let late = Record::Jumped(Jump { after_index: 6, ..jump });
    assert_eq!(begin().replay(Lsn(1), late).expect_err("refused").what, "a jump after a gap");
}
