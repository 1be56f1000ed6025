//! What a sequencer's log refuses at recovery, and that nothing said by others makes a member panic.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{Context, Draft, Input, NodeId, Protocol, Recover, Request, RequestId};
use keypact_simulator::CollectingSink;
use proptest::prelude::*;

use super::{order, said};
use crate::total::sequencer::{
    Body, CATALOG, Config, Entry, HardState, Message, Record, Role, Sequencer, Viewstamp,
};

type Seen = CollectingSink<Sequencer>;

fn config() -> Config {
    Config::new(NodeId(1), (1..=3).map(NodeId).collect())
}

fn step(member: &mut Sequencer, seen: &mut Seen, input: Input<Sequencer>) {
    let context = Context { now_ns: 1_000_000, wall_ms: 5 };
    member.handle(input, context, seen);
    member.flush(context, seen);
    member.assert_invariants();
}

fn hears(member: &mut Sequencer, seen: &mut Seen, from: NodeId, epoch: u64, body: Body) {
    step(member, seen, Input::Message { from, message: Message { epoch, body } });
}

fn at(epoch: u64, position: u64) -> Viewstamp {
    Viewstamp { epoch, position }
}

fn entry(epoch: u64, position: u64) -> Entry {
    Entry { at: at(epoch, position), stamp_ms: 0, command: Bytes::from_static(b"x") }
}

fn recovered(records: Vec<Record>) -> Result<(Sequencer, Seen), &'static str> {
    let mut recovery = Sequencer::begin(config(), None, 1).map_err(|error| error.what)?;
    let mut seen = Seen::default();
    for record in records {
        seen.lsn = seen.lsn.next();
        recovery.replay(seen.lsn, record).map_err(|error| error.what)?;
    }
    Ok((recovery.finish(), seen))
}

#[test]
fn a_log_that_makes_no_sense_is_refused() {
    let hard = |epoch| Record::HardState(HardState { epoch, sequencer: Some(NodeId(2)) });
    let cases = [
        (vec![hard(3), hard(2)], "an epoch that falls"),
        (vec![Record::Entry(entry(1, 1)), Record::Entry(entry(1, 3))], "an entry that leaves a gap"),
        (
            vec![Record::Entry(entry(2, 1)), Record::Entry(entry(1, 2))],
            "an entry of an older epoch than the one before",
        ),
    ];
    for (records, what) in cases {
        assert_eq!(recovered(records).err(), Some(what));
    }
    let replaced = vec![Record::Entry(entry(1, 1)), Record::Entry(entry(1, 2)), Record::Entry(entry(2, 1))];
    let (member, _) = recovered(replaced).expect("what is replaced is gone");
    assert_eq!((member.last(), member.hard_state().epoch), (at(2, 1), 2));
}

/// Three members, of which this one alone can be heard, have no majority: it goes on asking.
#[test]
fn a_sequencer_waits_for_a_majority() {
    let (mut member, mut seen) = recovered(vec![]).expect("nothing to refuse");
    hears(&mut member, &mut seen, CATALOG, 1, Body::Assign);
    let written = seen.lsn;
    step(&mut member, &mut seen, Input::Durable(written));
    assert_eq!(member.role(), Role::Collecting);
    hears(&mut member, &mut seen, NodeId(2), 1, Body::Holds { last: Viewstamp::ZERO });
    assert_eq!((member.role(), member.last()), (Role::Sequencing, at(1, 1)));
    let command = Draft::copy_of(b"x");
    step(&mut member, &mut seen, Input::Request(Request::Propose { id: RequestId(4), command }));
    let written = seen.lsn;
    step(&mut member, &mut seen, Input::Durable(written));
    assert_eq!((member.committed(), seen.delivered.len()), (0, 0), "one disk is no majority");
    hears(&mut member, &mut seen, NodeId(3), 1, Body::Accept { held: 2 });
    let delivered: Vec<u64> = seen.delivered.iter().map(|delivery| delivery.index).collect();
    assert_eq!((member.committed(), delivered), (2, vec![1, 2]));
    // A newer epoch ends it.
    hears(&mut member, &mut seen, NodeId(3), 2, Body::Collect);
    assert_eq!(member.role(), Role::Member);
    let said = |(to, message): &(NodeId, Message)| (*to, message.epoch, message.body.clone());
    assert_eq!(seen.sent.last().map(said), Some((NodeId(3), 2, Body::Holds { last: at(1, 2) })));
}

