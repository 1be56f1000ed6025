//! From checkpoint and records back to a member.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{Lsn, Recover, RecoveryError, Wire};

use super::log::Log;
use super::record::Meta;
use super::{Config, Counters, Disk, Entry, HardState, Record, Sequencer, State, Viewstamp};

/// A member on its way back.
#[derive(Debug)]
pub struct Recovering {
    config: Config,
    hard: HardState,
    log: Log,
    /// Whether the records as far as they were read agree with the checkpoint; while they do not, entries behind it do not count.
    agrees: bool,
    last: Lsn,
}

impl Recovering {
    pub(super) fn begin(config: Config, checkpoint: Option<Bytes>) -> Result<Recovering, RecoveryError> {
        let refused = |what| RecoveryError { what, lsn: Lsn::ZERO };
        config.validate().map_err(|error| refused(error.what()))?;
        let meta = match checkpoint {
            None => Meta { at: Viewstamp::ZERO, stamp_ms: 0 },
            Some(meta) => {
                Meta::decode(meta).map_err(|_| refused("a checkpoint's meta of another protocol"))?
            }
        };
        let log = Log::new(meta.at, meta.stamp_ms);
        Ok(Recovering { config, hard: HardState::default(), log, agrees: true, last: Lsn::ZERO })
    }

    fn replay_entry(&mut self, lsn: Lsn, entry: Entry) -> Result<(), RecoveryError> {
        let refused = |what| Err(RecoveryError { what, lsn });
        let base = self.log.base();
        if entry.at.position <= base.position {
            // It replaced everything behind it.
            self.log.reset(base, self.log.base_stamp_ms());
            self.agrees = entry.at == base;
            return Ok(());
        }
        let last = self.log.last().position;
        if !self.agrees || (entry.at.position > last + 1 && self.log.is_empty()) {
            return Ok(());
        }
        let Some(before) = self.log.at(entry.at.position - 1) else {
            return refused("an entry that leaves a gap");
        };
        if entry.at.epoch < before.epoch {
            if before == base {
                // Older than the checkpoint: what replaced it is still to come.
                self.log.reset(base, self.log.base_stamp_ms());
                return Ok(());
            }
            return refused("an entry of an older epoch than the one before");
        }
        if entry.at.position <= last {
            self.log.truncate_from(entry.at.position);
        }
        assert!(self.agrees, "only what follows the checkpoint counts");
        self.log.push(entry, lsn, None);
        Ok(())
    }
}

impl Recover<Sequencer> for Recovering {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        if lsn <= self.last {
            return Err(RecoveryError { what: "a log sequence number that does not rise", lsn });
        }
        self.last = lsn;
        match record {
            Record::Entry(entry) => self.replay_entry(lsn, entry),
            Record::HardState(hard) => {
                if hard.epoch < self.hard.epoch {
                    return Err(RecoveryError { what: "an epoch that falls", lsn });
                }
                self.hard = hard;
                Ok(())
            }
            Record::Reset { at } => {
                // Otherwise the snapshot never took its place, or a later checkpoint did.
                if at == self.log.base() {
                    self.log.reset(at, self.log.base_stamp_ms());
                    self.agrees = true;
                }
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Sequencer {
        self.log.written(self.last);
        let last = self.log.last();
        assert!(self.log.durable() == last.position, "all that was read is durable");
        if self.hard.epoch < last.epoch {
            // No order of our own writes leaves this; that this member sequenced that epoch can't be excluded.
            self.hard = HardState { epoch: last.epoch, sequencer: Some(self.config.id) };
        }
        assert!(self.hard.epoch >= self.log.last().epoch, "no entry is of an epoch not yet known");
        let base = self.log.base().position;
        Sequencer {
            config: self.config,
            hard: self.hard,
            log: self.log,
            disk: Disk { durable: self.last, last_append: self.last, hard: self.last, drop_after: None },
            committed: base,
            delivered: base,
            agreed: 0,
            state: State::Member,
            incoming: None,
            reading: Vec::new(),
            checkpoint_pending: false,
            compact_wanted: false,
            counters: Counters::default(),
        }
    }
}
