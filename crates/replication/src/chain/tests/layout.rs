//! The table of states, whole: every state, every event, with and without others that serve; and layouts under random events.

use super::super::{Event, Layout, transition};
use super::*;

use MemberState::{LastServer, Offline, Serving, Syncing, Waiting};

/// One row a state, one column an event in the order of [`Event::ALL`]; what stands left of `|` holds while others serve, right of it when none does.
const TABLE: &str = "
             Missed   Returned Restarted Replaced Synced Turn Orphaned Overtaken
    serving  off|last serv     wait|serv serv      serv  serv serv     serv
    syncing  off      sync     wait      sync      serv  sync wait     sync
    waiting  off      wait     wait      wait      wait  sync wait     wait
    last     last     serv     serv      last      last  last last     off
    offline  off      wait     wait      wait      off   off  off      off
";

fn state(word: &str) -> MemberState {
    match word {
        "serv" => Serving,
        "sync" => Syncing,
        "wait" => Waiting,
        "last" => LastServer,
        "off" => Offline,
        other => panic!("what is {other}?"),
    }
}

#[test]
fn every_state_and_every_event() {
    let mut rows = TABLE.trim().lines();
    let events: Vec<&str> = rows.next().expect("a head").split_whitespace().collect();
    let names: Vec<_> = Event::ALL.iter().map(|event| alloc::format!("{event:?}")).collect();
    assert_eq!(events, names, "the table has all events");
    let mut looked_at = 0;
    for (before, row) in MemberState::ALL.into_iter().zip(rows) {
        for (event, cell) in Event::ALL.into_iter().zip(row.split_whitespace().skip(1)) {
            let (among_others, alone) = cell.split_once('|').unwrap_or((cell, cell));
            assert_eq!(transition(before, event, false), state(among_others), "{before:?} {event:?}");
            assert_eq!(transition(before, event, true), state(alone), "{before:?} {event:?}, alone");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, MemberState::ALL.len() * Event::ALL.len(), "the table is complete");
}

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn row(layout: &Layout) -> Vec<(u64, MemberState)> {
    layout.members.iter().map(|member| (member.node.0, member.state)).collect()
}

/// A group of three that all serve, in their first life.
fn whole() -> Layout {
    let mut layout = Layout::new(&NODES);
    for node in NODES {
        layout.heard(node, life(node.0, 1));
    }
    for node in [2, 3] {
        let by = layout.serving().next_back().expect("one serves").node;
        assert!(layout.synced(by, layout.epoch, NodeId(node), life(node, 1)));
    }
    assert_eq!(row(&layout), [(1, Serving), (2, Serving), (3, Serving)]);
    layout
}

#[test]
fn all_stop_together_and_any_of_the_last_begins_again() {
    let mut layout = whole();
    assert!(layout.missed(&[NodeId(2)]));
    assert!(layout.missed(&[NodeId(1), NodeId(3)]));
    assert_eq!(row(&layout), [(1, LastServer), (3, LastServer), (2, Offline)]);
    assert!(layout.heard(NodeId(2), life(2, 2)), "it waits");
    assert_eq!(row(&layout), [(2, Waiting), (1, LastServer), (3, LastServer)]);
    assert!(!layout.heard(NodeId(1), life(9, 1)), "a lost disk does not begin the group again");
    assert_eq!(
        layout.member(NodeId(1)).map(|member| member.life),
        Some(life(1, 1)),
        "nor is the lost one forgotten"
    );
    assert!(layout.heard(NodeId(3), life(3, 2)));
    assert_eq!(row(&layout), [(3, Serving), (2, Syncing), (1, Offline)]);
}

/// A copy was given up, another took its place and serves; then a renewal of the first comes, that was long on its way. The one that serves
/// does so until its lease is over, whatever else is heard, so its place is not another's before.
#[test]
fn a_late_word_of_a_copy_that_was_given_up_changes_no_place() {
    let mut layout = whole();
    assert!(layout.missed(&[NodeId(2)]));
    assert!(
        layout.heard(NodeId(2), life(20, 1)),
        "another copy comes in once the lease of the first is over"
    );
    assert_eq!(row(&layout), [(1, Serving), (3, Serving), (2, Syncing)]);
    for place in [Syncing, Serving] {
        let before = layout.clone();
        assert_eq!(before.member(NodeId(2)).map(|member| member.state), Some(place));
        assert!(!layout.heard(NodeId(2), life(2, 1)), "the late word");
        assert_eq!(layout, before, "state, life and epoch are as they were");
        layout.synced(NodeId(3), layout.epoch, NodeId(2), life(20, 1));
    }
    // Alone as well: what it holds is not given up for a copy that may be older.
    assert!(layout.missed(&[NodeId(1), NodeId(3)]));
    assert!(!layout.heard(NodeId(2), life(2, 1)));
    assert_eq!(layout.member(NodeId(2)).map(|m| (m.life, m.state)), Some((life(20, 1), Serving)));
    // A disk that was lost indeed: nothing more is heard of the copy that has the place, until its lease is over.
    assert!(layout.missed(&[NodeId(2)]));
    assert!(!layout.heard(NodeId(2), life(21, 1)), "the last server is waited for");
}

#[test]
fn all_restart_within_their_leases() {
    let mut layout = whole();
    for node in [1, 2] {
        assert!(layout.heard(NodeId(node), life(node, 2)));
    }
    assert_eq!(row(&layout), [(3, Serving), (1, Syncing), (2, Waiting)]);
    assert!(layout.heard(NodeId(3), life(3, 2)), "the last one goes on in its new life");
    assert_eq!(layout.members[0], Member { node: NodeId(3), life: life(3, 2), state: Serving });
    assert!(!layout.heard(NodeId(3), life(3, 1)), "what was said in an earlier life comes late");
}

#[test]
fn only_the_tail_of_this_epoch_is_believed() {
    let mut layout = whole();
    layout.heard(NodeId(1), life(1, 2));
    assert_eq!(row(&layout), [(2, Serving), (3, Serving), (1, Syncing)]);
    let epoch = layout.epoch;
    for (by, epoch, start) in [(2, epoch, 2), (3, epoch - 1, 2), (3, epoch, 1)] {
        assert!(!layout.synced(NodeId(by), epoch, NodeId(1), life(1, start)));
    }
    assert!(layout.synced(NodeId(3), epoch, NodeId(1), life(1, 2)));
    assert_eq!(row(&layout), [(2, Serving), (3, Serving), (1, Serving)]);
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    /// One thing that the catalog learns: a mask of members missed; or a member heard, in its present, next or another life; or synced.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Missed(u8),
        Heard(u8, u8),
        Synced(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..16_u8).prop_map(Step::Missed),
            (0..4_u8, 0..3_u8).prop_map(|(node, which)| Step::Heard(node, which)),
            (0..4_u8).prop_map(Step::Synced),
        ]
    }

    proptest! {
        /// Whoever holds everything is never given up: from one epoch to the next there is always somebody who served (or was a last server) in the
        /// one and is that still in the other, unless it has just been synced by such a one. Epochs rise by one with each change, and only then.
        #[test]
        fn somebody_whole_is_always_kept(steps in proptest::collection::vec(step(), 1..200)) {
            let nodes: Vec<NodeId> = (1..=4).map(NodeId).collect();
            let mut layout = Layout::new(&nodes);
            let mut lives: Vec<Life> = (1..=4).map(|copy| life(copy, 1)).collect();
            let mut next_copy = 10;
            for step in steps {
                let before = layout.clone();
                let changed = match step {
                    Step::Missed(mask) => {
                        let gone: Vec<NodeId> =
                            nodes.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0).map(|(_, n)| *n).collect();
                        layout.missed(&gone)
                    }
                    Step::Heard(at, which) => {
                        let at = usize::from(at);
                        match which {
                            1 => lives[at].start += 1,
                            2 => {
                                next_copy += 1;
                                lives[at] = life(next_copy, 1);
                            }
                            _ => {}
                        }
                        layout.heard(nodes[at], lives[at])
                    }
                    Step::Synced(at) => match before.serving().next_back() {
                        Some(tail) => layout.synced(tail.node, before.epoch, nodes[usize::from(at)], lives[usize::from(at)]),
                        None => false,
                    },
                };
                layout.assert_invariants();
                prop_assert_eq!(layout.epoch, before.epoch + u64::from(changed));
                prop_assert!(changed || layout == before);
                let holds = |member: &Member| matches!(member.state, Serving | LastServer);
                let kept = layout.members.iter().filter(|member| holds(member)).any(|member| {
                    before.member(member.node).is_some_and(|was| {
                        holds(was) && (was.life.copy == 0 || was.life.copy == member.life.copy)
                    })
                });
                prop_assert!(kept, "{before:?} {step:?} {layout:?}");
            }
        }
    }
}
