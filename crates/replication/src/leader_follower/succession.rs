//! Who leads, and what a change of leaders has lost: the catalog's part, as a pure value.
//!
//! The catalog keeps one [`Succession`] a group. Failover is *seal, collect, choose, activate*: [`Succession::begin_sealing`] names a new epoch,
//! members refuse all older ones and report where their logs end ([`Succession::sealed`]), [`Succession::choose`] takes the most advanced.
//! When a lease is over is the catalog's to know: it chooses only then, or once the old leader is sealed.
//!
//! *What is lost.* Only the leader of an epoch makes entries of it, so a log is known by its last place: the epochs form a tree, in which each
//! begins at the place after which its leader was chosen, and what two logs have in common ends where their paths part. So the catalog tells from a
//! log's last place alone how much of it the group has lost. Such a loss is written down before the member cuts it off ([`Succession::tail`]),
//! and a tail that was reported never becomes the group's log again, but by force, and then the report says that it is withdrawn.

use alloc::vec::Vec;
use core::fmt;

use keypact_log::{Entry, Position};
use keypact_protocol::{NodeId, Plant, planted};

use super::MEMBERS_MAX;

/// What a succession is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SuccessionConfig {
    /// The group.
    pub members: Vec<NodeId>,
    /// How many followers acknowledge.
    pub acks: usize,
    /// The first epoch.
    pub epoch: u64,
    /// And its leader.
    pub leader: NodeId,
    /// For how many entries a leader is allowed to run ahead of what the catalog has heard of it.
    pub allowance: u64,
    /// How many changes of leaders are remembered. Of logs that end before these nothing can be told but an upper bound.
    pub history_max: usize,
    /// How many losses are kept; then the oldest are forgotten, and counted.
    pub losses_max: usize,
}

impl SuccessionConfig {
    /// Defaults for these members, of which the first leads epoch 1: 1,048,576 entries ahead, 1,024 changes, 1,024 losses.
    ///
    /// # Panics
    /// If there is no member, more than [`MEMBERS_MAX`], or not fewer acknowledgements.
    #[must_use]
    pub fn new(members: Vec<NodeId>, acks: usize) -> SuccessionConfig {
        assert!(!members.is_empty() && members.len() <= MEMBERS_MAX, "a group has 1 to 16 members");
        assert!(acks < members.len(), "no more acknowledgements are wanted than there are followers");
        let leader = members[0];
        SuccessionConfig {
            members,
            acks,
            epoch: 1,
            leader,
            allowance: 1 << 20,
            history_max: 1_024,
            losses_max: 1_024,
        }
    }
}

/// One epoch that was activated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// Its number.
    pub epoch: u64,
    /// Who leads it.
    pub leader: NodeId,
    /// The end of the log with which it began.
    pub after: Position,
    /// Up to this index its leader may have made entries.
    pub allowed: u64,
    /// It was activated though what was acknowledged may be lost by it.
    pub forced: bool,
}

/// Where a member's log ended when it was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Report {
    node: NodeId,
    last: Position,
    visible: u64,
}

/// A change of leaders under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealing {
    /// The epoch to come.
    pub epoch: u64,
    reports: Vec<Report>,
}

impl Sealing {
    pub(super) fn begun(epoch: u64) -> Sealing {
        Sealing { epoch, reports: Vec::new() }
    }

    /// Whether this member was heard.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.reports.iter().any(|report| report.node == node)
    }

    /// How many were.
    #[must_use]
    pub fn heard(&self) -> usize {
        self.reports.len()
    }
}

/// How much is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// A log that ends with `last` has entries behind [`Loss::after`].
    Known {
        /// The last of them.
        last: Position,
        /// The first of them, as many as their member could list.
        listed: Vec<Entry>,
    },
    /// The member led this epoch, and was not heard since.
    Unknown {
        /// The epoch; 0 if it was an older one than is remembered.
        led: u64,
        /// No more entries than these.
        at_most: u64,
    },
}

