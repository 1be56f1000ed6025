//! Who votes and who only listens, and the ways from one such set to the next (paper, section 6; thesis, chapter 4).
//!
//! ```text
//!              learn            promote           C_old,new committed            remove        C_old,new committed
//!  (nobody) ──────────▶ learner ───────▶ joining ────────────────────▶ voter ──────────▶ leaving ─────────▶ (nobody)
//!                          └──────────────────────── remove ──────────────────────────────────────────────────▲
//! ```
//! While somebody joins or leaves the configuration is *joint*: decisions take a majority of the old voters (voters and leaving) and one
//! of the new (voters and joining). A change of learners alone changes no majority, and is made in one step.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Incarnation, NodeId, Plant, planted};
use serde::{Deserialize, Serialize};

use super::config::MEMBERS_MAX;

/// The most learners a group may have: each costs its leader as much as a voter.
pub const LEARNERS_MAX: usize = 4;
/// All voters of both configurations, and all learners. Who joins was a learner.
pub(super) const SEATS_MAX: usize = MEMBERS_MAX + LEARNERS_MAX;
/// The first byte of an encoded membership.
const VERSION: u8 = 1;

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seat {
    /// It votes; while the configuration is joint, among the old voters and the new.
    Voter,
    /// It gets everything, and has no vote.
    Learner,
    /// It votes among the new voters only; a joint configuration brings it in.
    Joining,
    /// It votes among the old voters only; a joint configuration takes it out.
    Leaving,
}

impl Seat {
    /// Whether it votes among the new voters, who are all voters unless the configuration is joint.
    #[must_use]
    #[inline]
    pub fn votes(self) -> bool {
        matches!(self, Seat::Voter | Seat::Joining)
    }

    /// Whether it votes among the old voters.
    #[must_use]
    #[inline]
    pub fn voted(self) -> bool {
        matches!(self, Seat::Voter | Seat::Leaving)
    }

    fn byte(self) -> u8 {
        match self {
            Seat::Voter => 0,
            Seat::Learner => 1,
            Seat::Joining => 2,
            Seat::Leaving => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Seat> {
        [Seat::Voter, Seat::Learner, Seat::Joining, Seat::Leaving].get(usize::from(byte)).copied()
    }
}

/// One member: a node in one life of its folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// The only incarnation of it that counts.
    pub incarnation: Incarnation,
    /// What it may do.
    pub seat: Seat,
}

/// A group's configuration: C_old, C_old,new or C_new of the papers. A node stands in it at most once, so under one incarnation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Membership {
    /// In order of their ids.
    members: Vec<Member>,
}

/// What an operator wants changed, all at once: learners come, learners become voters, members go.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Change {
    learn: Vec<(u64, u64)>,
    promote: Vec<u64>,
    remove: Vec<u64>,
}

/// Why a change or a transfer of leadership is refused. In every case nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChangeRefusal {
    /// This member does not lead; `leader`, if it is not 0, does.
    NotLeader {
        /// Its id.
        leader: u64,
    },
    /// The leader has not yet committed an entry of its own term: it can't know whether an earlier change is still under way.
    NotReady,
    /// Another change, or a transfer, is under way.
    UnderWay,
    /// Nothing is to be changed, or a node is named twice.
    Nothing,
    /// It is a member already; of a transfer: it leads already.
    AlreadyMember {
        /// Which node.
        node: u64,
    },
    /// It is no member.
    NotMember {
        /// Which node.
        node: u64,
    },
    /// Only a learner becomes a voter, and only a voter leads.
    WrongSeat {
        /// Which node.
        node: u64,
    },
    /// It lacks entries that the leader had one heartbeat ago, or is not heard.
    NotCaughtUp {
        /// Which node.
        node: u64,
        /// How many entries it lacks.
        missing: u64,
    },
    /// Of the voters that the group would have, fewer than a majority are alive.
    WouldLoseQuorum {
        /// Voters that were heard of lately.
        alive: u64,
        /// How many it takes.
        quorum: u64,
    },
    /// More members than a group may have.
    TooMany,
}