#[test]
fn who_sequenced_before_a_restart_does_not_go_on() {
    let hard = HardState { epoch: 4, sequencer: Some(NodeId(1)) };
    let (mut member, mut seen) = recovered(vec![Record::HardState(hard)]).expect("nothing to refuse");
    hears(&mut member, &mut seen, CATALOG, 4, Body::Assign);
    assert_eq!((member.role(), member.counters().refused_to_resume), (Role::Member, 1));
    hears(&mut member, &mut seen, CATALOG, 5, Body::Assign);
    assert_eq!(member.role(), Role::Collecting);
}

#[test]
fn an_epoch_has_one_sequencer() {
    let (mut member, mut seen) = recovered(vec![]).expect("nothing to refuse");
    let order = |position| Body::Order { prev: at(0, 0), entries: vec![entry(3, position)], committed: 0 };
    hears(&mut member, &mut seen, NodeId(2), 3, order(1));
    assert_eq!(member.last(), at(3, 1));
    hears(&mut member, &mut seen, NodeId(3), 3, order(1));
    hears(&mut member, &mut seen, CATALOG, 3, Body::Assign);
    assert_eq!((member.counters().refused_contradictions, member.role()), (2, Role::Member));
    hears(&mut member, &mut seen, NodeId(3), 2, Body::Collect);
    assert_eq!((member.counters().refused_stale, member.hard_state().epoch), (1, 3));
}

/// What is equal stays: cutting it off and writing it again would leave a moment in which a crash takes what was answered for.
#[test]
fn a_late_order_cuts_nothing_off() {
    let (mut member, mut seen) = recovered(vec![]).expect("nothing to refuse");
    let order = |entries| Body::Order { prev: at(0, 0), entries, committed: 0 };
    hears(&mut member, &mut seen, NodeId(2), 1, order(vec![entry(1, 1), entry(1, 2), entry(1, 3)]));
    let written = seen.lsn;
    hears(&mut member, &mut seen, NodeId(2), 1, order(vec![entry(1, 1)]));
    assert_eq!((member.last(), seen.lsn), (at(1, 3), written));
    // What differs goes, with all behind it.
    hears(&mut member, &mut seen, NodeId(3), 2, order(vec![entry(1, 1), entry(2, 2)]));
    assert_eq!((member.last(), member.counters().truncated), (at(2, 2), 2));
}

/// What was answered for stays, whatever the same sequencer says later.
#[test]
fn an_order_against_what_was_answered_is_refused() {
    let (mut member, mut seen) = recovered(vec![]).expect("nothing to refuse");
    let order = |entries| Body::Order { prev: at(0, 0), entries, committed: 0 };
    hears(&mut member, &mut seen, NodeId(2), 2, order(vec![entry(1, 1), entry(1, 2)]));
    hears(&mut member, &mut seen, NodeId(2), 2, order(vec![entry(2, 1)]));
    assert_eq!((member.last(), member.counters().refused_contradictions), (at(1, 2), 1));
}

/// One member speaks more than the others, so that it says many things in one epoch.
fn from() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(2_u64), 2 => 0..4_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Others may say what they like, as long as it can be decoded.
    #[test]
    fn nothing_said_makes_a_member_panic(
        heard in prop::collection::vec((from(), 1..4_u64, prop_oneof![order(), said()], any::<bool>()), 0..60),
        assigned in any::<bool>(),
    ) {
        let (mut member, mut seen) = recovered(vec![]).expect("nothing to refuse");
        if assigned {
            hears(&mut member, &mut seen, CATALOG, 1, Body::Assign);
        }
        for (from, epoch, body, durable) in heard {
            hears(&mut member, &mut seen, NodeId(from), epoch, body);
            if durable {
                let lsn = seen.lsn;
                step(&mut member, &mut seen, Input::Durable(lsn));
            }
        }
    }
}
