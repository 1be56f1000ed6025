//! What a run knows by itself of what was made, acknowledged and lost, without asking the catalog; and the catalog's account, held against it.

use std::collections::BTreeMap;

use keypact_log::{Position, Tail};
use keypact_protocol::NodeId;
use keypact_replication::leader_follower::{Extent, Loss, Succession};
use keypact_simulator::Violation;

/// Seen from above: which epochs there were and where each began, and every write that was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The end of the log with which an epoch's leader began. An epoch whose leader never began made no entry.
    begins: BTreeMap<u64, Position>,
    /// Places of acknowledged writes, and who answered.
    acknowledged: BTreeMap<(u64, u64), NodeId>,
}

/// What the comparison has met.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Met {
    pub(super) acknowledged_lost: u64,
    pub(super) known: u64,
    pub(super) unknown: u64,
    pub(super) withdrawn: u64,
    pub(super) listed: u64,
}

impl Truth {
    pub(super) fn began(&mut self, epoch: u64, after: Position) {
        self.begins.entry(epoch).or_insert(after);
    }

    /// A log, looked at after each step, shows how its last epoch began, also if its leader has stopped leading within the step.
    pub(super) fn shown(&mut self, tail: &Tail) {
        let last = tail.last();
        if last.term == 0 || self.begins.contains_key(&last.term) {
            return;
        }
        let of_this_epoch = |index: &u64| tail.term_at(*index) == Some(last.term);
        let first = (tail.base().index + 1..=last.index).rev().take_while(of_this_epoch).last();
        let Some(index) = first.map(|first| first - 1) else { return };
        let term = tail.term_at(index).expect("the base, or behind it");
        self.began(last.term, Position { index, term });
    }

    pub(super) fn acknowledged(&mut self, epoch: u64, index: u64, by: NodeId) {
        self.acknowledged.insert((epoch, index), by);
    }

    /// Up to which index logs that end there are equal: back from epoch to epoch until both are in one.
    fn shared(&self, one: Position, other: Position) -> u64 {
        let path = |mut place: Position| {
            let mut path = vec![place];
            while let Some(before) = self.begins.get(&place.term) {
                place = *before;
                path.push(place);
            }
            path
        };
        let (one, other) = (path(one), path(other));
        let meets = |place: &Position| other.iter().find(|there| there.term == place.term);
        one.iter().find_map(|place| Some(place.index.min(meets(place)?.index))).unwrap_or(0)
    }

    /// Whether the log that ends at `last` has this entry.
    pub(super) fn has(&self, last: Position, (epoch, index): (u64, u64)) -> bool {
        self.shared(last, Position { index, term: epoch }) >= index
    }

    /// Whether this entry is in the log with which an epoch goes on.
    pub(super) fn keeps(&self, epoch: u64, entry: (u64, u64)) -> bool {
        self.has(Position { index: u64::MAX, term: epoch }, entry)
    }

    fn covers(&self, loss: &Loss, entry: (u64, u64)) -> bool {
        if loss.withdrawn || !loss.answered || entry.1 <= loss.after {
            return false;
        }
        match &loss.extent {
            Extent::Known { last, .. } => self.has(*last, entry),
            Extent::Unknown { at_most, .. } => entry.1 - loss.after <= *at_most,
        }
    }

    /// The catalog's account is right: whatever was acknowledged and is lost stands in a report, and nothing stands there that is kept. `None` while
    /// no leader has begun the newest epoch.
    pub(super) fn judge(&self, catalog: &Succession) -> Result<Option<Met>, Violation> {
        let mut met = Met::default();
        let epoch = catalog.current().epoch;
        if catalog.sealing().is_some() || !self.begins.contains_key(&epoch) {
            return Ok(None);
        }
        let kept = Position { index: u64::MAX, term: epoch };
        for (entry, by) in &self.acknowledged {
            if self.has(kept, *entry) {
                continue;
            }
            met.acknowledged_lost += 1;
            if catalog.losses_forgotten() == 0
                && !catalog.losses().iter().any(|loss| self.covers(loss, *entry))
            {
                let detail = format!(
                    "{by} answered for {} of epoch {}; it is lost, and no report says so",
                    entry.1, entry.0
                );
                return Err(Violation::new("loss-is-reported", detail));
            }
        }
        for loss in catalog.losses() {
            match &loss.extent {
                _ if loss.withdrawn => met.withdrawn += 1,
                Extent::Unknown { .. } => met.unknown += 1,
                Extent::Known { last, listed } => {
                    met.known += 1;
                    met.listed += listed.len() as u64;
                    let shared = self.shared(kept, *last);
                    if shared > loss.after {
                        let detail = format!("`{loss}`, of which the group has up to {shared}");
                        return Err(Violation::new("reported-is-lost", detail));
                    }
                    if let Some(entry) = listed.iter().find(|e| self.has(kept, (e.term(), e.index()))) {
                        return Err(Violation::new(
                            "reported-is-lost",
                            format!("{entry:?} is listed, and is kept"),
                        ));
                    }
                }
            }
        }
        Ok(Some(met))
    }
}