impl core::fmt::Display for ChangeRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ChangeRefusal::NotLeader { leader: 0 } => {
                f.write_str("this node does not lead, nor knows who does")
            }
            ChangeRefusal::NotLeader { leader } => write!(f, "node {leader} leads, not this one"),
            ChangeRefusal::NotReady => f.write_str("the leader has just begun; try again"),
            ChangeRefusal::UnderWay => f.write_str("another change is under way; try again"),
            ChangeRefusal::Nothing => f.write_str("nothing to change, or a node is named twice"),
            ChangeRefusal::AlreadyMember { node } => write!(f, "node {node} is there already"),
            ChangeRefusal::NotMember { node } => write!(f, "node {node} is no member"),
            ChangeRefusal::WrongSeat { node } => write!(f, "node {node} has no seat for that"),
            ChangeRefusal::NotCaughtUp { node, missing } => {
                write!(f, "node {node} has not caught up: {missing} entries are missing, or it is not heard")
            }
            ChangeRefusal::WouldLoseQuorum { alive, quorum } => {
                write!(f, "would lose quorum: {alive} voters alive, {quorum} needed")
            }
            ChangeRefusal::TooMany => f.write_str("more members than a group may have"),
        }
    }
}

impl core::error::Error for ChangeRefusal {}

impl Change {
    /// A node comes as a learner.
    #[must_use]
    pub fn learn(mut self, node: NodeId, incarnation: Incarnation) -> Change {
        self.learn.push((node.0, incarnation.0));
        self
    }

    /// A learner becomes a voter.
    #[must_use]
    pub fn promote(mut self, node: NodeId) -> Change {
        self.promote.push(node.0);
        self
    }

    /// A member, voter or learner, goes.
    #[must_use]
    pub fn remove(mut self, node: NodeId) -> Change {
        self.remove.push(node.0);
        self
    }

    /// The learners that shall vote.
    pub fn promoted(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.promote.iter().map(|id| NodeId(*id))
    }

    fn len(&self) -> usize {
        self.learn.len() + self.promote.len() + self.remove.len()
    }

    /// Whether it names at least one node, none twice, and not more than a group has seats for, twice. Too long a list is not looked at.
    fn is_sound(&self) -> bool {
        if !(1..=2 * SEATS_MAX).contains(&self.len()) {
            return false;
        }
        let ids = || self.learn.iter().map(|(id, _)| id).chain(&self.promote).chain(&self.remove);
        let twice = ids().enumerate().any(|(at, id)| ids().take(at).any(|other| other == id));
        !twice && ids().all(|id| *id != 0)
    }
}

/// How many of `count` are a majority.
fn majority(count: usize) -> usize {
    if planted(Plant::QuorumOffByOne) { (count / 2).max(1) } else { count / 2 + 1 }
}

impl Membership {
    /// All of these vote.
    #[must_use]
    pub fn founding(members: &[(NodeId, Incarnation)]) -> Membership {
        let seat = Seat::Voter;
        let members =
            members.iter().map(|(id, incarnation)| Member { id: *id, incarnation: *incarnation, seat });
        let mut members: Vec<Member> = members.collect();
        members.sort_unstable();
        assert!(members.windows(2).all(|pair| pair[0].id < pair[1].id), "a node stands once");
        assert!(members.len() <= MEMBERS_MAX, "founders are few");
        Membership { members }
    }

