//! Recovery: the checkpoint first, then what the disk kept of the log.
//!
//! The log may hold entries from before the checkpoint, entries that were cut off later, and entries that contradict the checkpoint because
//! a snapshot took the state back. So an entry counts only if it follows, entry by entry, on the checkpoint's last.

use bytes::Bytes;
use keypact_log::{CheckpointMeta, Entry, Position, Tail};
use keypact_protocol::{Lsn, Plant, Recover, RecoveryError, planted};

use super::epochs::Epochs;
use super::{Config, Counters, Disk, HardState, LeaderFollower, Record};

/// A member on its way back.
#[derive(Debug)]
pub struct Recovering {
    config: Config,
    seed: u64,
    hard: Option<HardState>,
    tail: Tail,
    epochs: Epochs,
    has_checkpoint: bool,
    /// Whether the log as far as it was read agrees with the checkpoint; while it does not, entries behind the checkpoint do not count.
    agrees: bool,
    last: Lsn,
}

impl Recovering {
    pub(super) fn begin(
        config: Config,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<Recovering, RecoveryError> {
        config.validate().map_err(|error| RecoveryError { what: error.what(), lsn: Lsn::ZERO })?;
        let has_checkpoint = checkpoint.is_some();
        let (meta, epochs) = match checkpoint {
            None => (CheckpointMeta { position: Position::default(), stamp_ms: 0 }, Epochs::default()),
            Some(meta) => CheckpointMeta::decode_with(&meta)
                .and_then(|(meta, epochs)| Some((meta, Epochs::decode(&epochs)?)))
                .ok_or(RecoveryError {
                    what: "a checkpoint's meta that is not leader-follower's",
                    lsn: Lsn::ZERO,
                })?,
        };
        let tail = Tail::new(meta.position, meta.stamp_ms, config.tail_limit_bytes);
        assert!(tail.is_empty() && tail.last() == meta.position, "the log goes on behind the checkpoint");
        Ok(Recovering {
            config,
            seed,
            hard: None,
            tail,
            epochs,
            has_checkpoint,
            agrees: true,
            last: Lsn::ZERO,
        })
    }

    fn clear_tail(&mut self) {
        self.tail.reset(self.tail.base(), self.tail.base_stamp_ms());
    }

    fn replay_entry(&mut self, lsn: Lsn, entry: Entry) -> Result<(), RecoveryError> {
        let (base, last) = (self.tail.base(), self.tail.last());
        let place = Position { index: entry.index(), term: entry.term() };
        if place.index <= base.index {
            // It voided everything behind it.
            self.clear_tail();
            self.agrees = place == base || base.index == 0;
            return Ok(());
        }
        if !self.agrees || (place.index > last.index + 1 && self.tail.is_empty()) {
            return Ok(());
        }
        if place.index > last.index + 1 {
            return Err(RecoveryError { what: "an entry that leaves a gap", lsn });
        }
        let before = self.tail.term_at(place.index - 1).expect("at most one past the end, and past the base");
        if place.term < before {
            if place.index == base.index + 1 {
                // Older than the checkpoint: it was cut off before that was made, and what cut it off is still to come.
                self.clear_tail();
                return Ok(());
            }
            return Err(RecoveryError { what: "an entry of an older epoch than the one before", lsn });
        }
        self.tail.append(entry, lsn, None);
        assert!(self.tail.last() == place, "whatever stood behind it is void");
        Ok(())
    }
}

impl Recover<LeaderFollower> for Recovering {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        if lsn <= self.last {
            return Err(RecoveryError { what: "a log sequence number that does not rise", lsn });
        }
        self.last = lsn;
        match record {
            Record::Entry(entry) => self.replay_entry(lsn, entry),
            Record::HardState(hard) => {
                let before = self.hard.unwrap_or_default();
                if (hard.epoch, hard.led) < (before.epoch, before.led) {
                    return Err(RecoveryError { what: "an epoch that falls", lsn });
                }
                self.hard = Some(hard);
                Ok(())
            }
            Record::Reset { position } => {
                // Otherwise the snapshot never took its place, or a later checkpoint did.
                if position == self.tail.base() {
                    self.clear_tail();
                    self.agrees = true;
                }
                Ok(())
            }
        }
    }

    fn finish(mut self) -> LeaderFollower {
        self.tail.durable(self.last);
        let (base, last) = (self.tail.base(), self.tail.last());
        assert!(self.tail.durable_index() == last.index, "all that was read is durable");
        assert!(base.index <= last.index && base.term <= last.term, "the log goes on behind the checkpoint");
        let mut hard = self.hard.unwrap_or(HardState { epoch: self.config.epoch, led: false });
        if hard.epoch < last.term {
            // No order of our own writes leaves this; that it led that epoch can't be excluded.
            hard = HardState { epoch: last.term, led: true };
        }
        if planted(Plant::LeaderRestartsInEpoch) {
            hard.led = false;
        }
        assert!(hard.epoch >= last.term, "no entry is of an epoch not yet known");
        LeaderFollower {
            hard,
            tail: self.tail,
            disk: Disk { durable: self.last, last_append: self.last, hard: self.last, drop_after: None },
            commit: base.index,
            delivered: base.index,
            leading: None,
            leader: None,
            agreed: 0,
            diverged: false,
            noted: None,
            epochs: self.epochs,
            born_ns: 0,
            fresh_ns: 0,
            incoming: None,
            checkpoint_pending: false,
            compact_wanted: false,
            has_checkpoint: self.has_checkpoint,
            seed: self.seed,
            counters: Counters::default(),
            config: self.config,
        }
    }
}
