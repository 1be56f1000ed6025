//! Elections: one leader, no disturbed leaders, no vote before the disk has it.

use keypact_protocol::{Incarnation, Input, NodeId, Reply, RequestId};

use super::driver::{MS, World};
use crate::raft::{Body, Message, Role, Timer};

#[test]
fn three_members_elect_one_leader_and_stay_with_it() {
    let mut world = World::new(3);
    let leader = world.elect();
    let term = world.raft(leader).term();
    world.advance(5_000);
    assert_eq!(world.leader(), Some(leader));
    for id in 1..=3 {
        assert_eq!(world.raft(id).term(), term);
        assert_eq!(world.raft(id).leader(), Some(NodeId(leader)));
        assert_eq!(world.raft(id).commit_index(), 1, "n{id} knows that the first entry is committed");
    }
}

#[test]
fn a_lone_member_leads_at_once_and_commits() {
    let mut world = World::new(1);
    assert_eq!(world.leader(), Some(1));
    world.propose(1, 7, "a");
    assert_eq!(world.applied(1), ["a"]);
    assert_eq!(world.node(1).effects.deliveries[1].request, Some(RequestId(7)));
}

#[test]
fn a_killed_leader_is_replaced_soon_after_the_hint() {
    for seed in 1..20 {
        let mut world = World::new(3);
        world.seed = seed;
        let old = world.elect();
        world.advance(200);
        world.crash(old);
        let killed_ns = world.now_ns;
        for id in 1..=3 {
            world.step(id, Input::Unreachable(NodeId(old)));
        }
        while world.leader().is_none() {
            world.advance(5);
            assert!(world.now_ns < killed_ns + 450 * MS, "seed {seed}");
        }
        // Never before the lease of the old leader has ended, which it last renewed within a heartbeat before its death.
        assert!(world.now_ns >= killed_ns + 245 * MS, "seed {seed}");
    }
}

#[test]
fn a_member_that_was_cut_off_does_not_depose_the_leader() {
    let mut world = World::new(3);
    let leader = world.elect();
    let term = world.raft(leader).term();
    let cut = if leader == 3 { 1 } else { 3 };
    world.isolate(cut);
    world.advance(10_000);
    assert_eq!(world.raft(cut).role(), Role::PreCandidate);
    assert_eq!(world.raft(cut).term(), term, "pre-votes raise no term");
    world.heal();
    world.advance(1_000);
    assert_eq!((world.leader(), world.raft(leader).term()), (Some(leader), term));
    assert_eq!(world.raft(cut).leader(), Some(NodeId(leader)));
}

#[test]
fn a_member_ahead_in_terms_gets_its_leader_back() {
    let mut world = World::new(3);
    world.elect_this(1);
    // A vote request that only n3 sees raises n3's term; it heard nobody for long.
    world.isolate(3);
    world.advance(1_000);
    let last = world.raft(1).last();
    let stray = Message { term: 9, incarnation: Incarnation(1), body: Body::Vote { last, transfer: false } };
    world.step(3, Input::Message { from: NodeId(2), message: stray });
    assert_eq!(world.raft(3).term(), 9);
    world.heal();
    world.advance(2_000);
    let leader = world.leader().unwrap();
    assert!(world.raft(leader).term() > 9);
    assert_eq!(world.raft(3).leader(), Some(NodeId(leader)));
}

#[test]
fn a_vote_waits_for_the_disk() {
    let mut world = World::new(3);
    world.now_ns += 600 * MS;
    for id in 1..=3 {
        world.node_mut(id).syncs = false;
    }
    world.fire(1, Timer::Election);
    world.settle();
    assert_eq!(world.raft(1).role(), Role::Candidate);
    assert!(world.network.is_empty(), "the request waits for the own vote's sync");
    world.sync(1);
    world.settle();
    assert_eq!(world.raft(1).role(), Role::Candidate, "the others' votes wait for theirs");
    world.sync(2);
    world.settle();
    assert_eq!(world.raft(1).role(), Role::Leader);
}

#[test]
fn a_voter_that_crashes_does_not_vote_twice() {
    let mut world = World::new(3);
    world.now_ns += 600 * MS;
    let last = world.raft(2).last();
    let ask =
        |term| Message { term, incarnation: Incarnation(1), body: Body::Vote { last, transfer: false } };
    world.step(2, Input::Message { from: NodeId(1), message: ask(5) });
    world.crash(2);
    world.restart(2);
    world.now_ns += 600 * MS;
    world.network.clear();
    world.step(2, Input::Message { from: NodeId(3), message: ask(5) });
    let (_, to, reply) = world.network.pop_front().unwrap();
    assert_eq!((to, reply.body), (NodeId(3), Body::VoteReply { granted: false, candidate: Incarnation(1) }));
}

