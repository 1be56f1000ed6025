//! What a change of leaders has lost, told from last places alone; and who may lead.

use super::super::{Blocked, Choice, Extent, Succession, SuccessionConfig};
use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn group(acks: usize) -> Succession {
    Succession::new(SuccessionConfig { allowance: 100, ..SuccessionConfig::new(vec![A, B, C], acks) })
}

/// Seals these members with these last places and chooses.
fn promote(
    group: &mut Succession,
    reports: &[(NodeId, (u64, u64))],
    choice: Choice,
) -> Result<(NodeId, Position), Blocked> {
    let epoch = group.begin_sealing();
    for (node, (index, term)) in reports {
        group.sealed(*node, epoch, place(*index, *term), 0);
    }
    group.choose(choice).map(|chosen| (chosen.leader, chosen.after))
}

/// (member, after, how many, known) of each loss that stands.
fn losses(group: &Succession) -> Vec<(u64, u64, u64, bool)> {
    let stands = group.losses().iter().filter(|loss| !loss.withdrawn);
    stands
        .map(|loss| {
            let known = matches!(loss.extent, Extent::Known { .. });
            (loss.member.0, loss.after, loss.at_most(), known)
        })
        .collect()
}

#[test]
fn the_most_advanced_of_enough_is_promoted() {
    let mut one = group(1);
    let few = Err(Blocked::TooFewSealed { sealed: 1, needed: 2 });
    assert_eq!(promote(&mut one, &[(B, (5, 1))], Choice::Safe), few);
    assert_eq!(promote(&mut one, &[(B, (5, 1)), (C, (7, 1))], Choice::Safe), Ok((C, place(7, 1))));
    // A later epoch's log is the better one, however short.
    assert_eq!(promote(&mut one, &[(A, (20, 1)), (B, (8, 3))], Choice::Safe), Ok((B, place(8, 3))));
    assert_eq!(
        losses(&one),
        [(1, 7, 13, true)],
        "n1 had 13 more; n3 was allowed no more than its first entry"
    );
    assert!(one.losses().iter().all(|loss| !loss.answered), "with acknowledgements nothing answered is lost");
    assert_eq!(one.choose(Choice::Safe), Err(Blocked::NotSealing));
}

#[test]
fn a_silent_leader_is_unknown_until_it_returns() {
    let mut none = group(0);
    assert_eq!(none.renewed(A, 1, 0), Some((100, true)));
    assert_eq!(none.renewed(A, 1, 10), Some((100, false)));
    assert_eq!(none.renewed(A, 1, 60), Some((160, true)));
    assert_eq!(none.renewed(B, 1, 60), None);
    let (lossless, forced) = (Choice::Safe, Choice::Forced);
    assert!(promote(&mut none, &[(B, (8, 1)), (C, (5, 1))], lossless).is_err());
    let epoch = none.sealing().expect("it goes on").epoch;
    assert_eq!(none.choose(forced).map(|chosen| (chosen.leader, chosen.forced)), Ok((B, true)));
    assert_eq!(losses(&none), [(1, 8, 152, false)], "unknown, at most 152");
    // It returns: what it has beyond the chosen point is now known, and listed once the member lists it.
    assert!(none.sealed(A, epoch, place(20, 1), 20));
    assert_eq!(losses(&none), [(1, 8, 12, true)]);
    let tail: Vec<Entry> = (7..=20).map(|index| entry(index, 1)).collect();
    assert_eq!(none.tail(A, epoch, place(20, 1), &tail), Some(true));
    let Extent::Known { listed, .. } = &none.losses()[0].extent else { panic!("it is known") };
    assert_eq!(listed.iter().map(Entry::index).collect::<Vec<_>>(), (9..=20).collect::<Vec<_>>());
    assert!(!none.sealed(A, epoch, place(20, 1), 20), "told twice, it is the same loss");
    assert_eq!(none.tail(A, epoch - 1, place(20, 1), &[]), None, "an earlier epoch's word is not heard");
    let mut bytes = Vec::new();
    none.encode(&mut bytes);
    assert_eq!(Succession::decode(Bytes::from(bytes.clone())), Ok(none.clone()));
    for len in 0..bytes.len() {
        assert_ne!(Succession::decode(Bytes::copy_from_slice(&bytes[..len])), Ok(none.clone()));
    }
    let story = alloc::format!("{}", none.losses()[0]);
    assert_eq!(
        story,
        "epoch 2: n1 had 12 entries beyond 8, up to 20 of epoch 1 (clients may have been told that they were applied)"
    );
}

/// n1's tail was reported lost, and n3 has the same. It must not come back through n3, but by force.
#[test]
fn a_tail_that_was_reported_is_not_promoted() {
    let mut none = group(0);
    assert_eq!(promote(&mut none, &[(B, (8, 1))], Choice::Forced), Ok((B, place(8, 1))));
    none.tail(A, 2, place(20, 1), &[]);
    let mut cut = none.clone();
    assert_eq!(
        promote(&mut cut, &[(C, (20, 1))], Choice::Forced),
        Ok((C, place(8, 1))),
        "it cuts it off itself"
    );
    // It has applied them, and can't: nobody is whole, until force withdraws the report.
    let epoch = none.begin_sealing();
    none.sealed(C, epoch, place(20, 1), 20);
    none.sealed(A, epoch, place(8, 1), 8);
    none.sealed(B, epoch, place(9, 2), 8);
    assert_eq!(none.clone().choose(Choice::Safe).map(|chosen| chosen.leader), Ok(B));
    let epoch = none.begin_sealing();
    none.sealed(C, epoch, place(20, 1), 20);
    assert!(none.choose(Choice::Safe).is_err());
    assert_eq!(none.choose(Choice::Forced).map(|chosen| chosen.after), Ok(place(20, 1)));
    assert!(none.losses()[0].withdrawn);
}

