//! Recovery: the checkpoint first, then what the disk kept of the log.
//!
//! The log may hold entries from before the checkpoint, and behind it entries that never were committed and contradict it, because a snapshot
//! jumped over them. Nearly always those are of an older epoch than the checkpoint's last, and by that are seen to be void.
//!
//! Not always: 6 of epoch 2 is cut off in memory when n1 is synced; n1 stays behind alone, restarts, and 6 of epoch 2 is back and committed;
//! n2, which has 6 and 7 of epoch 4 on its disk, takes over the snapshot that ends with 6 of epoch 2. Restarted, n2 finds 7 of epoch 4, and
//! keeps it. That does no harm, and nothing needs to be written when a snapshot is taken over: what every member acknowledged stands later
//! on n2's disk and voids it, or else nobody was told more of it than "uncertain"; n2 compares it when it syncs, or, left alone, commits it.

use bytes::Bytes;
use keypact_log::{CheckpointMeta, Entry, Position, Tail};
use keypact_protocol::{Lsn, Recover, RecoveryError};

use super::unapplied::Unapplied;
use super::{Chain, Config, Life, Record};

/// A member on its way back.
#[derive(Debug)]
pub struct Recovering {
    config: Config,
    seed: u64,
    life: Option<Life>,
    tail: Tail,
    last: Lsn,
}

impl Recovering {
    pub(super) fn begin(
        config: Config,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<Recovering, RecoveryError> {
        config.validate().map_err(|error| RecoveryError { what: error.what(), lsn: Lsn::ZERO })?;
        let meta = match checkpoint {
            None => CheckpointMeta { position: Position::default(), stamp_ms: 0 },
            Some(meta) => CheckpointMeta::decode(&meta)
                .ok_or(RecoveryError { what: "a checkpoint's meta that is not chain's", lsn: Lsn::ZERO })?,
        };
        let tail = Tail::new(meta.position, meta.stamp_ms, config.tail_limit_bytes);
        assert!(tail.is_empty() && tail.last() == meta.position, "the log goes on behind the checkpoint");
        Ok(Recovering { config, seed, life: None, tail, last: Lsn::ZERO })
    }

    fn replay_entry(&mut self, lsn: Lsn, entry: Entry) -> Result<(), RecoveryError> {
        let (base, last) = (self.tail.base(), self.tail.last());
        let index = entry.index();
        if index <= base.index {
            // It voided everything behind it.
            self.tail.reset(base, self.tail.base_stamp_ms());
            return Ok(());
        }
        if index > last.index + 1 {
            // Behind entries that were older than the checkpoint, and are void; else nothing of ours leaves a gap.
            if self.tail.is_empty() {
                return Ok(());
            }
            return Err(RecoveryError { what: "an entry that leaves a gap", lsn });
        }
        let before = self.tail.term_at(index - 1).expect("at most one past the end, and past the base");
        if entry.term() < before {
            if index == base.index + 1 {
                self.tail.reset(base, self.tail.base_stamp_ms());
                return Ok(());
            }
            return Err(RecoveryError { what: "an entry of an older epoch than the one before", lsn });
        }
        self.tail.append(entry, lsn, None);
        assert!(self.tail.last().index == index, "whatever stood behind it is void");
        Ok(())
    }
}

impl Recover<Chain> for Recovering {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        if lsn <= self.last {
            return Err(RecoveryError { what: "a log sequence number that does not rise", lsn });
        }
        self.last = lsn;
        match record {
            Record::Entry(entry) => self.replay_entry(lsn, entry),
            Record::Life(life) => {
                if self.life.is_some_and(|before| before.copy != life.copy || before.start > life.start) {
                    return Err(RecoveryError { what: "a life of another copy, or an earlier one", lsn });
                }
                self.life = Some(life);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Chain {
        self.tail.durable(self.last);
        let (base, last) = (self.tail.base(), self.tail.last());
        assert!(self.tail.durable_index() == last.index, "all that was read is durable");
        assert!(base.index <= last.index && base.term <= last.term, "the log goes on behind the checkpoint");
        // A copy without a name has never been heard of; 0 means "none".
        let life = match self.life {
            Some(Life { copy, start }) => Life { copy, start: start + 1 },
            None => Life { copy: self.seed.max(1), start: 1 },
        };
        let mut unapplied = Unapplied::new(self.config.keys_of);
        for slot in self.tail.slots_from(base.index + 1).expect("past the base") {
            unapplied.add(slot.entry.index(), &slot.entry.command());
        }
        Chain::recovered(self.config, life, self.tail, unapplied, self.last, self.seed)
    }
}
