//! Cluster-wide checks: what must be true of all members of a group together (figure 3 of the paper, and what durability adds).
//!
//! A simulator keeps one [`RaftInvariants`] a group, and gives it each member right after a batch that the member handled. Only what is new is
//! looked at, so the cost does not grow with the log. The checks remember what members showed, so they hold across crashes; they see
//! the members' fields, never their messages.

mod acknowledged_durable;
mod configurations;
mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod one_vote;
mod state_machine_safety;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use keypact_log::{Entry, Position};
use keypact_protocol::{Incarnation, NodeId};

use super::{Membership, Raft, Role};

use acknowledged_durable::AcknowledgedDurable;
use configurations::Configurations;
use election_safety::ElectionSafety;
use leader_append_only::LeaderAppendOnly;
use leader_completeness::LeaderCompleteness;
use log_matching::LogMatching;
use monotonic::Monotonic;
use one_vote::OneVote;
use state_machine_safety::StateMachineSafety;

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// Who and where.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

impl core::error::Error for Violation {}

/// What a member showed when it was last looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Seen {
    /// Whether that was in its present life.
    same_life: bool,
    term: u64,
    leads: bool,
    commit: u64,
    last: Position,
    base: u64,
    durable_index: u64,
    hard_is_durable: bool,
    voted_for: Option<NodeId>,
}

/// A node that is or may become a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    id: NodeId,
    /// Under which it was last seen.
    incarnation: Option<Incarnation>,
    seen: Seen,
}

impl Place {
    fn is(&self, id: NodeId, incarnation: Incarnation) -> bool {
        self.id == id && self.incarnation == Some(incarnation)
    }
}

/// One member, just looked at.
struct Step<'a> {
    /// Its place among the members.
    at: usize,
    id: NodeId,
    raft: &'a Raft,
    now: Seen,
    before: Seen,
    /// The first index that may hold an entry that was not there before.
    fresh_from: u64,
}

impl Step<'_> {
    /// Newly committed indices: after the first, up to the second.
    fn newly_committed(&self) -> (u64, u64) {
        let before = if self.before.same_life { self.before.commit } else { 0 };
        (before, self.now.commit)
    }

    /// Whether it began to lead since it was last looked at.
    fn began_to_lead(&self) -> bool {
        let led = self.before.same_life && self.before.leads && self.before.term == self.now.term;
        self.now.leads && !led
    }
}

/// What the checks share.
struct Group<'a> {
    places: &'a [Place],
    configurations: &'a Configurations,
    committed: &'a StateMachineSafety,
}

/// All checks of one group.
#[derive(Debug)]
pub struct RaftInvariants {
    places: Vec<Place>,
    configurations: Configurations,
    election_safety: ElectionSafety,
    leader_append_only: LeaderAppendOnly,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    state_machine_safety: StateMachineSafety,
    acknowledged_durable: AcknowledgedDurable,
    one_vote: OneVote,
    monotonic: Monotonic,
    checks: u64,
}

impl RaftInvariants {
    /// Checks for a group of these members under their first incarnation, none of which has lived yet.
    #[must_use]
    pub fn new(members: &[NodeId]) -> RaftInvariants {
        let founding: Vec<_> = members.iter().map(|id| (*id, Incarnation(1))).collect();
        RaftInvariants::of(members, &Membership::founding(&founding))
    }

    /// Checks for these nodes, of which the founding members are some; none has lived yet.
    #[must_use]
    pub fn of(members: &[NodeId], founding: &Membership) -> RaftInvariants {
        assert!(!members.is_empty(), "a group has members");
        RaftInvariants {
            places: members
                .iter()
                .map(|id| {
                    let member = founding.member(*id);
                    let incarnation = member.map(|member| member.incarnation);
                    Place { id: *id, incarnation, seen: Seen::default() }
                })
                .collect(),
            configurations: Configurations::new(members.len(), founding),
            election_safety: ElectionSafety::default(),
            leader_append_only: LeaderAppendOnly,
            log_matching: LogMatching::default(),
            leader_completeness: LeaderCompleteness::default(),
            state_machine_safety: StateMachineSafety::default(),
            acknowledged_durable: AcknowledgedDurable::new(members.len()),
            one_vote: OneVote::new(members.len()),
            monotonic: Monotonic::new(members.len()),
            checks: 0,
        }
    }

