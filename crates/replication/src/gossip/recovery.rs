//! From the log back to a replica.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_crdt::Delta;
use keypact_ordering::clock::{DotContext, HybridClock, HybridStamp};
use keypact_protocol::{Lsn, Recover, RecoveryError, Wire};

use super::change::{Change, Replicated};
use super::membership::Spent;
use super::recent::Recent;
use super::record::{Meta, Record};
use super::round::Pace;
use super::{Config, Counters, Gossip, Log, View};

/// A replica on its way back.
#[derive(Debug)]
pub struct Recovering<L: Replicated> {
    replica: Gossip<L>,
    /// Parts whose last has not come yet.
    parts: Vec<Bytes>,
}

fn error(what: &'static str, lsn: Lsn) -> RecoveryError {
    RecoveryError { what, lsn }
}

impl<L: Replicated> Recovering<L> {
    pub(super) fn begin(
        config: Config,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<Recovering<L>, RecoveryError> {
        if let Err(wrong) = config.validate() {
            return Err(error(wrong.what(), Lsn::ZERO));
        }
        let mut replica = blank(config, seed);
        replica.found_group();
        if let Some(meta) = checkpoint {
            let bad = |_| error("a checkpoint that is no gossip replica's", Lsn::ZERO);
            let meta = Meta::decode(meta).map_err(bad)?;
            replica.state = L::decode(meta.state).map_err(bad)?;
            replica.version = replica.state.version();
            replica.folder = meta.folder;
            replica.view = meta.view;
            replica.replica = meta.replica;
            replica.serving = meta.serving;
            replica.clock = HybridClock::resume(meta.stamp, replica.config.drift_max_ms);
            replica.index = meta.index;
            assert!(meta.held.len() as u64 <= meta.index, "what was held has an index");
            let first = meta.index + 1 - meta.held.len() as u64;
            for (index, change) in (first..).zip(meta.held) {
                replica.again.push(replica.delivery(index, change, None));
            }
        }
        Ok(Recovering { replica, parts: Vec::new() })
    }

    fn give_again(&mut self, index: u64, change: &Change) {
        let mut bytes = Vec::new();
        change.encode(&mut bytes);
        let delivery = self.replica.delivery(index, Bytes::from(bytes), None);
        self.replica.again.push(delivery);
    }

    fn applied(
        &mut self,
        (index, stamp, parts): (u64, HybridStamp, u32),
        delta: Bytes,
        lsn: Lsn,
    ) -> Result<(), RecoveryError> {
        let mut before = core::mem::take(&mut self.parts);
        if index <= self.replica.index {
            // The checkpoint has it.
            return Ok(());
        }
        // Those of a transfer that a crash cut off stand before them, and count no more.
        before.drain(..before.len().saturating_sub(parts as usize));
        if before.len() != parts as usize || index != self.replica.index + u64::from(parts) + 1 {
            return Err(error("a change that leaves a gap", lsn));
        }
        let alone = before.is_empty();
        assert!(index > self.replica.index, "indices rise");
        for bytes in before.into_iter().chain([delta]) {
            let bad = |_| error("a delta of another type", lsn);
            let delta = L::Delta::decode(bytes.clone()).map_err(bad)?;
            let events = delta.events();
            self.replica.state.apply(delta);
            if alone {
                self.replica.recent.insert(&events, bytes.clone());
            }
            self.replica.index += 1;
            self.replica.clock = HybridClock::resume(stamp, self.replica.config.drift_max_ms);
            self.give_again(self.replica.index, &Change::Join(bytes));
        }
        assert!(self.replica.index == index, "the parts have the indices before it");
        self.replica.version = self.replica.state.version();
        Ok(())
    }

    fn enter(&mut self, index: u64, view: View, lsn: Lsn) -> Result<(), RecoveryError> {
        if view.number <= self.replica.view.number {
            return Ok(());
        }
        if index != self.replica.index {
            return Err(error("a view that leaves a gap", lsn));
        }
        let number = view.number;
        for change in self.replica.enter(view) {
            self.replica.index += 1;
            self.give_again(self.replica.index, &change);
        }
        assert!(self.replica.view.number == number, "the view was entered");
        Ok(())
    }
}

/// Nothing known yet.
fn blank<L: Replicated>(config: Config, seed: u64) -> Gossip<L> {
    Gossip {
        folder: config.folder,
        view: View::none(),
        replica: None,
        serving: false,
        state: L::default(),
        version: DotContext::new(),
        clock: HybridClock::new(config.drift_max_ms),
        index: 0,
        held: VecDeque::new(),
        recent: Recent::new(config.recent_bytes_max),
        fresh: Vec::new(),
        incoming: None,
        outgoing: BTreeMap::new(),
        // Two lives of a replica must not number their transfers alike.
        transfers_begun: seed >> 16,
        target: None,
        spread: 0,
        spent: Spent::default(),
        pace: Pace::new(seed),
        log: Log::default(),
        again: Vec::new(),
        counters: Counters::default(),
        config,
    }
}

impl<L: Replicated> Gossip<L> {
    /// Who stands in the first view with this folder is a founder: the group begins with it. All others know no view yet.
    fn found_group(&mut self) {
        let first_view = &self.config.first_view;
        let row = first_view.row(self.config.id).filter(|row| row.folder == self.folder);
        self.replica = row.map(|row| row.replica);
        self.serving = row.is_some();
        self.view = if self.serving { first_view.clone() } else { View::none() };
        assert!(self.index == 0, "what makes a founder comes first in its folder");
    }
}

impl<L: Replicated> Recover<Gossip<L>> for Recovering<L> {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        self.replica.log.last_append = lsn;
        match record {
            Record::Part { delta } => self.parts.push(delta),
            Record::Applied { index, stamp, parts, delta } => {
                return self.applied((index, stamp, parts), delta, lsn);
            }
            Record::View { index, view } => {
                self.parts.clear();
                return self.enter(index, view, lsn);
            }
            Record::Serving { replica } => {
                self.replica.serving |= self.replica.row().is_some_and(|row| row.replica == replica);
            }
            Record::Folder { folder } => {
                if folder > self.replica.folder {
                    self.replica.folder = folder;
                    self.replica.found_group();
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Gossip<L> {
        let Recovering { mut replica, .. } = self;
        replica.version = replica.state.version();
        assert!(!replica.serving || replica.row().is_some(), "who serves is in its view");
        assert!(replica.again.len() as u64 <= replica.index, "what is given again has an index");
        replica
    }
}
