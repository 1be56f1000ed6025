//! Replication: order, loss, conflicts, and what may be committed.

use keypact_protocol::{Incarnation, Input, NodeId, Refusal, Reply, RequestId};

use super::driver::{MS, World};
use crate::raft::{AppendOutcome, Body, Message, ProgressState, Role, Timer};

#[test]
fn commands_are_delivered_everywhere_in_order() {
    let mut world = World::new(3);
    world.elect_this(1);
    for request in 0..100 {
        world.propose(1, request, &std::format!("c{request}"));
    }
    world.advance(200);
    assert_eq!(world.applied(1).len(), 100);
    assert_eq!(world.applied(1), world.applied(2));
    assert_eq!(world.applied(1), world.applied(3));
    let own = &world.node(1).effects.deliveries;
    assert!(own[1..].iter().enumerate().all(|(at, d)| d.request == Some(RequestId(at as u64))));
    assert!(world.node(2).effects.deliveries.iter().all(|d| d.request.is_none()));
    assert!(own.windows(2).all(|pair| pair[0].stamp_ms <= pair[1].stamp_ms));
}

#[test]
fn the_leaders_own_copy_counts_once_durable() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.isolate(3);
    world.node_mut(1).syncs = false;
    world.propose(1, 1, "a");
    world.settle();
    assert_eq!(world.applied(1).len(), 0, "one durable copy, at n2");
    world.sync(1);
    assert_eq!(world.applied(1), ["a"]);
}

#[test]
fn a_followers_copy_counts_once_durable() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.isolate(3);
    world.node_mut(2).syncs = false;
    world.propose(1, 1, "a");
    world.settle();
    assert_eq!(world.applied(1).len(), 0);
    world.sync(2);
    world.settle();
    assert_eq!(world.applied(1), ["a"]);
}

#[test]
fn lost_appends_are_sent_again() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.propose(1, 1, "a");
    world.network.clear();
    world.advance(1_000);
    assert_eq!(world.applied(2), ["a"], "with nothing more to say, the heartbeat's reply tells");
    world.propose(1, 2, "b");
    world.network.clear();
    world.propose(1, 3, "c");
    world.settle();
    assert_eq!(world.applied(1), ["a", "b", "c"], "the gap is seen at once");
}

#[test]
fn an_uncommitted_entry_of_a_deposed_leader_is_replaced() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.isolate(1);
    world.propose(1, 1, "x");
    world.propose(1, 2, "y");
    world.elect_this(2);
    world.propose(2, 3, "z");
    world.settle();
    assert_eq!(world.replies(1), [], "not yet known to be deposed");
    world.heal();
    world.advance(1_000);
    assert_eq!(world.applied(1), ["z"]);
    assert_eq!(world.terms(1), world.terms(2));
    assert!(world.raft(1).counters().truncations > 0);
    let uncertain = [1, 2].map(|id| Reply::Uncertain { id: RequestId(id) });
    assert_eq!(world.replies(1), uncertain);
}

/// Figure 7 of the paper: whatever a follower's log is, it becomes the leader's.
#[test]
fn conflicting_logs_are_repaired_term_by_term() {
    let mut world = World::new(5);
    // Again and again n5 leads alone for a while, and the others go on without it.
    for _ in 0..10 {
        world.heal();
        world.advance(1_000);
        world.elect_this(5);
        world.isolate(5);
        for request in 0..5 {
            world.propose(5, request, "mine");
        }
        world.network.clear();
        world.crash(5);
        world.elect_this(1);
        for request in 0..3 {
            world.propose(1, request, "ours");
        }
        world.settle();
        world.restart(5);
    }
    world.heal();
    world.advance(2_000);
    let leader = world.leader().unwrap();
    for id in 1..=5 {
        assert_eq!(world.terms(id), world.terms(leader));
        assert_eq!(world.applied(id).len(), 30);
    }
}