    /// The member begins a new life. Call it before the first [`RaftInvariants::check`] of that life.
    pub fn restarted(&mut self, node: NodeId) {
        let at = self.place(node);
        self.places[at].seen.same_life = false;
    }

    /// How often a member was found changed and looked at.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// The highest index that any member committed.
    #[must_use]
    pub fn committed_index(&self) -> u64 {
        self.state_machine_safety.known()
    }

    fn place(&self, node: NodeId) -> usize {
        self.places.iter().position(|place| place.id == node).expect("only members are checked")
    }

    /// Looks at a member that just handled a batch. O(what is new), O(1) if nothing is.
    ///
    /// # Errors
    /// [`Violation`] names the first property found broken.
    pub fn check(&mut self, node: NodeId, raft: &Raft) -> Result<(), Violation> {
        let at = self.place(node);
        if self.places[at].incarnation != Some(raft.config().incarnation) {
            self.lost(at, raft.config().incarnation);
        }
        let before = self.places[at].seen;
        let now = look(raft);
        if now == before {
            return Ok(());
        }
        self.checks += 1;
        let step = Step { at, id: node, raft, now, before, fresh_from: fresh_from(raft, &before) };
        self.monotonic.check(&step)?;
        self.one_vote.check(&step)?;
        self.election_safety.check(&step)?;
        self.leader_append_only.check(&step)?;
        self.log_matching.check(&step)?;
        self.acknowledged_durable.note(&step);
        let known = self.state_machine_safety.known();
        self.state_machine_safety.check(&step)?;
        let changed = self.configurations.note(&step);
        self.configurations.check(&step, changed, known, self.state_machine_safety.known())?;
        let group = Group {
            places: &self.places,
            configurations: &self.configurations,
            committed: &self.state_machine_safety,
        };
        self.acknowledged_durable.check(&step, known, &group)?;
        self.leader_completeness.check(&step, known, &group, &self.acknowledged_durable)?;
        self.places[at].seen = now;
        Ok(())
    }

    /// The node is here under another incarnation: what it had before is gone for good.
    fn lost(&mut self, at: usize, incarnation: Incarnation) {
        let place = &mut self.places[at];
        assert!(!place.seen.same_life, "a folder is not lost under a running process");
        self.acknowledged_durable.lost(at, place.id, place.incarnation);
        self.configurations.lost(at);
        self.one_vote.lost(at);
        self.monotonic.lost(at);
        *place = Place { id: place.id, incarnation: Some(incarnation), seen: Seen::default() };
    }
}

fn look(raft: &Raft) -> Seen {
    Seen {
        same_life: true,
        term: raft.term(),
        leads: raft.role() == Role::Leader,
        commit: raft.commit_index(),
        last: raft.last(),
        base: raft.tail().base().index,
        durable_index: raft.tail().durable_index(),
        hard_is_durable: raft.durable_hard_state().is_some(),
        voted_for: raft.hard.voted_for,
    }
}

/// If the entry that was last is still there, all before it is (log matching, which is checked on the way); else anything after the commit
/// index may have been replaced.
fn fresh_from(raft: &Raft, before: &Seen) -> u64 {
    let tail = raft.tail();
    let base = tail.base().index;
    let kept = before.last.index <= base || tail.term_at(before.last.index) == Some(before.last.term);
    if before.same_life && kept {
        before.last.index.max(base) + 1
    } else if before.same_life {
        before.commit.max(base) + 1
    } else {
        base + 1
    }
}

/// The checksum that an entry carries: two entries with the same one are taken for the same.
fn checksum(entry: &Entry) -> u64 {
    let bytes = entry.bytes()[4..12].try_into().expect("every entry has a header");
    u64::from_le_bytes(bytes)
}