    /// All members, in order of their ids.
    #[must_use]
    #[inline]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// This node's place.
    #[must_use]
    #[inline]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == node)
    }

    #[inline]
    pub(super) fn position(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == node)
    }

    /// Whether it takes two majorities to decide.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| matches!(member.seat, Seat::Joining | Seat::Leaving))
    }

    /// How many vote among the new voters.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.seat.votes()).count()
    }

    /// How many vote among the old voters; as many as among the new unless it is joint.
    fn old_voters(&self) -> usize {
        self.members.iter().filter(|member| member.seat.voted()).count()
    }

    /// How many are a majority of the new voters.
    #[must_use]
    pub fn quorum(&self) -> usize {
        majority(self.voters())
    }

    /// Whether those for whom `agrees` holds decide: a majority of the voters, and while joint one of the old and one of the new.
    pub fn decides(&self, mut agrees: impl FnMut(&Member) -> bool) -> bool {
        let (mut new, mut old, mut new_yes, mut old_yes) = (0, 0, 0, 0);
        for member in &self.members {
            let yes = usize::from(agrees(member));
            if member.seat.votes() {
                (new, new_yes) = (new + 1, new_yes + yes);
            }
            if member.seat.voted() {
                (old, old_yes) = (old + 1, old_yes + yes);
            }
        }
        let old_decides = old_yes >= majority(old);
        if planted(Plant::OldMajorityAlone) && self.is_joint() {
            return old_decides;
        }
        new_yes >= majority(new) && old_decides
    }

    /// Whether every set that decides here shares a node with every set that decides there. May say no of configurations that do, never
    /// yes of such that do not: it is enough that some set of voters here and one there can't have majorities apart.
    #[must_use]
    pub fn always_meets(&self, other: &Membership) -> bool {
        let sets = |membership: &Membership| {
            let pick = |votes: fn(Seat) -> bool| {
                let voters = membership.members.iter().filter(|member| votes(member.seat));
                voters.map(|member| (member.id, member.incarnation)).collect::<Vec<_>>()
            };
            [pick(Seat::votes), pick(Seat::voted)]
        };
        let (here, there) = (sets(self), sets(other));
        here.iter().any(|a| {
            there.iter().any(|b| {
                let shared = a.iter().filter(|voter| b.contains(voter)).count();
                // As few as possible of each majority from among those who vote in both.
                let from_a = (a.len() / 2 + 1).saturating_sub(a.len() - shared);
                let from_b = (b.len() / 2 + 1).saturating_sub(b.len() - shared);
                !a.is_empty() && !b.is_empty() && from_a + from_b > shared
            })
        })
    }

    /// What follows a joint configuration: who joins has joined, who leaves is gone.
    #[must_use]
    pub fn settled(&self) -> Membership {
        let stay = self.members.iter().filter(|member| member.seat != Seat::Leaving);
        let seat = |seat| if seat == Seat::Joining { Seat::Voter } else { seat };
        let settled = Membership { members: stay.map(|m| Member { seat: seat(m.seat), ..*m }).collect() };
        assert!(!settled.is_joint(), "nobody joins or leaves any more");
        assert!(
            settled.voters() == self.voters(),
            "the new voters are those that the joint configuration named"
        );
        settled
    }

    /// The configuration with which this change begins: joint if it changes voters.
    ///
    /// # Errors
    /// [`ChangeRefusal`] if the nodes named do not have the seats that the change takes for granted, or there would be too many or no voters.
    pub fn changed(&self, change: &Change) -> Result<Membership, ChangeRefusal> {
        assert!(!self.is_joint(), "one change at a time");
        if !change.is_sound() {
            return Err(ChangeRefusal::Nothing);
        }
        let mut members = self.members.clone();
        for (id, incarnation) in &change.learn {
            if self.member(NodeId(*id)).is_some() {
                return Err(ChangeRefusal::AlreadyMember { node: *id });
            }
            let (id, incarnation) = (NodeId(*id), Incarnation(*incarnation));
            members.push(Member { id, incarnation, seat: Seat::Learner });
        }
        let at = |node: u64| self.position(NodeId(node)).ok_or(ChangeRefusal::NotMember { node });
        for node in &change.promote {
            let member = &mut members[at(*node)?];
            match member.seat {
                Seat::Learner => member.seat = Seat::Joining,
                _ => return Err(ChangeRefusal::WrongSeat { node: *node }),
            }
        }
        for node in &change.remove {
            members[at(*node)?].seat = Seat::Leaving;
        }
        // A learner had no vote that it could still use.
        let learner = |id| self.member(id).is_some_and(|member| member.seat == Seat::Learner);
        members.retain(|member| member.seat != Seat::Leaving || !learner(member.id));
        members.sort_unstable();
        let next = Membership { members };
        let learners = next.members.iter().filter(|member| member.seat == Seat::Learner).count();
        if next.voters() > MEMBERS_MAX || learners > LEARNERS_MAX || next.members.len() > SEATS_MAX {
            return Err(ChangeRefusal::TooMany);
        }
        if next.voters() == 0 {
            return Err(ChangeRefusal::WouldLoseQuorum { alive: 0, quorum: 1 });
        }
        assert!(next.members.windows(2).all(|pair| pair[0].id < pair[1].id), "a node stands once");
        assert!(
            next.is_joint() || next.voters() == self.voters(),
            "voters change by a joint configuration only"
        );
        assert!(next.always_meets(self), "the first step of a change can't decide apart from what was");
        Ok(next)
    }

    /// The next step towards this node as a voter under this incarnation: an earlier one is removed, then it learns, then it votes. `None`
    /// if it does, or is under a later one. Whether it is time for the step the leader says.
    #[must_use]
    pub fn step_towards(&self, node: NodeId, incarnation: Incarnation) -> Option<Change> {
        match self.member(node) {
            None => Some(Change::default().learn(node, incarnation)),
            Some(member) if member.incarnation < incarnation => Some(Change::default().remove(node)),
            Some(member) if member.incarnation == incarnation && member.seat == Seat::Learner => {
                Some(Change::default().promote(node))
            }
            Some(_) => None,
        }
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If nobody votes in it: that is what a node knows that has just joined, and no configuration.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.members.iter().map(|m| (m.id.0, m.incarnation.0, m.seat.byte()));
        let rows: Vec<(u64, u64, u8)> = rows.collect();
        assert!(rows.len() <= SEATS_MAX && self.voters() > 0, "what is written can be read back");
        postcard::to_allocvec(&(VERSION, rows)).expect("a vector takes any membership")
    }

    /// Reads back what [`Membership::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else: another version; no voters or too many, old or new; more members than a group may have; a node
    /// that stands twice, or has the operator's number.
    pub fn decode(bytes: &[u8]) -> Result<Membership, DecodeError> {
        let error = DecodeError::new("a group's membership");
        let (version, rows): (u8, Vec<(u64, u64, u8)>) =
            postcard::from_bytes(bytes).map_err(|_| DecodeError::new("a group's membership"))?;
        let mut members = Vec::with_capacity(rows.len().min(SEATS_MAX));
        for (id, incarnation, seat) in rows {
            let Some(seat) = Seat::from_byte(seat) else { return Err(error) };
            members.push(Member { id: NodeId(id), incarnation: Incarnation(incarnation), seat });
        }
        let membership = Membership { members };
        let rising = membership.members.windows(2).all(|pair| pair[0].id < pair[1].id);
        let named = membership.members.iter().all(|member| member.id.0 != 0);
        let few = membership.members.len() <= SEATS_MAX;
        // Each majority is one of somebody.
        let counted = [membership.voters(), membership.old_voters()];
        let decided = counted.iter().all(|voters| (1..=MEMBERS_MAX).contains(voters));
        if version == VERSION && rising && named && few && decided { Ok(membership) } else { Err(error) }
    }

    /// The same, of bytes that were looked at where they came in.
    pub(super) fn known(bytes: &Bytes) -> Membership {
        Membership::decode(bytes).expect("memberships are looked at where entries come in")
    }
}