/// Figure 8 of the paper: an entry of an older term on a majority is not committed by that.
#[test]
fn an_older_terms_entry_is_not_committed_by_counting() {
    let mut world = World::new(5);
    let before = |world: &mut World, leader| {
        world.heal();
        world.elect_this(leader);
    };
    // (a) n1 leads and replicates an entry to n2 only.
    before(&mut world, 1);
    for id in 3..=5 {
        world.isolate(id);
    }
    world.propose(1, 1, "two");
    world.settle();
    let index = world.raft(1).last().index;
    let old_term = world.raft(1).term();
    // (b) n1 is gone; n5 leads with the votes of n3 and n4 and writes its own entry at that index.
    world.crash(1);
    world.isolate(1);
    world.isolate(2);
    for id in 3..=5 {
        for other in 3..=5 {
            world.cut.remove(&(id, other));
        }
    }
    world.elect_this(5);
    world.crash(5);
    // (c) n1 is back, leads again, and copies the old entry to n3, but its own term's to nobody.
    world.heal();
    world.restart(1);
    world.now_ns += 600 * MS;
    world.isolate(5);
    for _ in 0..200 {
        world.fire(1, Timer::Election);
        while world.raft(1).role() != Role::Leader && world.deliver_one() {}
        if world.raft(1).role() == Role::Leader {
            break;
        }
        world.now_ns += 600 * MS;
    }
    let term = world.raft(1).term();
    assert!(term > old_term && world.raft(1).commit_index() < index);
    for id in [2, 3] {
        // Both hold the old entry, durably, and say so.
        let outcome = AppendOutcome::Match { index };
        let reply =
            Message { term, incarnation: Incarnation(1), body: Body::AppendReply { round: 0, outcome } };
        world.step(1, Input::Message { from: NodeId(id), message: reply });
    }
    assert!(world.raft(1).commit_index() < index, "three copies, but of an older term");
}

#[test]
fn a_delayed_duplicate_append_cuts_nothing() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.step_unsynced(1, Input::Timer(Timer::Heartbeat));
    world.settle();
    world.propose(1, 1, "a");
    let old = world.network.iter().find(|(_, to, _)| *to == NodeId(2)).unwrap().clone();
    world.settle();
    world.propose(1, 2, "b");
    world.settle();
    let last = world.raft(2).last();
    world.step(2, Input::Message { from: old.0, message: old.2 });
    assert_eq!(world.raft(2).last(), last);
    assert_eq!(world.raft(2).counters().truncations, 0);
}

#[test]
fn appends_to_a_silent_peer_are_bounded() {
    let mut world = World::with(3, |config| {
        config.max_inflight = 4;
        config.election_timeout_ms = 10_000;
    });
    world.now_ns += 20_000 * MS;
    world.elect_this(1);
    world.propose(1, 0, "warm");
    world.settle();
    world.isolate(3);
    for request in 1..100 {
        world.propose(1, request, "x");
        world.settle();
    }
    let peer = world.raft(1).peers().find(|peer| peer.id == NodeId(3)).unwrap();
    assert_eq!((peer.state, peer.inflight), (ProgressState::Replicate, 4));
    assert_eq!(world.applied(1).len(), 100);
    world.heal();
    world.advance(1_000);
    assert_eq!(world.applied(3).len(), 100);
}

#[test]
fn an_idle_group_sends_heartbeats_and_writes_nothing() {
    let mut world = World::new(3);
    let leader = world.elect();
    world.advance(1_000);
    let written: usize = (1..=3).map(|id| world.node(id).effects.log.len()).sum();
    world.now_ns += 50 * MS;
    world.fire(leader, Timer::Heartbeat);
    assert_eq!(world.network.len(), 2);
    let heartbeat = |message: &Message| matches!(message.body, Body::Heartbeat { .. });
    assert!(world.network.iter().all(|(_, _, message)| heartbeat(message)));
    world.advance(5_000);
    assert_eq!(written, (1..=3).map(|id| world.node(id).effects.log.len()).sum::<usize>());
}

#[test]
fn a_follower_refuses_proposals_and_names_the_leader() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.propose(2, 5, "a");
    let why = Refusal::NotLeader { leader: Some(NodeId(1)) };
    assert_eq!(world.replies(2), [Reply::Refused { id: RequestId(5), why }]);
}
