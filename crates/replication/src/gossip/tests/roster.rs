//! The catalog's side: who is admitted under which identity, who leaves when, and what is forgotten when.

use alloc::vec;
use alloc::vec::Vec;

use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::{Incarnation, NodeId};

use super::super::{Body, Message, Roster, RosterConfig, View};
use super::{GROUP, name, nodes, upto};

const RETENTION_NS: u64 = 1_000;

fn roster() -> Roster {
    let config =
        RosterConfig { group: GROUP, retention_ns: RETENTION_NS, serving_min: 2, acks: 1, replicas_max: 10 };
    let mut roster = Roster::new(config, View::of_founders(&nodes(4)));
    roster.start(0);
    roster
}

fn report(view: u64, folder: u64, replica: Option<ReplicaId>, version: DotContext) -> Message {
    let folder = Incarnation(folder);
    let body = Body::Report { folder, replica, serving: true, version, spent: Vec::new() };
    Message { group: GROUP, view, body }
}

/// A founder says in the present view what it has.
fn founder_says(roster: &mut Roster, node: u64, version: DotContext, now_ns: u64) -> bool {
    let message = report(roster.view().number, 0, Some(name(node, 0)), version);
    roster.hear(NodeId(node), &message, now_ns)
}

#[test]
fn who_lost_its_disk_gets_another_identity_once() {
    let mut roster = roster();
    let blank = report(0, 1, None, DotContext::new());
    assert!(roster.hear(NodeId(2), &blank, 1));
    let row = *roster.view().row(NodeId(2)).expect("it is wanted");
    assert_eq!((row.replica, row.folder, roster.view().number), (name(2, 1), Incarnation(1), 2));
    // It asks again before it has heard: nothing new. And what its former self had said comes too late.
    assert!(!roster.hear(NodeId(2), &blank, 2));
    assert!(!roster.hear(NodeId(2), &report(1, 0, Some(name(2, 0)), upto(name(2, 0), 9)), 3));
    assert!(roster.hear(NodeId(2), &report(2, 2, None, DotContext::new()), 4));
    assert_eq!(roster.view().row(NodeId(2)).map(|row| row.replica), Some(name(2, 2)));
    let mut again = Roster::new(
        RosterConfig { group: GROUP, retention_ns: 1, serving_min: 1, acks: 0, replicas_max: 10 },
        View::of_founders(&nodes(4)),
    );
    again.resume(roster.record());
    assert_eq!((again.view(), again.record()), (roster.view(), roster.record()));
}

#[test]
fn the_silent_lose_their_place_if_enough_others_serve() {
    let mut roster = roster();
    for node in [1, 2] {
        founder_says(&mut roster, node, DotContext::new(), RETENTION_NS);
    }
    assert!(roster.tick(RETENTION_NS + 1), "n3 and n4 never spoke");
    assert_eq!(roster.view().members.len(), 2);
    assert!(roster.view().row(NodeId(3)).is_none() && roster.view().row(NodeId(4)).is_none());
    // Only one is left that serves: it keeps the other's place.
    founder_says(&mut roster, 1, DotContext::new(), 3 * RETENTION_NS);
    assert!(!roster.tick(3 * RETENTION_NS + 1));
    // Who comes back does so under another identity, on the same folder.
    assert!(roster.hear(NodeId(3), &report(1, 0, Some(name(3, 0)), upto(name(3, 0), 4)), 3 * RETENTION_NS));
    assert_eq!(roster.view().row(NodeId(3)).map(|row| row.replica), Some(name(3, 1)));
}

#[test]
fn a_drained_member_leaves_once_enough_others_have_what_it_has() {
    let mut roster = roster();
    let own = upto(name(4, 0), 3);
    for node in 1..=3 {
        founder_says(&mut roster, node, DotContext::new(), 1);
    }
    assert!(roster.drain(NodeId(4)) && !roster.drain(NodeId(4)));
    assert!(roster.view().row(NodeId(4)).is_some_and(|row| row.draining));
    founder_says(&mut roster, 4, own.clone(), 2);
    founder_says(&mut roster, 1, own.clone(), 2);
    founder_says(&mut roster, 2, upto(name(4, 0), 2), 2);
    assert!(roster.view().row(NodeId(4)).is_some(), "acks is 1: two others must have all of it");
    // Of an older view: what was said in it may lack what was written since.
    let stale = report(1, 0, Some(name(3, 0)), own.clone());
    roster.hear(NodeId(3), &stale, 2);
    assert!(roster.view().row(NodeId(4)).is_some());
    assert!(founder_says(&mut roster, 2, own, 3));
    assert!(roster.view().row(NodeId(4)).is_none());
    // It is not wanted, and stays out until it is.
    assert!(!roster.hear(NodeId(4), &report(3, 0, None, DotContext::new()), 4));
    roster.join(NodeId(4));
    assert!(roster.hear(NodeId(4), &report(3, 0, None, DotContext::new()), 5));
    assert_eq!(roster.view().row(NodeId(4)).map(|row| row.replica), Some(name(4, 1)));
}

/// With n3 and n4 not heard of, only n1 has what n2 has, and at least two are to serve. Once they are not wanted any more, n1 is all there is.
#[test]
fn a_drained_member_stays_while_too_few_others_serve() {
    let mut roster = roster();
    assert!(roster.drain(NodeId(2)));
    founder_says(&mut roster, 1, DotContext::new(), 1);
    assert!(!founder_says(&mut roster, 2, DotContext::new(), 1));
    assert!(roster.drain(NodeId(3)));
    for node in [1, 2] {
        assert!(!founder_says(&mut roster, node, DotContext::new(), 2));
    }
    assert!(roster.drain(NodeId(4)));
    founder_says(&mut roster, 1, DotContext::new(), 3);
    assert!(founder_says(&mut roster, 2, DotContext::new(), 3));
    assert!(roster.view().row(NodeId(2)).is_none());
}

/// In a group whose n4 was lost: `known` says what each of the others has of it, and whether nothing of that lives.
fn forgets(known: [(u64, bool); 3], in_view: [bool; 3]) -> Vec<ReplicaId> {
    let mut roster = roster();
    for node in 1..=3 {
        founder_says(&mut roster, node, DotContext::new(), RETENTION_NS);
    }
    assert!(roster.tick(RETENTION_NS + 1), "n4 is out");
    let view = roster.view().number;
    for (node, ((last, is_spent), present)) in (1..).zip(known.into_iter().zip(in_view)) {
        let version = if last == 0 { DotContext::new() } else { upto(name(4, 0), last) };
        let spent = if is_spent { vec![name(4, 0)] } else { Vec::new() };
        let body = Body::Report {
            folder: Incarnation(0),
            replica: Some(name(node, 0)),
            serving: true,
            version,
            spent,
        };
        let view = if present { view } else { view - 1 };
        roster.hear(NodeId(node), &Message { group: GROUP, view, body }, RETENTION_NS + 2);
    }
    roster.view().forgets.iter().map(|forget| forget.replica).collect()
}

#[test]
fn names_are_dropped_once_all_members_agree_on_them() {
    let all = [true; 3];
    assert_eq!(forgets([(5, true); 3], all), [name(4, 0)]);
    // One lacks an event; on one something lives; one has none of it; one said so in an older view.
    assert_eq!(forgets([(5, true), (4, true), (5, true)], all), []);
    assert_eq!(forgets([(5, true), (5, true), (5, false)], all), []);
    assert_eq!(forgets([(5, true), (0, false), (5, true)], all), []);
    assert_eq!(forgets([(5, true); 3], [true, true, false]), []);
}
