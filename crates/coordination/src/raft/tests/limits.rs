//! Limits and configurations.

use keypact_protocol::{Incarnation, NodeId, Refusal, Reply, RequestId};

use std::vec::Vec;

use super::driver::{World, members};
use crate::raft::{Config, ConfigError};

#[test]
fn configurations_that_cant_work_are_refused() {
    let good = || Config::new(NodeId(1), members(3));
    assert_eq!(good().validate(), Ok(()));
    type Change = fn(&mut Config);
    let cases: [(Change, ConfigError); 9] = [
        (|c| c.members.push((NodeId(0), Incarnation(1))), ConfigError::ReservedId),
        (|c| c.members = members(8), ConfigError::MemberCount),
        (|c| c.members.push((NodeId(1), Incarnation(2))), ConfigError::DuplicateMember),
        (|c| c.id = NodeId(9), ConfigError::NotAMember),
        (|c| c.incarnation = Incarnation(9), ConfigError::NotAMember),
        (|c| c.max_inflight = 0, ConfigError::Zero),
        (|c| c.election_timeout_ms = 99, ConfigError::ElectionTimeoutTooShort),
        (|c| c.drift_bound_ppm = 500_000, ConfigError::DriftBoundTooLarge),
        (|c| c.tail_limit_bytes = 1_000, ConfigError::TailTooSmall),
    ];
    for (change, error) in cases {
        let mut config = good();
        change(&mut config);
        assert_eq!(config.validate(), Err(error));
    }
    let joins = Config { members: Vec::new(), ..good() };
    assert_eq!(joins.validate(), Ok(()));
}

#[test]
fn commands_too_large_and_too_many_are_refused() {
    let mut world = World::with(3, |config| {
        config.max_command_bytes = 100;
        config.checkpoint_after_bytes = 500;
        config.tail_limit_bytes = 1_000;
    });
    world.elect_this(1);
    let long = "x".repeat(101);
    world.propose(1, 1, &long);
    assert_eq!(world.replies(1), [Reply::Refused { id: RequestId(1), why: Refusal::TooLarge }]);
    world.isolate(1);
    for request in 2..12 {
        world.propose(1, request, &long[..100]);
    }
    let refused = world.replies(1);
    let overloaded = |reply: &Reply| matches!(reply, Reply::Refused { why: Refusal::Overloaded, .. });
    assert!(refused.len() >= 3 && refused.iter().all(overloaded), "{refused:?}");
    assert!(world.raft(1).tail().len_bytes() <= 1_000);
    world.heal();
    world.advance(2_000);
    let leader = world.leader().unwrap();
    for request in 20..60 {
        world.propose(leader, request, "small");
        world.settle();
    }
    world.advance(1_000);
    assert!(world.applied(2).iter().filter(|command| *command == "small").count() == 40);
    assert_eq!(world.applied(1), world.applied(3));
}

#[test]
fn a_follower_without_room_takes_the_rest_after_its_checkpoint() {
    let mut world = World::with(3, |config| {
        config.max_command_bytes = 100;
        config.checkpoint_after_bytes = 500;
        config.tail_limit_bytes = 1_000;
    });
    world.elect_this(1);
    for request in 0..200 {
        world.propose(1, request, &"y".repeat(90));
        // n3's checkpoints are slow.
        while world.deliver_one() {}
        world.serve_parent(1);
        world.serve_parent(2);
    }
    assert!(world.raft(3).counters().appends_without_room > 0);
    assert!(world.raft(3).tail().len_bytes() <= 1_000);
    world.advance(3_000);
    assert_eq!(world.applied(3), world.applied(1));
    assert!(!world.applied(1).is_empty());
}