/// The configuration in use, prepared for counting.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) membership: Membership,
    /// The index of its entry, or the checkpoint's; 0 for the founding one.
    pub(super) index: u64,
    /// This member's seat.
    pub(super) own: Option<Seat>,
    pub(super) joint: bool,
    need_new: usize,
    need_old: usize,
}

impl Active {
    pub(super) fn new(membership: Membership, index: u64, id: NodeId, incarnation: Incarnation) -> Active {
        let own = membership.member(id).filter(|member| member.incarnation == incarnation);
        let old = membership.old_voters();
        assert!(membership.voters() <= MEMBERS_MAX && old <= MEMBERS_MAX, "voters are few");
        assert!(membership.is_joint() || membership.voters() == old, "one set of voters unless joint");
        Active {
            index,
            own: own.map(|member| member.seat),
            joint: membership.is_joint(),
            need_new: majority(membership.voters()),
            need_old: majority(old),
            membership,
        }
    }

    /// Whether this member may lead.
    #[inline]
    pub(super) fn has_vote(&self) -> bool {
        self.own.is_some_and(|seat| seat.votes() || seat.voted())
    }

    /// Whether this member decides alone.
    pub(super) fn is_alone(&self) -> bool {
        let votes = |member: &&Member| member.seat.votes() || member.seat.voted();
        self.own == Some(Seat::Voter) && self.membership.members.iter().filter(votes).count() == 1
    }