/// What a change of leaders has lost, as far as one member's log tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Whose log has, or had, what is lost.
    pub member: NodeId,
    /// The epoch in which that was found.
    pub epoch: u64,
    /// Entries of that log up to this index are kept.
    pub after: u64,
    /// How many behind it are not.
    pub extent: Extent,
    /// Whether clients may have been told that these were applied. With acknowledgements and no force they were not.
    pub answered: bool,
    /// A member that had kept them was promoted by force: nothing of this is lost.
    pub withdrawn: bool,
}

impl Loss {
    /// The most entries that can be lost by this.
    #[must_use]
    pub fn at_most(&self) -> u64 {
        match &self.extent {
            Extent::Known { last, .. } => {
                assert!(last.index >= self.after, "what is lost is behind what is kept");
                last.index - self.after
            }
            Extent::Unknown { at_most, .. } => *at_most,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (member, epoch, count) = (self.member, self.epoch, self.at_most());
        match &self.extent {
            Extent::Known { last, .. } => {
                write!(f, "epoch {epoch}: {member} had {count} entries beyond {}, up to ", self.after)?;
                write!(f, "{} of epoch {}", last.index, last.term)?;
            }
            Extent::Unknown { led, .. } => {
                write!(
                    f,
                    "epoch {epoch}: {member}, which led epoch {led}, is silent: unknown, at most {count}"
                )?;
            }
        }
        if self.withdrawn {
            f.write_str(" (withdrawn: they are kept after all)")?;
        } else if self.answered {
            f.write_str(" (clients may have been told that they were applied)")?;
        }
        Ok(())
    }
}

/// Which promotions are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// None that loses what was acknowledged.
    Safe,
    /// The best that can be had.
    Forced,
}

/// Nobody can be promoted; nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// No change is under way.
    NotSealing,
    /// Too few members are sealed to know what was acknowledged.
    TooFewSealed {
        /// How many are.
        sealed: usize,
        /// How many it takes.
        needed: usize,
    },
    /// Those that are have given up, or must give up, what another sealed member has.
    NobodyWhole,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocked::NotSealing => f.write_str("no change of leaders is under way"),
            Blocked::TooFewSealed { sealed, needed } => {
                write!(
                    f,
                    "{sealed} members are sealed, {needed} are needed for a promotion that loses nothing"
                )
            }
            Blocked::NobodyWhole => f.write_str("no sealed member has all that the sealed members have"),
        }
    }
}

impl core::error::Error for Blocked {}

/// See the module's documentation. All of it but the reports of a sealing under way must be durable before anything is said that follows from it.
///
/// Invariants: epochs rise; each begins in the log of an earlier one; an epoch to come is newer than all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succession {
    pub(super) config: SuccessionConfig,
    /// Oldest first, never empty.
    pub(super) history: Vec<Leadership>,
    pub(super) sealing: Option<Sealing>,
    pub(super) losses: Vec<Loss>,
    pub(super) losses_forgotten: u64,
}

impl Succession {
    /// A group that has never lived.
    #[must_use]
    pub fn new(config: SuccessionConfig) -> Succession {
        assert!(config.history_max > 1 && config.losses_max > 0, "something is remembered");
        let SuccessionConfig { epoch, leader, .. } = config;
        assert!(config.members.contains(&leader) && epoch > 0, "a member leads the first epoch");
        let first = Leadership { epoch, leader, after: Position::default(), allowed: 0, forced: false };
        Succession {
            config,
            history: Vec::from([first]),
            sealing: None,
            losses: Vec::new(),
            losses_forgotten: 0,
        }
    }

    /// The newest epoch that was activated.
    #[must_use]
    pub fn current(&self) -> &Leadership {
        self.history.last().expect("an epoch was activated")
    }

    /// All epochs that are remembered, oldest first.
    #[must_use]
    pub fn history(&self) -> &[Leadership] {
        &self.history
    }

    /// The change under way.
    #[must_use]
    pub fn sealing(&self) -> Option<&Sealing> {
        self.sealing.as_ref()
    }

