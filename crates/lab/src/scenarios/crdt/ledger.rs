//! The reference: what was done, by whom, having seen what; and what a replica that knows certain events must therefore show.
//!
//! It shares nothing with the types that it judges but the names of events. It has no merge: a state is *evaluated* from the set of
//! events that made it (S. Burckhardt et al., "Replicated Data Types: Specification, Verification, Optimality", 2014).

use std::collections::{BTreeMap, BTreeSet};

use keypact_crdt::{Lattice, OrMap};
use keypact_ordering::clock::{Dot, DotContext, HybridStamp, ReplicaId};
use keypact_protocol::NodeId;
use keypact_simulator::Violation;

use super::board::{Action, Board, Field, Kind};
use super::replica::Made;

/// A place in the map: key, part, and element where the part has some.
type Place = (u64, Kind, u64);

/// The elements of a part, or 0 for parts without.
fn place(key: u64, kind: Kind, item: u64) -> Place {
    (key, kind, if matches!(kind, Kind::Set | Kind::Inner) { item } else { 0 })
}

/// What one event of the map did.
#[derive(Debug)]
struct Event {
    stamp: HybridStamp,
    token: u64,
    /// What it made live.
    makes: Option<Place>,
    /// What a counter's part was after it.
    part: i64,
    /// What was live before its replica's eyes where it took something away, or put something in its place.
    supersedes: BTreeSet<Dot>,
    action: Action,
}

/// Whether an action of `own` supersedes what another event made live at `at`, if it sees it.
fn reaches(action: Action, own: ReplicaId, other: ReplicaId, at: Place) -> bool {
    match action {
        Action::Remove { key } => key == at.0,
        Action::Take { key, kind, item } => place(key, kind, item) == at,
        // A counter's part is replaced by its own replica only.
        Action::Put { key, kind, item, .. } => {
            place(key, kind, item) == at && (!matches!(kind, Kind::Tally | Kind::Inner) || own == other)
        }
        Action::Grow(_) | Action::Level(_) | Action::Write => false,
    }
}

/// One identity's actions, in order.
#[derive(Debug, Default)]
struct Life {
    made: Vec<Made>,
    /// Its disk was lost, or is away at the end: the others need not have all of it.
    lost: bool,
}

/// What was seen in the states over a run.
#[derive(Debug, Default)]
pub struct Reached {
    /// An element, or flag, lives though a concurrent event took it away.
    pub add_won: u64,
    /// Several values stood side by side.
    pub siblings: u64,
    /// States that were evaluated.
    pub evaluated: u64,
    /// Actions that a crash took from the disk before anybody had heard of them.
    pub forgotten: u64,
}

/// All that was done.
#[derive(Debug, Default)]
pub struct Ledger {
    lives: BTreeMap<ReplicaId, Life>,
    events: BTreeMap<Dot, Event>,
    acknowledged: BTreeSet<u64>,
    /// Of each write of the register: the writes that it had seen.
    writes: BTreeMap<u64, BTreeSet<u64>>,
    /// For the counters of the run.
    pub reached: Reached,
}

fn violation(property: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation::new(property, detail))
}

impl Ledger {
    /// Notes an action.
    ///
    /// # Errors
    /// Two events under one name.
    pub fn made(&mut self, made: &Made) -> Result<(), Violation> {
        if made.action == Action::Write {
            let mut seen: BTreeSet<u64> = made.over.into_iter().collect();
            seen.extend(made.over.iter().filter_map(|over| self.writes.get(over)).flatten());
            self.writes.insert(made.token, seen);
        }
        if made.counter > 0 {
            let own = Dot::new(made.replica, made.counter);
            let live = self.live(&made.seen);
            let superseded =
                live.iter().filter(|(dot, at)| reaches(made.action, own.replica, dot.replica, *at));
            let supersedes: BTreeSet<Dot> = superseded.map(|(dot, _)| *dot).collect();
            let (makes, by) = match made.action {
                Action::Put { key, kind, item, by } => (Some(place(key, kind, item)), by),
                _ => (None, 0),
            };
            let before: i64 = supersedes.iter().map(|dot| self.events[dot].part).sum();
            let counts = makes.is_some_and(|at| matches!(at.1, Kind::Tally | Kind::Inner));
            let part = if counts { before + by } else { 0 };
            let (stamp, token, action) = (made.stamp, made.token, made.action);
            let event = Event { stamp, token, makes, part, supersedes, action };
            if self.events.insert(own, event).is_some() {
                return violation("one-event-one-name", format!("{own} is the name of two events"));
            }
        }
        self.lives.entry(made.replica).or_default().made.push(made.clone());
        Ok(())
    }

    /// Notes what a client was told.
    pub fn acknowledged(&mut self, token: u64) {
        self.acknowledged.insert(token);
    }

