//! Cluster-wide checks: what must be true of all members of a group together.
//!
//! A simulator keeps one [`ChainInvariants`] a group, and gives it each member right after a batch that the member handled. Only what is new is
//! looked at. The checks remember what members showed, so they hold across crashes.

mod durable_everywhere;
mod log_matching;
mod one_history;
mod prefix_order;
mod whole_when_serving;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use keypact_log::{Entry, Position};
use keypact_protocol::NodeId;

use super::{Chain, Life, MemberState};
use log_matching::LogMatching;
use one_history::OneHistory;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// Whether that was in its present life.
    same_life: bool,
    life: Life,
    epoch: u64,
    state: MemberState,
    commit: u64,
    /// Of the log, how much is durable.
    durable: u64,
    last: Position,
    base: u64,
}

impl Seen {
    const NOTHING: Seen = Seen {
        same_life: false,
        life: Life { copy: 0, start: 0 },
        epoch: 0,
        state: MemberState::Offline,
        commit: 0,
        durable: 0,
        last: Position { index: 0, term: 0 },
        base: 0,
    };

    fn of(member: &Chain) -> Seen {
        Seen {
            same_life: true,
            life: member.life(),
            epoch: member.epoch(),
            state: member.state(),
            commit: member.commit_index(),
            durable: member.tail().durable_index(),
            last: member.last(),
            base: member.tail().base().index,
        }
    }
}

/// One member, just looked at.
struct Step<'a> {
    id: NodeId,
    member: &'a Chain,
    before: Seen,
    now: Seen,
    /// The first index that may hold an entry that was not there before.
    fresh_from: u64,
}

/// All checks of one group.
#[derive(Debug)]
pub struct ChainInvariants {
    members: Vec<(NodeId, Seen)>,
    log_matching: LogMatching,
    one_history: OneHistory,
}

impl ChainInvariants {
    /// Checks for a group of these members, none of which has lived yet.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(members: &[NodeId]) -> ChainInvariants {
        assert!(!members.is_empty(), "a group has members");
        ChainInvariants {
            members: members.iter().map(|id| (*id, Seen::NOTHING)).collect(),
            log_matching: LogMatching::default(),
            one_history: OneHistory::default(),
        }
    }

    /// The member begins a new life. Call it before the first [`ChainInvariants::check`] of that life.
    pub fn restarted(&mut self, node: NodeId) {
        let at = self.place(node);
        self.members[at].1.same_life = false;
    }

    /// The highest index that any member knew to be committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.one_history.len()
    }

    fn place(&self, node: NodeId) -> usize {
        self.members.iter().position(|(id, _)| *id == node).expect("only members are checked")
    }

    fn seen(&self, node: NodeId) -> Option<&Seen> {
        self.members.iter().find(|(id, _)| *id == node).map(|(_, seen)| seen)
    }

    /// Looks at a member that just handled a batch. O(what is new).
    ///
    /// # Errors
    /// [`Violation`] names the first property found broken.
    pub fn check(&mut self, node: NodeId, member: &Chain) -> Result<(), Violation> {
        let at = self.place(node);
        let before = self.members[at].1;
        let now = Seen::of(member);
        assert!(now.base <= now.commit && now.commit <= now.last.index, "a member shows no contradiction");
        assert!(now.durable <= now.last.index, "only what is held is durable");
        if now == before {
            return Ok(());
        }
        let step = Step { id: node, member, before, now, fresh_from: fresh_from(member, &before) };
        self.log_matching.check(&step)?;
        whole_when_serving::check(&step, &self.one_history)?;
        self.one_history.check(&step)?;
        self.members[at].1 = now;
        prefix_order::check(&step, self)?;
        durable_everywhere::check(&step, self)
    }
}

/// If the entry that was last is still there, all before it is (log matching, which is checked on the way).
fn fresh_from(member: &Chain, before: &Seen) -> u64 {
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