    /// What was lost, oldest first.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// How many losses were forgotten, because there were too many.
    #[must_use]
    pub fn losses_forgotten(&self) -> u64 {
        self.losses_forgotten
    }

    /// The leader has gone, or is to be another. Returns the epoch to come; that is to be said to all.
    pub fn begin_sealing(&mut self) -> u64 {
        let newest = self.sealing.as_ref().map_or(self.current().epoch, |sealing| sealing.epoch);
        let epoch = newest + 1;
        self.sealing = Some(Sealing::begun(epoch));
        self.assert_invariants();
        epoch
    }

    /// The present leader's log reaches to `last`. Returns up to which index it may go on, and whether that is news, to be durable before it is said.
    /// `None`: it is not the leader.
    pub fn renewed(&mut self, node: NodeId, epoch: u64, last: u64) -> Option<(u64, bool)> {
        let ahead = self.config.allowance;
        let current = self.history.last_mut().expect("an epoch was activated");
        if self.sealing.is_some() || (current.epoch, current.leader) != (epoch, node) {
            return None;
        }
        // In steps of half the allowance, so that the catalog writes seldom.
        let news = last + ahead.div_ceil(2) > current.allowed;
        if news {
            current.allowed = last + ahead;
        }
        assert!(current.allowed > last || ahead == 0, "a leader is allowed to go on");
        Some((current.allowed, news))
    }

    /// A member is sealed in `epoch`, and its log ends with `last`. Said in the present epoch, it tells what of that log is lost. Returns whether
    /// anything durable has changed.
    pub fn sealed(&mut self, node: NodeId, epoch: u64, last: Position, visible: u64) -> bool {
        if !self.config.members.contains(&node) {
            return false;
        }
        let current = self.current().epoch;
        match &mut self.sealing {
            Some(sealing) if sealing.epoch == epoch => {
                sealing.reports.retain(|report| report.node != node);
                sealing.reports.push(Report { node, last, visible });
                assert!(sealing.reports.len() <= self.config.members.len(), "one report a member");
                false
            }
            None if current == epoch => self.heard_of(node, last, &[]),
            _ => false,
        }
    }

    /// A member's log, which ends with `last`, is to be cut or replaced; `entries` are the first of those that may be lost. If that was said in the
    /// present epoch, it may, once what is now known is durable; then returns whether that is news.
    pub fn tail(&mut self, node: NodeId, epoch: u64, last: Position, entries: &[Entry]) -> Option<bool> {
        let present = self.sealing.is_none() && self.current().epoch == epoch;
        if !present || !self.config.members.contains(&node) {
            return None;
        }
        Some(self.heard_of(node, last, entries))
    }

    /// How much of a log that ends with `last` the present leader's log has; 0 if that is no longer remembered. O(epochs · log epochs).
    #[must_use]
    pub fn kept(&self, last: Position) -> u64 {
        common(&self.history, last, self.present()).unwrap_or(0)
    }

    /// The end of the present leader's log, wherever that is.
    fn present(&self) -> Position {
        Position { index: u64::MAX, term: self.current().epoch }
    }

    /// Chooses and activates. The old leader must be sealed, or its lease over. Returns the new epoch, to be durable before it is said.
    ///
    /// # Errors
    /// [`Blocked`] says why nobody can be promoted so. Nothing changed.
    pub fn choose(&mut self, choice: Choice) -> Result<Leadership, Blocked> {
        let sealing = self.sealing.as_ref().ok_or(Blocked::NotSealing)?;
        if planted(Plant::PromotesUnsealed) {
            return Ok(self.promote_unsealed());
        }
        let needed = self.config.members.len() - self.config.acks;
        let sealed = sealing.reports.len();
        let order = |position: &Position| (position.term, position.index);
        let claims: Vec<(Report, Position)> =
            sealing.reports.iter().map(|report| (*report, self.claim(report.last))).collect();
        let floor = claims.iter().map(|(_, claim)| order(claim)).max().unwrap_or_default();
        let whole = claims.iter().filter(|(report, claim)| report.visible <= claim.index);
        let best = whole.max_by_key(|(report, claim)| (order(claim), core::cmp::Reverse(report.node)));
        let safe = sealed >= needed && best.is_some_and(|(_, claim)| order(claim) == floor);
        let chosen = match (choice, best) {
            (_, Some((report, claim))) if safe || choice == Choice::Forced => (report.node, *claim),
            (Choice::Forced, None) if sealed > 0 => {
                // All that can be had is what was reported lost.
                let reports = sealing.reports.iter();
                let best = reports.max_by_key(|report| order(&report.last)).expect("one at least is sealed");
                (best.node, best.last)
            }
            _ if sealed < needed => return Err(Blocked::TooFewSealed { sealed, needed }),
            _ => return Err(Blocked::NobodyWhole),
        };
        let reports: Vec<Report> = sealing.reports.clone();
        let epoch = sealing.epoch;
        Ok(self.activate(epoch, chosen, !safe, &reports))
    }

