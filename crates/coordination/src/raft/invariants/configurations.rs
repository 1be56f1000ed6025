//! Configurations: a member uses the last one of its log; and of those that could still lead to a leader, no two can decide apart (paper,
//! section 6; thesis, 4.1 and 4.3).
//!
//! The checks read the configurations from the members' log entries themselves, and count majorities in their own way.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use keypact_log::{Kind, Position};

use super::{Step, Violation};
use crate::raft::{Member, Membership};

#[derive(Debug)]
pub(super) struct Configurations {
    founding: Membership,
    /// For each member: the configurations of its log, by their entry's place, or the base's. Kept while it is down.
    logs: Vec<Vec<(Position, Membership)>>,
    /// Of each log its base.
    bases: Vec<u64>,
    /// Those that were in use at some moment of the last step: the last before it, and what is new.
    used: Vec<Membership>,
    /// Those that were committed.
    committed: Vec<(Position, Membership)>,
}

impl Configurations {
    pub(super) fn new(members: usize, founding: &Membership) -> Configurations {
        Configurations {
            founding: founding.clone(),
            logs: vec![Vec::new(); members],
            bases: vec![0; members],
            used: Vec::new(),
            committed: vec![(Position::default(), founding.clone())],
        }
    }

    pub(super) fn lost(&mut self, at: usize) {
        self.logs[at].clear();
    }

    /// The configuration that the member's log ends with.
    pub(super) fn last(&self, at: usize) -> Option<&Membership> {
        self.logs[at].last().map(|(_, membership)| membership)
    }

    /// The configuration that its log has up to `index`.
    pub(super) fn at_index(&self, at: usize, index: u64) -> Option<&Membership> {
        let found = self.logs[at].iter().rev().find(|(position, _)| position.index <= index);
        found.map(|(_, membership)| membership)
    }

    /// Takes over what is new in the member's log. Whether its last configuration is another than before.
    pub(super) fn note(&mut self, step: &Step<'_>) -> bool {
        let tail = step.raft.tail();
        let base = tail.base();
        let before = self.last(step.at).cloned();
        self.logs[step.at].retain(|(position, _)| position.index < step.fresh_from);
        let same_life = step.before.same_life;
        if self.logs[step.at].is_empty() || !same_life || self.bases[step.at] != base.index {
            let membership = self.base_membership(step, base);
            let log = &mut self.logs[step.at];
            log.retain(|(position, _)| position.index > base.index && same_life);
            log.insert(0, (base, membership));
            self.bases[step.at] = base.index;
        }
        assert!(!self.logs[step.at].is_empty(), "every log has a configuration");
        let log = &mut self.logs[step.at];
        for slot in tail.slots_from(step.fresh_from).into_iter().flatten() {
            let entry = &slot.entry;
            if entry.header().kind == Kind::Membership {
                let membership = Membership::decode(&entry.command()).expect("a leader wrote it");
                log.push((Position { index: entry.index(), term: entry.term() }, membership));
            }
        }
        let changed = before.as_ref() != self.last(step.at);
        let log = &self.logs[step.at];
        let fresh = log.iter().filter(|(position, _)| position.index >= step.fresh_from);
        let fresh: Vec<Membership> = fresh.map(|(_, membership)| membership.clone()).collect();
        // A rebuilt log's last configuration stands at its base.
        let last = log.last().map(|(_, membership)| membership.clone());
        self.used.clear();
        self.used.extend(before.into_iter().chain(fresh).chain(last));
        changed
    }

    /// The configurations that the member which just took a step used in it.
    pub(super) fn used(&self) -> &[Membership] {
        &self.used
    }

    fn base_membership(&self, step: &Step<'_>, base: Position) -> Membership {
        let config = step.raft.config();
        let founded = self.founding.member(step.id).is_some_and(|m| m.incarnation == config.incarnation);
        if base.index == 0 && !founded {
            return Membership::default();
        }
        let found = self.committed.iter().rev().find(|(position, _)| position.index <= base.index);
        found.expect("the founding one is committed").1.clone()
    }

    /// `known` is how far anything was committed before this step, `now` after it.
    pub(super) fn check(
        &mut self,
        step: &Step<'_>,
        changed: bool,
        known: u64,
        now: u64,
    ) -> Result<(), Violation> {
        let fresh = self.logs[step.at].iter();
        let fresh = fresh.filter(|(position, _)| (known + 1..=now).contains(&position.index));
        self.committed.extend(fresh.cloned());
        assert!(
            self.committed.windows(2).all(|pair| pair[0].0.index < pair[1].0.index),
            "committed in order"
        );
        let Some(own) = self.last(step.at) else { return Ok(()) };
        if own != step.raft.membership() {
            let detail = format!("{} uses {:?}, its log has {own:?}", step.id, step.raft.membership());
            return Err(Violation { property: "configuration from the log", detail });
        }
        if !changed || !self.may_lead(step.at) || own.members().is_empty() {
            return Ok(());
        }
        for other in (0..self.logs.len()).filter(|other| *other != step.at && self.may_lead(*other)) {
            let theirs = self.last(other).expect("who may lead has a log");
            if !theirs.members().is_empty() && !own.always_meets(theirs) {
                let detail = format!("{} uses {own:?}, member {other} uses {theirs:?}", step.id);
                return Err(Violation { property: "configurations overlap", detail });
            }
        }
        Ok(())
    }

    /// Whether the log has the newest committed configuration. Without it nobody is elected any more.
    fn may_lead(&self, at: usize) -> bool {
        let (newest, _) = self.committed.last().expect("the founding one is committed");
        let mut log = self.logs[at].iter();
        log.any(|(position, _)| position == newest)
            || !self.logs[at].is_empty() && self.bases[at] >= newest.index
    }
}

/// Whether these decide, counted here and not in the protocol.
pub(super) fn decide(membership: &Membership, mut agrees: impl FnMut(&Member) -> bool) -> bool {
    let (mut new, mut old) = ((0, 0), (0, 0));
    for member in membership.members() {
        let yes = u32::from(agrees(member));
        if member.seat.votes() {
            new = (new.0 + yes, new.1 + 1);
        }
        if member.seat.voted() {
            old = (old.0 + yes, old.1 + 1);
        }
    }
    new.0 * 2 > new.1 && old.0 * 2 > old.1
}