    /// A node has started under this identity: if it had others before, their disk was lost.
    pub fn started(&mut self, replica: ReplicaId) {
        for (other, life) in &mut self.lives {
            life.lost |= *other != replica && other.life().0 == replica.life().0;
        }
    }

    /// A replica is gone, and its disk kept so many of its actions.
    ///
    /// # Errors
    /// It lost one that was acknowledged.
    pub fn crashed(&mut self, replica: ReplicaId, kept: u64, lost: bool) -> Result<(), Violation> {
        let life = self.lives.entry(replica).or_default();
        life.lost |= lost;
        if life.lost {
            return Ok(());
        }
        for made in life.made.drain((kept as usize).min(life.made.len())..) {
            self.reached.forgotten += 1;
            if self.acknowledged.contains(&made.token) {
                return violation("acknowledged-survives", format!("{replica} forgot {made:?}"));
            }
            self.writes.remove(&made.token);
            if made.counter > 0 {
                self.events.remove(&Dot::new(made.replica, made.counter));
            }
        }
        Ok(())
    }

    /// Of an identity's events only those up to this one are left: a crash took the others before anybody had heard of them.
    pub fn kept(&mut self, replica: ReplicaId, last: u64) {
        let lost = Dot::new(replica, last.saturating_add(1))..=Dot::new(replica, u64::MAX);
        let lost: Vec<Dot> = self.events.range(lost).map(|(dot, _)| *dot).collect();
        self.reached.forgotten += lost.len() as u64;
        lost.iter().for_each(|dot| drop(self.events.remove(dot)));
    }

    /// Judges what one replica shows in its map against the events that it has applied.
    ///
    /// # Errors
    /// It shows something else than these events say.
    pub fn check_map(&mut self, node: NodeId, map: &OrMap<u64, Field>) -> Result<(), Violation> {
        self.check_applied(node, map, &map.version())
    }

    /// The same, where not all events that were applied are in the map's version any more.
    ///
    /// # Errors
    /// As there.
    pub fn check_applied(
        &mut self,
        node: NodeId,
        map: &OrMap<u64, Field>,
        version: &DotContext,
    ) -> Result<(), Violation> {
        self.reached.evaluated += 1;
        let known = self.events.keys().filter(|dot| version.contains(**dot)).count() as u64;
        if known != version.dot_count() {
            let detail = format!("{node} has applied {version}, of which {known} were made");
            return violation("events-are-known", detail);
        }
        let mut shown = Shown::default();
        for (dot, at) in self.live(version) {
            shown.add(dot, &self.events[&dot], at);
            let rival = |(own, other): (&Dot, &Event)| {
                version.contains(*own)
                    && other.makes.is_none()
                    && reaches(other.action, own.replica, dot.replica, at)
            };
            self.reached.add_won += u64::from(self.events.iter().any(rival));
        }
        self.reached.siblings += u64::from(shown.values.values().any(|values| values.len() > 1));
        shown.compare(node, map)
    }

    /// What lives, and where, once exactly these events have been applied: what was made and not superseded by any of them.
    fn live(&self, applied: &DotContext) -> Vec<(Dot, Place)> {
        let known = || self.events.iter().filter(|(dot, _)| applied.contains(**dot));
        let superseded: BTreeSet<Dot> =
            known().flat_map(|(_, event)| event.supersedes.iter().copied()).collect();
        let made = known().filter_map(|(dot, event)| Some((*dot, event.makes?)));
        made.filter(|(dot, _)| !superseded.contains(dot)).collect()
    }

    /// Judges the end: all replicas that are there (`present`) show this.
    ///
    /// # Errors
    /// Something acknowledged is not there, or something is there that nobody did.
    pub fn check_end(
        &mut self,
        node: NodeId,
        board: &Board,
        present: &BTreeSet<NodeId>,
    ) -> Result<(), Violation> {
        self.check_map(node, &board.map)?;
        // Who is away at the end still has on its disk what nobody has heard of.
        for (replica, life) in &mut self.lives {
            life.lost |= !present.contains(&replica.life().0);
        }
        let version = board.map.version();
        for (replica, life) in &self.lives {
            self.check_counters(*replica, life, board)?;
            for made in life.made.iter().filter(|made| made.counter > 0 && !life.lost) {
                if !version.contains(Dot::new(*replica, made.counter)) {
                    return violation("events-spread", format!("nobody has {made:?}, {version}"));
                }
            }
        }
        let made: BTreeSet<ReplicaId> = self.lives.keys().copied().collect();
        if let Some(stranger) =
            version.spans().map(|span| span.replica).find(|replica| !made.contains(replica))
        {
            return violation("events-are-known", format!("{stranger} has never done anything"));
        }
        self.check_register(board)
    }

