//! Configurations: which sets decide, which changes are let, what survives as bytes.

use std::vec::Vec;

use keypact_protocol::{Incarnation, NodeId};
use proptest::prelude::*;

use crate::raft::membership::Active;
use crate::raft::{Change, ChangeRefusal, MEMBERS_MAX, Membership, Seat};

fn founding(count: u64) -> Membership {
    Membership::founding(&(1..=count).map(|id| (NodeId(id), Incarnation(1))).collect::<Vec<_>>())
}

fn seat(membership: &Membership, node: u64) -> Option<Seat> {
    membership.member(NodeId(node)).map(|member| member.seat)
}

#[test]
fn a_voter_comes_and_another_goes_by_a_joint_configuration() {
    let learned = founding(3).changed(&Change::default().learn(NodeId(4), Incarnation(7))).unwrap();
    assert!(!learned.is_joint(), "learners change no majority");
    let joint = learned.changed(&Change::default().promote(NodeId(4)).remove(NodeId(1))).unwrap();
    assert_eq!((seat(&joint, 4), seat(&joint, 1)), (Some(Seat::Joining), Some(Seat::Leaving)));
    let among = |nodes: &'static [u64]| joint.decides(|member| nodes.contains(&member.id.0));
    assert!(among(&[2, 3]), "two of 1, 2, 3 and two of 2, 3, 4");
    assert!(!among(&[1, 2]) && !among(&[3, 4]), "one majority of two");
    let settled = joint.settled();
    assert_eq!((seat(&settled, 4), seat(&settled, 1)), (Some(Seat::Voter), None));
    assert_eq!((settled.voters(), settled.quorum()), (3, 2));
}

#[test]
fn changes_that_name_the_wrong_nodes_are_refused() {
    let group = founding(3).changed(&Change::default().learn(NodeId(4), Incarnation(1))).unwrap();
    let change = Change::default;
    for (change, refusal) in [
        (change(), ChangeRefusal::Nothing),
        (change().remove(NodeId(2)).remove(NodeId(2)), ChangeRefusal::Nothing),
        (change().learn(NodeId(0), Incarnation(1)), ChangeRefusal::Nothing),
        (change().learn(NodeId(3), Incarnation(2)), ChangeRefusal::AlreadyMember { node: 3 }),
        (change().promote(NodeId(5)), ChangeRefusal::NotMember { node: 5 }),
        (change().remove(NodeId(5)), ChangeRefusal::NotMember { node: 5 }),
        (change().promote(NodeId(3)), ChangeRefusal::WrongSeat { node: 3 }),
    ] {
        assert_eq!(group.changed(&change), Err(refusal));
    }
    let all = (1..=3).fold(change(), |change, id| change.remove(NodeId(id)));
    assert_eq!(group.changed(&all), Err(ChangeRefusal::WouldLoseQuorum { alive: 0, quorum: 1 }));
    // Not even looked at: what is named twice is looked for in a list of bounded length only.
    let endless = (1..=1_000_000).fold(change(), |change, id| change.promote(NodeId(id)));
    assert_eq!(group.changed(&endless), Err(ChangeRefusal::Nothing));
    let five = (5..=8).fold(change(), |change, id| change.learn(NodeId(id), Incarnation(1)));
    assert_eq!(group.changed(&five), Err(ChangeRefusal::TooMany));
}

/// Stated without the one that lost its disk: first the lost life goes, then the new one learns, then it votes.
#[test]
fn the_way_back_after_a_lost_disk() {
    let mut group = founding(3);
    let mut steps = 0;
    while let Some(change) = group.step_towards(NodeId(3), Incarnation(2)) {
        group = group.changed(&change).unwrap();
        if group.is_joint() {
            group = group.settled();
        }
        steps += 1;
    }
    assert_eq!((steps, seat(&group, 3)), (3, Some(Seat::Voter)));
    assert_eq!(group.member(NodeId(3)).map(|member| member.incarnation), Some(Incarnation(2)));
    assert_eq!(group.step_towards(NodeId(3), Incarnation(1)), None, "a life that is over does not come back");
}

#[test]
fn majorities_that_can_part_are_told_from_those_that_can_t() {
    let five = founding(5);
    assert!(founding(3).always_meets(&founding(4)), "one voter more");
    assert!(!founding(3).always_meets(&five), "2 and 3 here, 1, 4 and 5 there");
    assert!(!founding(1).always_meets(&Membership::default()));
    let learned = founding(3)
        .changed(&Change::default().learn(NodeId(4), Incarnation(1)).learn(NodeId(5), Incarnation(1)))
        .unwrap();
    let joint = learned.changed(&Change::default().promote(NodeId(4)).promote(NodeId(5))).unwrap();
    assert!(joint.always_meets(&founding(3)) && joint.always_meets(&five));
}