    /// The largest value that enough voters reach to decide, given this member's own and its peers'. O(members).
    #[inline]
    pub(super) fn reached(&self, own: u64, others: impl Iterator<Item = (Seat, u64)>) -> u64 {
        if self.joint {
            return self.reached_jointly(own, others);
        }
        let mut voters = Values::default();
        if self.own == Some(Seat::Voter) {
            voters.push(own);
        }
        for (seat, value) in others {
            if seat == Seat::Voter {
                voters.push(value);
            }
        }
        voters.reached(self.need_new)
    }

    #[cold]
    fn reached_jointly(&self, own: u64, others: impl Iterator<Item = (Seat, u64)>) -> u64 {
        assert!(self.joint, "else one set of voters decides");
        let (mut new, mut old) = (Values::default(), Values::default());
        let own = self.own.map(|seat| (seat, own));
        for (seat, value) in own.into_iter().chain(others) {
            if seat.votes() {
                new.push(value);
            }
            if seat.voted() {
                old.push(value);
            }
        }
        let old = old.reached(self.need_old);
        if planted(Plant::OldMajorityAlone) { old } else { old.min(new.reached(self.need_new)) }
    }
}

/// The values of some voters.
#[derive(Default)]
struct Values {
    values: [u64; MEMBERS_MAX],
    len: usize,
}

impl Values {
    #[inline]
    fn push(&mut self, value: u64) {
        assert!(self.len < MEMBERS_MAX, "voters are few");
        self.values[self.len] = value;
        self.len += 1;
    }

    /// The largest value that at least `quorum` of them reach.
    #[inline]
    fn reached(&mut self, quorum: usize) -> u64 {
        assert!(quorum >= 1 && quorum <= self.len, "a quorum is some of the voters");
        self.values[..self.len].sort_unstable_by(|a, b| b.cmp(a));
        self.values[quorum - 1]
    }
}

/// Who said yes, one bit for each place in the membership.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Votes(u16);

impl Votes {
    pub(super) fn add(&mut self, place: usize) {
        assert!(place < SEATS_MAX, "a group has few seats");
        self.0 |= 1 << place;
    }

    pub(super) fn decide(self, active: &Active) -> bool {
        let mut place = 0;
        active.membership.decides(|_| {
            place += 1;
            self.0 & 1 << (place - 1) != 0
        })
    }

    pub(super) fn assert_invariants(self, active: &Active) {
        assert!(u32::from(self.0) < 1 << active.membership.members.len(), "only members vote");
    }
}