    /// Each replica's part of the counters is what it did: all of it, or all up to some place if its disk was lost.
    fn check_counters(&self, replica: ReplicaId, life: &Life, board: &Board) -> Result<(), Violation> {
        let level = board.level.of_replica(replica);
        let shown = (board.grow.of(replica), level.0, level.1);
        let mut sum = (0, 0, 0);
        let mut prefixes = vec![sum];
        for made in &life.made {
            match made.action {
                Action::Grow(by) => sum.0 += by,
                Action::Level(by) if by < 0 => sum.2 += by.unsigned_abs(),
                Action::Level(by) => sum.1 += by.unsigned_abs(),
                _ => continue,
            }
            prefixes.push(sum);
        }
        // The two counters travel apart, so what a lost disk leaves of them need not be one prefix.
        let known =
            |pick: fn(&(u64, u64, u64)) -> (u64, u64), of: (u64, u64)| prefixes.iter().any(|p| pick(p) == of);
        let right = if life.lost {
            known(|p| (p.0, 0), (shown.0, 0)) && known(|p| (p.1, p.2), (shown.1, shown.2))
        } else {
            shown == sum
        };
        if right {
            return Ok(());
        }
        violation(
            "counted-once",
            format!("{replica} has counted {sum:?}, shown is {shown:?}, lost: {}", life.lost),
        )
    }

    /// No write may lose against one that its writer had seen.
    fn check_register(&self, board: &Board) -> Result<(), Violation> {
        let winner = board.latest.value();
        for life in self.lives.values().filter(|life| !life.lost) {
            for made in life.made.iter().filter(|made| made.action == Action::Write) {
                let Some(winner) = winner else {
                    return violation("last-write-wins", format!("nothing is left of {made:?}"));
                };
                if self.writes[&made.token].contains(winner) {
                    let detail = format!("{made:?} lost against {winner}, which its writer had seen");
                    return violation("last-write-wins", detail);
                }
            }
        }
        match winner {
            Some(winner) if !self.writes.contains_key(winner) => {
                violation("last-write-wins", format!("nobody wrote {winner}"))
            }
            _ => Ok(()),
        }
    }
}

/// What a map shows.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    tallies: BTreeMap<u64, i128>,
    latest: BTreeMap<u64, (HybridStamp, Dot, u64)>,
    values: BTreeMap<u64, Vec<u64>>,
    enabled: BTreeSet<u64>,
    disabled: BTreeSet<u64>,
    elements: BTreeSet<(u64, u64)>,
    inner: BTreeMap<(u64, u64), i128>,
}

impl Shown {
    fn add(&mut self, dot: Dot, event: &Event, at: Place) {
        let ((key, kind, item), part) = (at, event.part);
        match kind {
            Kind::Tally => *self.tallies.entry(key).or_default() += i128::from(part),
            Kind::Latest => {
                let written = (event.stamp, dot, event.token);
                let latest = self.latest.entry(key).or_insert(written);
                *latest = (*latest).max(written);
            }
            Kind::Values => self.values.entry(key).or_default().push(event.token),
            Kind::Enable => drop(self.enabled.insert(key)),
            Kind::Disable => drop(self.disabled.insert(key)),
            Kind::Set => drop(self.elements.insert((key, item))),
            Kind::Inner => *self.inner.entry((key, item)).or_default() += i128::from(part),
        }
    }

    fn compare(&self, node: NodeId, map: &OrMap<u64, Field>) -> Result<(), Violation> {
        for key in 0..super::KEYS {
            let empty = Field::default();
            let field = map.get(&key).unwrap_or(&empty);
            let expected = (
                self.tallies.get(&key).copied().unwrap_or(0),
                self.latest.get(&key).map(|(_, _, token)| *token),
                self.values.get(&key).cloned().unwrap_or_default(),
                self.enabled.contains(&key),
                !self.disabled.contains(&key),
                self.elements.iter().filter(|(of, _)| *of == key).map(|(_, item)| *item).collect::<Vec<_>>(),
                self.inner
                    .iter()
                    .filter(|((of, _), _)| *of == key)
                    .map(|((_, item), sum)| (*item, *sum))
                    .collect::<Vec<_>>(),
            );
            let shown = (
                field.0.value(),
                field.1.value().copied(),
                field.2.entries().map(|(_, value)| *value).collect::<Vec<_>>(),
                field.3.is_enabled(),
                field.4.is_enabled(),
                field.5.iter().map(|(element, _)| *element).collect::<Vec<_>>(),
                field.6.iter().map(|(item, tally)| (*item, tally.value())).collect::<Vec<_>>(),
            );
            if expected != shown {
                let detail = format!("{node} shows under {key} {shown:?}, its events say {expected:?}");
                return violation("shows-what-its-events-say", detail);
            }
        }
        Ok(())
    }
}