fn change() -> impl Strategy<Value = Change> {
    let nodes = || prop::collection::vec(1_u64..9, 0..3);
    (nodes(), nodes(), nodes()).prop_map(|(learn, promote, remove)| {
        let change =
            learn.iter().fold(Change::default(), |change, id| change.learn(NodeId(*id), Incarnation(1)));
        let change = promote.iter().fold(change, |change, id| change.promote(NodeId(*id)));
        remove.iter().fold(change, |change, id| change.remove(NodeId(*id)))
    })
}

/// Whatever is read can be counted by, comes to its end, and can be written again.
fn assert_usable(group: &Membership) {
    let active = Active::new(group.clone(), 1, NodeId(1), Incarnation(1));
    let others = group.members().iter().filter(|member| active.own.is_none() || member.id != NodeId(1));
    assert_eq!(active.reached(7, others.map(|member| (member.seat, 7))), 7);
    assert!(group.settled().voters() > 0 && group.decides(|_| true) && !group.decides(|_| false));
    assert_eq!(Membership::decode(&group.encode()), Ok(group.clone()));
}

/// Each would be a majority of nobody, or of more than are counted.
#[test]
fn memberships_that_nobody_decides_by_are_not_read() {
    let read = |rows: &[(u64, u64, u8)]| Membership::decode(&postcard::to_allocvec(&(1_u8, rows)).unwrap());
    let (voter, learner, joining, leaving) = (0_u8, 1_u8, 2_u8, 3_u8);
    let many = |seat: u8| (2..=MEMBERS_MAX as u64 + 1).map(move |id| (id, 1, seat)).collect::<Vec<_>>();
    assert!(read(&[(1, 1, voter)]).is_ok() && read(&[(1, 1, joining), (2, 1, leaving)]).is_ok());
    for rows in [
        std::vec![],
        std::vec![(1, 1, learner)],
        std::vec![(1, 1, joining)],
        std::vec![(1, 1, leaving)],
        std::vec![(0, 1, voter)],
        std::vec![(1, 1, 4)],
        std::vec![(2, 1, voter), (1, 1, voter)],
        std::vec![(1, 1, voter), (1, 2, voter)],
        [std::vec![(1, 1, voter)], many(leaving)].concat(),
        [std::vec![(1, 1, voter)], many(joining)].concat(),
    ] {
        assert!(read(&rows).is_err(), "{rows:?}");
    }
}

proptest! {
    /// By trying all sets of nodes: whoever decides by one step of a change shares a node with whoever decides by the step before or after.
    #[test]
    fn steps_never_decide_apart(count in 1_u64..6, changes in prop::collection::vec(change(), 1..12)) {
        let mut group = founding(count);
        for change in &changes {
            let Ok(next) = group.changed(change) else { continue };
            let steps = [group.clone(), next.clone(), if next.is_joint() { next.settled() } else { next }];
            for pair in steps.windows(2) {
                for set in 0..256_u32 {
                    let has = |member: &crate::raft::Member| set & 1 << (member.id.0 - 1) != 0;
                    prop_assert!(!(pair[0].decides(has) && pair[1].decides(|member| !has(member))));
                }
                prop_assert!(pair[0].always_meets(&pair[1]));
            }
            group = steps[2].clone();
        }
    }

    #[test]
    fn memberships_come_back(count in 1_u64..6, change in change()) {
        let group = founding(count);
        let group = group.changed(&change).unwrap_or(group);
        prop_assert_eq!(Membership::decode(&group.encode()), Ok(group));
    }

    #[test]
    fn garbage_is_no_membership_or_a_sound_one(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(group) = Membership::decode(&bytes) {
            assert_usable(&group);
        }
    }

    /// Rows of any ids and seats, which random bytes seldom are.
    #[test]
    fn rows_are_no_membership_or_a_sound_one(rows in prop::collection::vec((0_u64..14, 0_u64..3, 0_u8..5), 0..14)) {
        let mut rows = rows;
        rows.sort_unstable();
        rows.dedup_by_key(|(id, ..)| *id);
        if let Ok(group) = Membership::decode(&postcard::to_allocvec(&(1_u8, rows)).unwrap()) {
            assert_usable(&group);
        }
    }
}
