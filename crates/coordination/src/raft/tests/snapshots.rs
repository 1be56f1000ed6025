//! Checkpoints, the log before them, and snapshots to members that lag.

use keypact_protocol::{Input, Lsn, NodeId, SnapshotInput};

use super::driver::World;
use crate::raft::{Body, ProgressState, Record, SnapshotOutcome};

fn small() -> World {
    World::with(3, |config| config.checkpoint_after_bytes = 1_000)
}

fn write(world: &mut World, count: u64) {
    for request in 0..count {
        let leader = world.leader().unwrap();
        world.propose(leader, request, &std::format!("command {request}"));
        world.settle();
    }
}

#[test]
fn a_grown_tail_is_checkpointed_and_the_log_dropped() {
    let mut world = small();
    world.elect_this(1);
    write(&mut world, 100);
    for id in 1..=3 {
        let raft = world.raft(id);
        assert!(raft.counters().checkpoints > 1);
        assert!(raft.tail().len_bytes() < 1_200, "n{id} holds {} bytes", raft.tail().len_bytes());
        assert!(world.node(id).effects.dropped_before > Lsn(10));
        world.crash(id);
        world.restart(id);
    }
    world.elect();
    world.advance(200);
    assert_eq!(world.applied(1).len(), 100);
    assert_eq!(world.applied(1), world.applied(2));
}

#[test]
fn the_log_is_dropped_only_once_the_vote_is_written_anew() {
    let mut world = small();
    world.elect_this(1);
    for request in 0..10 {
        world.propose(1, request, "some command of some length");
    }
    world.settle();
    world.node_mut(1).syncs = false;
    let before = world.node(1).effects.dropped_before;
    for request in 0..10 {
        world.propose(1, request, "some command of some length");
    }
    world.settle();
    let written = world.node(1).effects.log.last().unwrap().1.clone();
    assert!(matches!(written, Record::HardState(_)), "{written:?}");
    assert_eq!(world.node(1).effects.dropped_before, before);
    world.sync(1);
    assert!(world.node(1).effects.dropped_before > before);
}

#[test]
fn a_node_that_wants_a_shorter_log_gets_it_from_an_idle_group() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.propose(1, 1, "a");
    world.settle();
    world.step(1, Input::Compact);
    world.settle();
    assert_eq!(world.raft(1).counters().checkpoints, 1);
    assert!(world.raft(1).tail().is_empty());
    let dropped = world.node(1).effects.dropped_before;
    // Nothing was delivered since: only the hard state is written anew.
    world.step(1, Input::Compact);
    world.settle();
    assert_eq!(world.raft(1).counters().checkpoints, 1);
    assert!(world.node(1).effects.dropped_before > dropped);
    world.crash(1);
    world.restart(1);
    assert_eq!((world.raft(1).commit_index(), world.applied(1).len()), (2, 1));
}

#[test]
fn a_lagging_member_gets_a_snapshot_while_entries_arrive() {
    let mut world = small();
    world.elect_this(1);
    write(&mut world, 10);
    world.isolate(3);
    write(&mut world, 100);
    world.heal();
    for request in 0..400 {
        world.propose(1, request, "more");
        for _ in 0..4 {
            world.deliver_one();
        }
        for id in 1..=3 {
            world.serve_parent(id);
        }
        if request % 10 == 0 {
            world.advance(20);
        }
    }
    world.advance(2_000);
    assert!(world.raft(3).counters().snapshots_installed > 0);
    assert_eq!(world.applied(3), world.applied(1));
    let peer = world.raft(1).peers().find(|peer| peer.id == NodeId(3)).unwrap();
    assert_eq!(peer.state, ProgressState::Replicate);
    world.crash(3);
    world.restart(3);
    world.advance(1_000);
    assert_eq!(world.applied(3), world.applied(1));
}

#[test]
fn lost_chunks_and_answers_are_repeated() {
    let mut world = small();
    world.elect_this(1);
    world.isolate(3);
    write(&mut world, 100);
    world.heal();
    let mut dropped = 0_u64;
    for _ in 0..20_000 {
        let about_snapshots = world.network.front().is_some_and(|(_, _, message)| {
            matches!(message.body, Body::Snapshot { .. } | Body::SnapshotReply { .. })
        });
        if about_snapshots && dropped.is_multiple_of(3) {
            world.network.pop_front();
        }
        dropped += u64::from(about_snapshots);
        let any = world.deliver_one();
        for id in 1..=3 {
            world.serve_parent(id);
        }
        if !any && world.network.is_empty() {
            if world.raft(3).counters().snapshots_installed > 0 {
                break;
            }
            world.now_ns += 50_000_000;
            world.fire(1, crate::raft::Timer::Heartbeat);
        }
    }
    assert!(dropped > 10);
    world.advance(1_000);
    assert_eq!(world.applied(3), world.applied(1));
}

#[test]
fn a_failed_read_and_a_failed_install_begin_again() {
    let mut world = small();
    world.elect_this(1);
    world.isolate(3);
    write(&mut world, 60);
    world.heal();
    world.step(1, Input::Timer(crate::raft::Timer::Heartbeat));
    while world.raft(1).counters().snapshot_chunks_sent < 2 {
        if !world.deliver_one() {
            world.advance(10);
        }
        world.serve_parent(1);
        world.serve_parent(3);
    }
    world.step(1, Input::Snapshot(SnapshotInput::ReadFailed { to: NodeId(3) }));
    world.step(3, Input::Snapshot(SnapshotInput::InstallFailed));
    world.advance(3_000);
    assert_eq!(world.applied(3), world.applied(1));
}

#[test]
fn an_old_snapshot_does_not_take_back_what_was_acknowledged() {
    let mut world = small();
    world.elect_this(1);
    world.isolate(3);
    write(&mut world, 60);
    world.heal();
    let mut chunks = std::vec::Vec::new();
    for _ in 0..500 {
        if let Some((from, to, message)) = world.network.front().cloned()
            && matches!(message.body, Body::Snapshot { .. })
        {
            chunks.push((from, to, message));
        }
        if !world.deliver_one() {
            world.now_ns += 50_000_000;
            world.fire(1, crate::raft::Timer::Heartbeat);
        }
        world.serve_parent(1);
        world.serve_parent(3);
    }
    write(&mut world, 5);
    world.advance(200);
    let last = world.raft(3).last();
    let state = world.applied(3);
    assert!(world.network.is_empty() && chunks.len() > 3, "{} chunks", chunks.len());
    for (from, to, message) in chunks {
        world.step(to.0, Input::Message { from, message });
        world.serve_parent(3);
    }
    assert_eq!((world.raft(3).last(), world.applied(3)), (last, state));
    assert!(world.network.iter().any(|(_, _, message)| matches!(
        message.body,
        Body::SnapshotReply { outcome: SnapshotOutcome::Installed, .. }
    )));
}