#[test]
fn what_is_no_longer_remembered_is_unknown() {
    let config = SuccessionConfig { history_max: 2, ..SuccessionConfig::new(vec![A, B, C], 0) };
    let mut short = Succession::new(config);
    for (epoch, index) in [(2, 5), (3, 9), (4, 12)] {
        let last = (index, epoch - 1);
        assert_eq!(promote(&mut short, &[(B, last)], Choice::Forced), Ok((B, place(index, epoch - 1))));
    }
    assert!(short.sealed(A, 4, place(6, 1), 6));
    assert_eq!(losses(&short).last(), Some(&(1, 0, 6, false)), "of a log that old nothing is known");
    assert_eq!(short.kept(place(6, 1)), 0, "nor is anything of it known to be kept");
    assert!(!short.sealed(A, 4, place(6, 1), 6), "once is enough");
}

mod laws {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What happens to a group: its leader makes entries, that reach some; or some are sealed and one of them is promoted.
    #[derive(Clone, Debug)]
    enum Step {
        Made(u8, u8),
        Promoted(u8),
        Reported(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..6_u8, 0..8_u8).prop_map(|(count, reaches)| Step::Made(count, reaches)),
            (1..8_u8).prop_map(Step::Promoted),
            (0..3_u8).prop_map(Step::Reported),
        ]
    }

    /// Whole logs, entry by entry: (index, epoch) stands for the entry.
    #[derive(Default)]
    struct Model {
        logs: BTreeMap<NodeId, Vec<u64>>,
        leader: Option<NodeId>,
    }

    impl Model {
        fn last(&self, node: NodeId) -> Position {
            let log = &self.logs[&node];
            place(log.len() as u64, log.last().copied().unwrap_or(0))
        }
    }

    proptest! {
        /// What the succession says of a log's last place is what comparing whole logs says; and no entry that was reported stands in a later
        /// leader's log.
        #[test]
        fn losses_are_what_whole_logs_say(steps in proptest::collection::vec(step(), 1..60)) {
            let nodes = [A, B, C];
            let mut group = group(0);
            let mut model = Model { leader: Some(A), ..Model::default() };
            for node in nodes {
                model.logs.insert(node, Vec::new());
            }
            let mut lost: Vec<(u64, Vec<u64>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Made(count, reaches) => {
                        let leader = model.leader.expect("somebody leads");
                        let epoch = group.current().epoch;
                        let mut log = model.logs[&leader].clone();
                        log.extend(core::iter::repeat_n(epoch, usize::from(count)));
                        for (at, node) in nodes.into_iter().enumerate() {
                            // A follower takes what follows on what it has; others were not told to cut yet.
                            let follows = log.starts_with(&model.logs[&node]);
                            if node == leader || (reaches & (1 << at) != 0 && follows) {
                                model.logs.insert(node, log.clone());
                            }
                        }
                    }
                    Step::Promoted(mask) => {
                        let epoch = group.begin_sealing();
                        for (at, node) in nodes.into_iter().enumerate() {
                            if mask & (1 << at) != 0 {
                                group.sealed(node, epoch, model.last(node), 0);
                            }
                        }
                        let chosen = group.choose(Choice::Forced).expect("one at least is sealed");
                        let log = model.logs.get_mut(&chosen.leader).expect("a member");
                        prop_assert!(chosen.after.index <= log.len() as u64);
                        log.truncate(chosen.after.index as usize);
                        prop_assert_eq!(model.last(chosen.leader), chosen.after);
                        model.leader = Some(chosen.leader);
                        model.logs.get_mut(&chosen.leader).expect("a member").push(epoch);
                    }
                    Step::Reported(at) => {
                        let node = nodes[usize::from(at)];
                        let (epoch, last) = (group.current().epoch, model.last(node));
                        prop_assert!(group.tail(node, epoch, last, &[]).is_some());
                        let leader = &model.logs[&model.leader.expect("somebody leads")];
                        let own = &model.logs[&node];
                        let kept = own.iter().zip(leader).take_while(|(own, kept)| own == kept).count();
                        let of_tail = |loss: &&crate::leader_follower::Loss| {
                            matches!(loss.extent, Extent::Known { last: lost, .. } if lost == last) && !loss.withdrawn
                        };
                        let loss = group.losses().iter().filter(of_tail).find(|loss| loss.member == node);
                        prop_assert_eq!(loss.map_or(own.len() as u64, |loss| loss.after), kept as u64);
                        prop_assert_eq!(group.kept(last), kept as u64);
                        if kept < own.len() {
                            lost.push((kept as u64, own.clone()));
                            model.logs.get_mut(&node).expect("a member").truncate(kept);
                        }
                    }
                }
                let leader = &model.logs[&model.leader.expect("somebody leads")];
                for (kept, tail) in &lost {
                    let kept = *kept as usize;
                    let back = leader.len() > kept && leader[..=kept] == tail[..=kept];
                    prop_assert!(!back, "{leader:?} has what {tail:?} lost behind {kept}");
                }
            }
        }
    }
}
