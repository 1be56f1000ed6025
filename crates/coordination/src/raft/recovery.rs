//! Recovery: the checkpoint first, then what the disk kept of the log.
//!
//! The log may hold more than counts: records from before the checkpoint, entries that were cut off later, even entries that contradict the
//! checkpoint (written before a snapshot was installed). And it may lack entries that are in the checkpoint: committed entries are delivered
//! before this member's own copy is durable. So an entry counts only if it follows, entry by entry, on the checkpoint's last.

use bytes::Bytes;
use keypact_log::{CheckpointMeta, Entry, Kind, Position, Tail};
use keypact_protocol::{Lsn, Recover, RecoveryError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::disk::Disk;
use super::membership::Active;
use super::{Config, Counters, HardState, Membership, Raft, Record, State};

/// A member on its way back.
#[derive(Debug)]
pub struct Recovering {
    config: Config,
    seed: u64,
    hard: HardState,
    tail: Tail,
    /// The configuration at the tail's base.
    membership: Membership,
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
        let (meta, members) = match checkpoint {
            None => (CheckpointMeta { position: Position::default(), stamp_ms: 0 }, Bytes::new()),
            Some(meta) => CheckpointMeta::decode_with(&meta)
                .ok_or(RecoveryError { what: "a checkpoint's meta that is not Raft's", lsn: Lsn::ZERO })?,
        };
        // A checkpoint from before members could change has none: they are as they were.
        let membership = if members.is_empty() {
            Membership::founding(&config.members)
        } else {
            Membership::decode(&members).map_err(|_| RecoveryError {
                what: "a checkpoint's members that are not Raft's",
                lsn: Lsn::ZERO,
            })?
        };
        let tail = Tail::new(meta.position, meta.stamp_ms, config.tail_limit_bytes);
        Ok(Recovering {
            config,
            seed,
            hard: HardState::default(),
            tail,
            membership,
            agrees: true,
            last: Lsn::ZERO,
        })
    }

    fn clear_tail(&mut self) {
        self.tail.reset(self.tail.base(), self.tail.base_stamp_ms());
    }

    fn replay_entry(&mut self, lsn: Lsn, entry: Entry) -> Result<(), RecoveryError> {
        let base = self.tail.base();
        let place = Position { index: entry.index(), term: entry.term() };
        if entry.header().kind == Kind::Membership && Membership::decode(&entry.command()).is_err() {
            return Err(RecoveryError { what: "a membership that can't be used", lsn });
        }
        if place.index <= base.index {
            // It voided everything behind it.
            self.clear_tail();
            self.agrees = place == base || base.index == 0;
            return Ok(());
        }
        let last = self.tail.last();
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
            return Err(RecoveryError { what: "an entry of an older term than the one before", lsn });
        }
        self.tail.append(entry, lsn, None);
        Ok(())
    }

    fn replay_hard(&mut self, lsn: Lsn, hard: HardState) -> Result<(), RecoveryError> {
        if hard.term < self.hard.term {
            return Err(RecoveryError { what: "a term that falls", lsn });
        }
        let kept = hard.term > self.hard.term
            || self.hard.voted_for.is_none()
            || self.hard.voted_for == hard.voted_for;
        if !kept {
            return Err(RecoveryError { what: "two votes in one term", lsn });
        }
        self.hard = hard;
        Ok(())
    }
}

impl Recover<Raft> for Recovering {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        if lsn <= self.last {
            return Err(RecoveryError { what: "a log sequence number that does not rise", lsn });
        }
        self.last = lsn;
        match record {
            Record::Entry(entry) => self.replay_entry(lsn, entry),
            Record::HardState(hard) => self.replay_hard(lsn, hard),
            Record::Reset { position, .. } => {
                if position.index > self.tail.base().index {
                    // A snapshot is durable before the record that says so.
                    return Err(RecoveryError { what: "a snapshot that the checkpoint does not hold", lsn });
                }
                self.clear_tail();
                self.agrees = position == self.tail.base();
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Raft {
        // The newest term may have been lost with an unsynced record while a checkpoint or a later entry shows it. Nobody then ever heard
        // a vote of that term from this member, because votes wait for the disk.
        let term = self.tail.last().term.max(self.tail.base().term);
        if term > self.hard.term {
            self.hard = HardState { term, voted_for: None };
        }
        self.tail.durable(self.last);
        assert!(self.tail.durable_index() == self.tail.last().index, "all that was read is durable");
        let base = self.tail.base();
        let in_tail = self.tail.slots_from(base.index + 1).into_iter().flatten();
        let in_tail = in_tail.filter(|slot| slot.entry.header().kind == Kind::Membership);
        let mut memberships = alloc::vec![(base.index, self.membership)];
        memberships
            .extend(in_tail.map(|slot| (slot.entry.index(), Membership::known(&slot.entry.command()))));
        assert!(memberships.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of the log");
        let (index, membership) = memberships.last().cloned().expect("the base has one");
        Raft {
            // Until the log says so itself, what is written next would not follow on the checkpoint at the next recovery.
            reset_owed: !self.agrees,
            active: Active::new(membership, index, self.config.id, self.config.incarnation),
            memberships,
            rng: ChaCha8Rng::seed_from_u64(self.seed),
            hard: self.hard,
            tail: self.tail,
            disk: Disk::recovered(self.last),
            commit: base.index,
            delivered: base.index,
            state: State::Follower,
            leader: None,
            last_contact_ns: 0,
            timeout_ns: 0,
            election_due_ns: 0,
            incoming: None,
            checkpoint_pending: false,
            compact_wanted: false,
            counters: Counters::default(),
            config: self.config,
        }
    }
}
