//! Who stands where in a chain: the catalog's part, as a pure value.
//!
//! The catalog keeps one [`Layout`] a group. What it hears, and what it misses, are [`Event`]s of single members; [`transition`] is the complete
//! table of what they make of a member's state. Every change is a new epoch. When leases are over is the catalog's to know: it tells
//! [`Layout::missed`] of a member only then.
//!
//! ```text
//!                 Synced                  Missed, others serve
//!   ┌─────────┐ ─────────▶ ┌─────────┐ ─────────────────────────▶ ┌─────────┐
//!   │ syncing │            │ serving │                            │ offline │
//!   └─────────┘            └─────────┘ ──┐ Missed, nobody else    └─────────┘
//!     ▲     │ Restarted      │    ▲      ▼        serves              │   ▲
//!     │Turn ▼ Orphaned       │    │  ┌─────────────┐  Overtaken        │   │ Missed
//!   ┌─────────┐ ◀────────────┘    └──│ last server │ ──────────────────│───┤ (syncing,
//!   │ waiting │   Restarted  Returned└─────────────┘                   │   │  waiting)
//!   └─────────┘ ◀───────────────────────────────────────────────────────┘
//!                                  Returned, Restarted, Replaced
//! ```
//! 3FS's chain table has the same five states. Here several members may be last servers at once: whoever served in the last epoch has
//! everything that was acknowledged, so any of them may start first.

use alloc::vec::Vec;

use keypact_protocol::{NodeId, Plant, planted};

use super::MEMBERS_MAX;

/// A member's place, as the catalog has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemberState {
    /// It has everything that was acknowledged, and its disk is asked for every acknowledgement.
    Serving,
    /// It gets what it lacks from the tail, and every new entry; it serves nothing.
    Syncing,
    /// It is there, and waits for its turn to sync.
    Waiting,
    /// It is gone, and was among the last to serve: the group begins again with it, or with another such.
    LastServer,
    /// It is gone.
    Offline,
}

impl MemberState {
    /// All of them, in the order in which they stand in a layout.
    pub const ALL: [MemberState; 5] = [
        MemberState::Serving,
        MemberState::Syncing,
        MemberState::Waiting,
        MemberState::LastServer,
        MemberState::Offline,
    ];
}

/// Which life of a member: a restart is another one, and a disk that was lost and begun anew is another copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Life {
    /// Names the copy: drawn when its log was begun. 0: none yet.
    pub copy: u64,
    /// How many times the copy was started.
    pub start: u64,
}

/// One member in a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// The life that has this state. Another life of the node has no part in the epoch.
    pub life: Life,
    /// Its place.
    pub state: MemberState,
}

/// What the catalog learns of one member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Event {
    /// Its lease was not renewed, and is over by the catalog's clock.
    Missed,
    /// It was heard, in the life that the layout has.
    Returned,
    /// It was heard in a new life, with the copy that it had.
    Restarted,
    /// It was heard with another copy: its disk was lost.
    Replaced,
    /// The tail says that it has everything, and that nothing is acknowledged without it any more.
    Synced,
    /// Somebody serves, nobody syncs, and it is the first who waits.
    Turn,
    /// Nobody serves any more.
    Orphaned,
    /// Somebody serves again.
    Overtaken,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 8] = [
        Event::Missed,
        Event::Returned,
        Event::Restarted,
        Event::Replaced,
        Event::Synced,
        Event::Turn,
        Event::Orphaned,
        Event::Overtaken,
    ];
}

/// The state after an event; `alone`: no other member serves. Complete: every state, every event.
#[must_use]
pub fn transition(state: MemberState, event: Event, alone: bool) -> MemberState {
    use MemberState::{LastServer, Offline, Serving, Syncing, Waiting};
    match (state, event) {
        (Serving, Event::Missed) if alone && !planted(Plant::LastServerDropped) => LastServer,
        (Serving | Syncing | Waiting, Event::Missed) => Offline,
        // What it had not yet made durable is lost, but nobody was told of that; its log is still the longest there is.
        (Serving, Event::Restarted) if alone => Serving,
        (Serving | Syncing, Event::Restarted) => Waiting,
        // A restart ends the life before it, and its lease. Another copy ends nothing: which of two copies came first can't be told, and the
        // message may be the late word of one that was given up, while the copy that has the place serves under its lease. If that one is
        // gone indeed, its lease runs out, and the new copy comes in then.
        (Serving | Syncing, Event::Replaced) => state,
        (LastServer, Event::Returned | Event::Restarted) => Serving,
        (LastServer, Event::Overtaken) => Offline,
        (Offline, Event::Returned | Event::Restarted | Event::Replaced) => Waiting,
        (Syncing, Event::Synced) => Serving,
        (Syncing, Event::Orphaned) => Waiting,
        (Waiting, Event::Turn) => Syncing,
        (Serving, Event::Returned | Event::Synced | Event::Turn | Event::Orphaned | Event::Overtaken)
        | (Syncing, Event::Returned | Event::Turn | Event::Overtaken)
        | (
            Waiting,
            Event::Returned
            | Event::Restarted
            | Event::Replaced
            | Event::Synced
            | Event::Orphaned
            | Event::Overtaken,
        )
        | (LastServer, Event::Missed | Event::Replaced | Event::Synced | Event::Turn | Event::Orphaned)
        | (Offline, Event::Missed | Event::Synced | Event::Turn | Event::Orphaned | Event::Overtaken) => {
            state
        }
    }
}

