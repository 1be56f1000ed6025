//! Cluster-wide checks: what must be true of all members of a group together.
//!
//! A simulator keeps one [`LeaderFollowerInvariants`] a group, and gives it each member right after a batch that the member handled. Only what
//! is new is looked at. The checks remember what members showed, so they hold across crashes.

mod log_matching;
mod one_leader;
mod visible_agrees;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use keypact_log::{Entry, Position};
use keypact_protocol::NodeId;

use super::LeaderFollower;
use log_matching::LogMatching;
use one_leader::OneLeader;
use visible_agrees::VisibleAgrees;

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
    epoch: u64,
    leads: bool,
    commit: u64,
    last: Position,
    base: u64,
}

/// One member, just looked at.
struct Step<'a> {
    id: NodeId,
    member: &'a LeaderFollower,
    before: Seen,
    /// The first index that may hold an entry that was not there before.
    fresh_from: u64,
}

/// All checks of one group.
#[derive(Debug)]
pub struct LeaderFollowerInvariants {
    members: Vec<(NodeId, Seen, u64)>,
    one_leader: OneLeader,
    log_matching: LogMatching,
    /// Without acknowledgements what was visible may be lost, and another entry then takes its place.
    visible_agrees: Option<VisibleAgrees>,
}

impl LeaderFollowerInvariants {
    /// Checks for a group of these members with this many acknowledgements, none of which has lived yet.
    #[must_use]
    pub fn new(members: &[NodeId], acks: usize) -> LeaderFollowerInvariants {
        assert!(
            !members.is_empty() && acks < members.len(),
            "a group has members, and fewer acknowledgements"
        );
        LeaderFollowerInvariants {
            members: members.iter().map(|id| (*id, Seen::default(), 0)).collect(),
            one_leader: OneLeader::default(),
            log_matching: LogMatching::default(),
            visible_agrees: (acks > 0 || members.len() == 1).then(VisibleAgrees::default),
        }
    }

    /// The member begins a new life. Call it before the first [`LeaderFollowerInvariants::check`] of that life.
    pub fn restarted(&mut self, node: NodeId) {
        let at = self.place(node);
        self.members[at].1.same_life = false;
    }

    fn place(&self, node: NodeId) -> usize {
        self.members.iter().position(|(id, ..)| *id == node).expect("only members are checked")
    }

    /// Looks at a member that just handled a batch. O(what is new).
    ///
    /// # Errors
    /// [`Violation`] names the first property found broken.
    pub fn check(&mut self, node: NodeId, member: &LeaderFollower) -> Result<(), Violation> {
        let at = self.place(node);
        let (_, before, durable_epoch) = self.members[at];
        let now = Seen {
            same_life: true,
            epoch: member.epoch(),
            leads: member.leads(),
            commit: member.commit_index(),
            last: member.last(),
            base: member.tail().base().index,
        };
        if now == before {
            return Ok(());
        }
        assert!(now.base <= now.commit && now.commit <= now.last.index, "a member shows no contradiction");
        assert!(now.last.term <= now.epoch, "no entry is of an epoch not yet known");
        if member.epoch() < durable_epoch {
            let detail = alloc::format!("{node} knew epoch {durable_epoch} durably, now {}", member.epoch());
            return Err(Violation { property: "epoch-never-falls", detail });
        }
        let step = Step { id: node, member, before, fresh_from: fresh_from(member, &before) };
        self.one_leader.check(&step)?;
        self.log_matching.check(&step)?;
        if let Some(visible) = &mut self.visible_agrees {
            visible.check(&step)?;
        }
        let durable = member.durable_hard_state().map_or(durable_epoch, |hard| hard.epoch);
        self.members[at] = (node, now, durable);
        Ok(())
    }
}

/// If the entry that was last is still there, all before it is (log matching, which is checked on the way).
fn fresh_from(member: &LeaderFollower, before: &Seen) -> u64 {
    let tail = member.tail();
    let base = tail.base().index;
    assert!(base <= tail.last().index, "the log goes on behind the checkpoint");
    let kept = before.last.index >= base && tail.term_at(before.last.index) == Some(before.last.term);
    if before.same_life && kept { before.last.index + 1 } else { base + 1 }
}

/// The checksum that an entry carries: two entries with the same one are taken for the same.
fn checksum(entry: &Entry) -> u64 {
    assert!(entry.len_bytes() > 12, "every entry has a header");
    let bytes = entry.bytes()[4..12].try_into().expect("every entry has a header");
    u64::from_le_bytes(bytes)
}
