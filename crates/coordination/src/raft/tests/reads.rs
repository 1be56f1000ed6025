//! Reads: confirmed, by lease, and never stale.

use keypact_protocol::{NodeId, ReadLevel, Refusal, Reply, RequestId};

use super::driver::{MS, World};
use crate::raft::{Body, Role, Timer};

fn answered(world: &mut World, id: u64) -> Option<u64> {
    match world.replies(id).as_slice() {
        [] => None,
        [Reply::ReadFrom { index, .. }] => Some(*index),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_linearizable_read_waits_for_a_majority() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.propose(1, 1, "a");
    world.settle();
    world.read(1, 2, ReadLevel::Linearizable);
    assert_eq!(answered(&mut world, 1), None);
    world.settle();
    assert_eq!(answered(&mut world, 1), Some(2));
}

#[test]
fn one_round_serves_all_reads_of_a_batch() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.advance(100);
    let reads = (0..50).map(|id| {
        let level = ReadLevel::Linearizable;
        keypact_protocol::Input::Request(keypact_protocol::Request::Read { id: RequestId(id), level })
    });
    world.batch(1, reads.collect());
    assert_eq!(world.network.len(), 2, "one heartbeat to each peer");
    world.settle();
    assert_eq!(world.replies(1).len(), 50);
}

#[test]
fn an_answer_to_an_older_round_does_not_confirm() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.advance(100);
    world.now_ns += 50 * MS;
    world.fire(1, Timer::Heartbeat);
    while world.network.front().is_some_and(|(_, _, m)| matches!(m.body, Body::Heartbeat { .. })) {
        world.deliver_one();
    }
    // Both replies of the round before are on their way when the read comes.
    world.read(1, 1, ReadLevel::Linearizable);
    world.deliver_one();
    world.deliver_one();
    assert_eq!(answered(&mut world, 1), None);
    world.settle();
    assert!(answered(&mut world, 1).is_some());
}

#[test]
fn a_read_waits_for_a_commit_in_the_leaders_own_term() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.propose(1, 1, "a");
    world.settle();
    // n2 takes over; its first entry stays on its own disk.
    world.now_ns += 600 * MS;
    world.isolate(1);
    world.node_mut(2).syncs = true;
    world.node_mut(3).syncs = true;
    world.fire(2, Timer::Election);
    while world.raft(2).role() != Role::Leader && world.deliver_one() {}
    assert_eq!(world.raft(2).role(), Role::Leader);
    world.node_mut(3).syncs = false;
    world.read(2, 9, ReadLevel::Linearizable);
    world.settle();
    assert_eq!(answered(&mut world, 2), None, "confirmed, but the first entry is not committed");
    world.sync(3);
    world.settle();
    assert_eq!(answered(&mut world, 2), Some(3));
}

#[test]
fn a_deposed_leaders_read_is_refused() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.settle();
    world.isolate(1);
    world.read(1, 1, ReadLevel::Linearizable);
    world.elect_this(2);
    assert_eq!(answered(&mut world, 1), None);
    world.heal();
    world.advance(500);
    let why = Refusal::NotLeader { leader: None };
    let refused = Reply::Refused { id: RequestId(1), why };
    let no_quorum = Reply::Refused { id: RequestId(1), why: Refusal::NoQuorum };
    let replies = world.replies(1);
    assert!(replies == [refused] || replies == [no_quorum], "{replies:?}");
}

#[test]
fn a_lease_read_is_answered_at_once_and_only_within_the_lease() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.advance(100);
    world.fire(1, Timer::Heartbeat);
    let round_ns = world.now_ns;
    world.settle();
    world.isolate(1);
    // 300 ms less 2 %, counted from the sending of the round.
    world.now_ns = round_ns + 293 * MS;
    world.read(1, 1, ReadLevel::Lease);
    assert_eq!(answered(&mut world, 1), Some(1));
    world.now_ns = round_ns + 294 * MS;
    world.read(1, 2, ReadLevel::Lease);
    assert_eq!(answered(&mut world, 1), None, "past the lease it falls back");
    assert_eq!(world.raft(1).counters().lease_reads, 1);
    assert_eq!(world.raft(1).counters().lease_fallbacks, 1);
}

#[test]
fn a_paused_leader_does_not_trust_its_lease() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.advance(100);
    assert!(world.raft(1).lease_holds(world.now_ns));
    world.now_ns += 60_000 * MS;
    world.read(1, 1, ReadLevel::Lease);
    assert_eq!(answered(&mut world, 1), None);
}

#[test]
fn the_lease_ends_before_anybody_else_can_lead() {
    for seed in 0..20 {
        let mut world = World::new(5);
        world.seed = seed;
        world.elect_this(1);
        world.advance(500);
        world.isolate(1);
        while world.leader() == Some(1) {
            world.advance(1);
            let leaders = (2..=5).filter(|id| world.raft(*id).role() == Role::Leader).count();
            assert!(leaders == 0 || !world.raft(1).lease_holds(world.now_ns));
        }
    }
}

#[test]
fn without_leases_a_lease_read_asks_the_majority() {
    let mut world = World::with(3, |config| config.lease = false);
    world.elect_this(1);
    world.advance(100);
    world.read(1, 1, ReadLevel::Lease);
    assert_eq!(answered(&mut world, 1), None);
    world.settle();
    assert_eq!(answered(&mut world, 1), Some(1));
}

#[test]
fn a_stale_read_is_answered_anywhere_and_others_only_by_the_leader() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.read(2, 1, ReadLevel::Stale);
    assert_eq!(answered(&mut world, 2), Some(0));
    world.read(2, 2, ReadLevel::Lease);
    let why = Refusal::NotLeader { leader: Some(NodeId(1)) };
    assert_eq!(world.replies(2), [Reply::Refused { id: RequestId(2), why }]);
}

#[test]
fn reads_beyond_the_limit_are_refused() {
    let mut world = World::with(3, |config| config.max_pending_reads = 2);
    world.elect_this(1);
    for id in 0..3 {
        world.read(1, id, ReadLevel::Linearizable);
    }
    let why = Refusal::Overloaded;
    assert_eq!(world.replies(1), [Reply::Refused { id: RequestId(2), why }]);
    world.settle();
    assert_eq!(world.replies(1).len(), 2);
}

#[test]
fn a_lone_member_reads_at_once() {
    let mut world = World::new(1);
    world.read(1, 1, ReadLevel::Linearizable);
    assert_eq!(answered(&mut world, 1), Some(1));
    world.read(1, 2, ReadLevel::Lease);
    assert_eq!(answered(&mut world, 1), Some(1));
}