#[test]
fn a_restarted_member_keeps_silent_for_an_election_timeout() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.settle();
    world.crash(2);
    world.restart(2);
    let last = world.raft(1).last();
    let ask = Message { term: 50, incarnation: Incarnation(1), body: Body::Vote { last, transfer: false } };
    world.network.clear();
    world.now_ns += 299 * MS;
    world.step(2, Input::Message { from: NodeId(3), message: ask.clone() });
    assert!(world.network.is_empty(), "a lease may still rely on it");
    assert_eq!(world.raft(2).counters().votes_withheld, 1);
    world.now_ns += 2 * MS;
    world.step(2, Input::Message { from: NodeId(3), message: ask });
    assert_eq!(world.network[0].2.body, Body::VoteReply { granted: true, candidate: Incarnation(1) });
}

#[test]
fn a_leader_without_a_majority_steps_down_and_says_uncertain() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.isolate(1);
    world.propose(1, 1, "lost");
    world.advance(400);
    assert_eq!(world.raft(1).role(), Role::Follower);
    assert_eq!(world.raft(1).counters().stepped_down_no_quorum, 1);
    assert_eq!(world.replies(1), [Reply::Uncertain { id: RequestId(1) }]);
}

#[test]
fn a_leader_whose_disk_hangs_steps_down_and_does_not_campaign() {
    let mut world = World::new(3);
    world.elect_this(1);
    world.node_mut(1).syncs = false;
    world.propose(1, 1, "a");
    world.settle();
    assert!(world.applied(1).contains(&"a".into()), "two disks are a majority");
    world.advance(1_200);
    assert_eq!(world.raft(1).counters().stepped_down_disk_hangs, 1);
    world.advance(3_000);
    let leader = world.leader().unwrap();
    assert_ne!(leader, 1);
    // Cut off from the new leader it still does not campaign.
    world.isolate(1);
    world.advance(3_000);
    assert!(world.raft(1).counters().campaigns_held_back > 0);
    assert_eq!(world.raft(1).counters().pre_votes, world.raft(1).counters().elections);
}

#[test]
fn strangers_and_other_lives_are_refused() {
    let mut world = World::new(3);
    world.elect_this(1);
    let say = |incarnation, body: &Body| {
        let (incarnation, body) = (Incarnation(incarnation), body.clone());
        Message { term: 99, incarnation, body }
    };
    let answer = Body::HeartbeatReply { round: 1 };
    let heartbeat = Body::Heartbeat { commit: 0, round: 1 };
    // Answers count, so they must come from a member in its present life; what a life said that is over counts in no case.
    for (from, message) in
        [(3, say(2, &answer)), (8, say(1, &answer)), (3, say(0, &heartbeat)), (2, say(1, &heartbeat))]
    {
        world.step(2, Input::Message { from: NodeId(from), message });
    }
    assert_eq!(world.raft(2).counters().refused_strangers, 4);
    assert!(world.raft(2).term() < 99);
}

#[test]
fn a_chain_of_links_deposes_nobody() {
    // n1 leads; n3 hears n2 only. n3 asks for pre-votes again and again; n2, who hears n1, refuses.
    let mut world = World::new(3);
    world.elect_this(1);
    let term = world.raft(1).term();
    world.cut.insert((1, 3));
    world.cut.insert((3, 1));
    world.advance(20_000);
    assert_eq!((world.leader(), world.raft(1).term()), (Some(1), term));
    assert_eq!(world.raft(3).term(), term);
}

#[test]
fn a_disk_that_stops_answering_during_pre_votes_ends_the_campaign() {
    let mut world = World::new(3);
    world.now_ns += 600 * MS;
    world.node_mut(1).syncs = false;
    // A newer term to write down, which does not reach the disk.
    let last = world.raft(1).last();
    let ask = Message { term: 5, incarnation: Incarnation(1), body: Body::Vote { last, transfer: false } };
    world.step(1, Input::Message { from: NodeId(3), message: ask });
    world.network.clear();
    world.now_ns += 900 * MS;
    world.fire(1, Timer::Election);
    assert_eq!(world.raft(1).role(), Role::PreCandidate);
    world.now_ns += 200 * MS;
    world.settle();
    assert_eq!((world.raft(1).role(), world.raft(1).term()), (Role::Follower, 5));
    assert_eq!(world.raft(1).counters().campaigns_held_back, 1);
}

#[test]
fn members_behind_in_terms_help_one_that_is_ahead() {
    let mut world = World::new(3);
    world.now_ns += 600 * MS;
    let last = world.raft(1).last();
    let ask = Message { term: 5, incarnation: Incarnation(1), body: Body::Vote { last, transfer: false } };
    world.step(1, Input::Message { from: NodeId(3), message: ask });
    world.network.clear();
    world.now_ns += 600 * MS;
    world.fire(1, Timer::Election);
    world.settle();
    assert_eq!((world.leader(), world.raft(1).term()), (Some(1), 6), "at the first try");
}