    /// Planted: the next in the row, whatever its log has.
    fn promote_unsealed(&mut self) -> Leadership {
        let epoch = self.sealing.as_ref().expect("just looked at").epoch;
        let members = &self.config.members;
        let at = members.iter().position(|member| *member == self.current().leader).unwrap_or(0);
        let leader = members[(at + 1) % members.len()];
        let heard = self.sealing.as_ref().and_then(|s| s.reports.iter().find(|report| report.node == leader));
        let after = heard.map_or(self.current().after, |report| report.last);
        self.activate(epoch, (leader, after), false, &[])
    }

    fn activate(
        &mut self,
        epoch: u64,
        (leader, after): (NodeId, Position),
        forced: bool,
        reports: &[Report],
    ) -> Leadership {
        let old = *self.current();
        let heard = |node: NodeId| reports.iter().any(|report| report.node == node);
        for loss in &mut self.losses {
            if let Extent::Known { last, .. } = &loss.extent {
                loss.withdrawn |= common(&self.history, after, *last).is_some_and(|kept| kept > loss.after);
            }
        }
        assert!(epoch > old.epoch && after.term < epoch, "each epoch begins in the log of an earlier one");
        assert!(self.config.members.contains(&leader), "a member leads");
        let new = Leadership { epoch, leader, after, allowed: after.index + 1, forced };
        self.sealing = None;
        self.history.push(new);
        if self.history.len() > self.config.history_max {
            self.history.remove(0);
        }
        for report in reports {
            self.heard_of(report.node, report.last, &[]);
        }
        let at_most = old.allowed.max(old.after.index + 1).saturating_sub(after.index);
        if !heard(old.leader) && old.leader != leader && at_most > 0 {
            let extent = Extent::Unknown { led: old.epoch, at_most };
            self.add(old.leader, after.index, extent, old.epoch);
        }
        self.assert_invariants();
        new
    }

    /// Where a member's log would end if it led: less what was reported lost of it.
    fn claim(&self, last: Position) -> Position {
        let mut kept = last;
        for loss in self.losses.iter().filter(|loss| !loss.withdrawn) {
            let Extent::Known { last: lost, .. } = &loss.extent else { continue };
            // Paths that are no longer remembered have nothing in common that matters.
            if common(&self.history, kept, *lost).is_some_and(|index| index > loss.after) {
                kept = place_at(&self.history, kept, loss.after).unwrap_or_default();
            }
        }
        assert!(kept.index <= last.index, "a claim is no more than there is");
        kept
    }