/// A group's members in their order, and the epoch in which they stand so.
///
/// Invariants: serving members first, in chain order, then the one that syncs, those that wait, last servers, the rest; nobody is a last
/// server while somebody serves; nobody syncs while nobody serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Rises with every change.
    pub epoch: u64,
    /// Everybody, once.
    pub members: Vec<Member>,
}

impl Layout {
    /// A group that has never lived: all have the same empty log, so any may start first.
    ///
    /// # Panics
    /// If `nodes` is empty.
    #[must_use]
    pub fn new(nodes: &[NodeId]) -> Layout {
        assert!(!nodes.is_empty(), "a group has members");
        assert!(nodes.len() <= MEMBERS_MAX, "and not too many");
        let member =
            |node: &NodeId| Member { node: *node, life: Life::default(), state: MemberState::LastServer };
        Layout { epoch: 1, members: nodes.iter().map(member).collect() }
    }

    /// The member on this node.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Those that serve, head first.
    pub fn serving(&self) -> impl DoubleEndedIterator<Item = &Member> {
        self.members.iter().filter(|member| member.state == MemberState::Serving)
    }

    /// The leases of these members are over. Returns whether there is a new epoch.
    pub fn missed(&mut self, nodes: &[NodeId]) -> bool {
        let alone = self.serving().all(|member| nodes.contains(&member.node));
        let mut changed = false;
        for member in &mut self.members {
            if nodes.contains(&member.node) {
                let next = transition(member.state, Event::Missed, alone);
                changed |= next != member.state;
                member.state = next;
            }
        }
        self.settle(changed)
    }

    /// A member was heard in this life. Returns whether there is a new epoch.
    pub fn heard(&mut self, node: NodeId, life: Life) -> bool {
        let Some(at) = self.members.iter().position(|member| member.node == node) else { return false };
        let Member { life: known, state, .. } = self.members[at];
        let event = if life == known {
            Event::Returned
        } else if known.copy == 0 || known.copy == life.copy {
            if life.start < known.start {
                // Said long ago.
                return false;
            }
            Event::Restarted
        } else {
            Event::Replaced
        };
        let nobody_serves = self.serving().next().is_none();
        let alone = self.serving().all(|member| member.node == node);
        let mut next = transition(state, event, alone);
        if planted(Plant::LastServerDropped) && nobody_serves {
            next = MemberState::Serving;
        }
        // Who has a place that counts, or may be the only copy, is not forgotten for another.
        let keeps = event == Event::Replaced && next != MemberState::Waiting;
        let new_life = life != known && !keeps;
        if new_life {
            self.members[at].life = life;
        }
        self.members[at].state = next;
        self.settle(new_life || next != state)
    }

    /// `by` says, in `epoch`, that this member has everything. Believed only of the tail, and in the present epoch. Returns whether there is
    /// a new epoch.
    pub fn synced(&mut self, by: NodeId, epoch: u64, node: NodeId, life: Life) -> bool {
        let is_tail = self.serving().next_back().is_some_and(|member| member.node == by);
        if epoch != self.epoch || !is_tail {
            return false;
        }
        let found = self.members.iter_mut().find(|member| member.node == node && member.life == life);
        let Some(member) = found else { return false };
        let next = transition(member.state, Event::Synced, false);
        let changed = next != member.state;
        member.state = next;
        self.settle(changed)
    }

    /// What a change gives rise to; the members take their places, and the epoch rises.
    fn settle(&mut self, changed: bool) -> bool {
        if !changed {
            return false;
        }
        let served = self.serving().next().is_some();
        let event = if served { Event::Overtaken } else { Event::Orphaned };
        for member in &mut self.members {
            member.state = transition(member.state, event, !served);
        }
        self.members.sort_by_key(|member| member.state);
        let syncs = self.members.iter().any(|member| member.state == MemberState::Syncing);
        if served && !syncs {
            // Of those that wait the first; it stands right behind those that serve.
            if let Some(first) = self.members.iter_mut().find(|member| member.state == MemberState::Waiting) {
                first.state = transition(first.state, Event::Turn, false);
            }
        }
        self.epoch += 1;
        self.assert_invariants();
        true
    }

    /// Panics if the layout contradicts itself. O(members).
    pub fn assert_invariants(&self) {
        let count = |state| self.members.iter().filter(|member| member.state == state).count();
        assert!(self.members.is_sorted_by_key(|member| member.state), "members stand in the order of states");
        assert!(count(MemberState::Syncing) <= 1, "one member syncs at a time");
        let once = |at: usize| self.members[..at].iter().all(|other| other.node != self.members[at].node);
        assert!((1..self.members.len()).all(once), "everybody stands there once");
        let was_heard = |member: &Member| member.state > MemberState::Syncing || member.life.copy > 0;
        assert!(self.members.iter().all(was_heard), "who serves or syncs was heard, in some life");
        let (serving, last) = (count(MemberState::Serving), count(MemberState::LastServer));
        assert!(serving == 0 || last == 0, "nobody is a last server while somebody serves");
        assert!(serving > 0 || count(MemberState::Syncing) == 0, "nobody syncs while nobody serves");
        assert!(
            serving + last > 0 || planted(Plant::LastServerDropped),
            "somebody has what was acknowledged"
        );
    }
}