    /// A member's log ends with `last`: nothing about it is unknown any more, and what the present leader's log lacks of it is lost. Returns whether
    /// that is news.
    fn heard_of(&mut self, node: NodeId, last: Position, entries: &[Entry]) -> bool {
        let after = common(&self.history, last, self.present());
        let beyond_memory = Extent::Unknown { led: 0, at_most: last.index };
        if after.is_none()
            && self.losses.iter().any(|loss| loss.member == node && loss.extent == beyond_memory)
        {
            return false;
        }
        let before = self.losses.len();
        self.losses.retain(|loss| loss.member != node || matches!(loss.extent, Extent::Known { .. }));
        let mut news = before != self.losses.len();
        let Some(after) = after else {
            self.add(node, 0, beyond_memory, 0);
            return true;
        };
        if after >= last.index {
            return news;
        }
        let same = |loss: &&mut Loss| {
            let tail = matches!(&loss.extent, Extent::Known { last: lost, .. } if *lost == last);
            tail && loss.member == node && !loss.withdrawn
        };
        let lost: Vec<Entry> = entries.iter().filter(|entry| entry.index() > after).cloned().collect();
        let first = place_at(&self.history, last, after + 1).map_or(0, |place| place.term);
        let answered = self.may_be_answered(first);
        if let Some(loss) = self.losses.iter_mut().find(same) {
            // A later change may have lost more of the same log.
            let more = after < loss.after;
            (loss.after, loss.answered) = (loss.after.min(after), loss.answered | answered);
            if let Extent::Known { listed, .. } = &mut loss.extent
                && (more || listed.is_empty())
                && *listed != lost
            {
                *listed = lost;
                news = true;
            }
            return news | more;
        }
        self.add(node, after, Extent::Known { last, listed: lost }, first);
        true
    }

    /// Whether what was made in this epoch may have been acknowledged, and then lost.
    fn may_be_answered(&self, made_in: u64) -> bool {
        let forced = |leadership: &Leadership| leadership.forced && leadership.epoch > made_in;
        self.config.acks == 0 || self.history.iter().any(forced)
    }

    /// `made_in`: the epoch in which the first of what is lost was made.
    fn add(&mut self, member: NodeId, after: u64, extent: Extent, made_in: u64) {
        let epoch = self.current().epoch;
        let answered = self.may_be_answered(made_in);
        if self.losses.len() == self.config.losses_max {
            self.losses.remove(0);
            self.losses_forgotten += 1;
        }
        assert!(self.losses.len() < self.config.losses_max, "losses are bounded");
        self.losses.push(Loss { member, epoch, after, extent, answered, withdrawn: false });
    }

    /// Panics if the value contradicts itself. O(history).
    pub fn assert_invariants(&self) {
        assert!(!self.history.is_empty(), "an epoch was activated");
        assert!(self.history.len() <= self.config.history_max, "the history is bounded");
        assert!(self.losses.len() <= self.config.losses_max, "and so are the losses");
        let rises = |pair: &[Leadership]| pair[0].epoch < pair[1].epoch && pair[1].after.term < pair[1].epoch;
        assert!(self.history.windows(2).all(rises), "each epoch begins in the log of an earlier one");
        let newest = self.current().epoch;
        assert!(
            self.sealing.as_ref().is_none_or(|sealing| sealing.epoch > newest),
            "an epoch to come is newer"
        );
    }
}

/// What an epoch's log begins with.
fn beginning(history: &[Leadership], epoch: u64) -> Option<Position> {
    if epoch == 0 {
        return Some(Position::default());
    }
    let at = history.binary_search_by_key(&epoch, |leadership| leadership.epoch).ok()?;
    Some(history[at].after)
}

/// Up to which index two logs with these last places are equal. `None` if an epoch is no longer remembered. O(epochs · log epochs).
fn common(history: &[Leadership], mut one: Position, mut other: Position) -> Option<u64> {
    while one.term != other.term {
        let later = if one.term > other.term { &mut one } else { &mut other };
        let before = beginning(history, later.term)?;
        assert!(before.term < later.term, "each epoch begins in the log of an earlier one");
        *later = before;
    }
    Some(one.index.min(other.index))
}

/// The place at `index` of the log that ends with `last`. `None` if an epoch is no longer remembered.
fn place_at(history: &[Leadership], last: Position, index: u64) -> Option<Position> {
    assert!(index <= last.index, "a place in the log");
    let mut place = last;
    loop {
        let before = beginning(history, place.term)?;
        if index > before.index || place.term == 0 {
            return Some(Position { index, term: place.term });
        }
        place = before;
    }
}
