//! What a participant's log comes to: equal on all replicas of the group that have applied as far.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, GroupId, Plant, planted};

use crate::two_phase_commit::message::{Attempt, TransactionId, Work};
use crate::two_phase_commit::record::{ParticipantBody, ParticipantRecord};
use crate::two_phase_commit::wire::{Reader, put_attempt, put_groups, put_length, put_option, put_work};
use crate::two_phase_commit::{Store, TableLimits};

/// A promise that stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// Which attempt.
    pub attempt: Attempt,
    /// All participants that write.
    pub writers: Vec<GroupId>,
    /// What is done on commit.
    pub work: Work,
}

/// How a transaction ended here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Run, with the store's answer.
    Committed {
        /// The answer.
        answer: Bytes,
    },
    /// This attempt and all before it are over, and were not run.
    Aborted,
}

/// A transaction that ended here, in its attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Which attempt.
    pub attempt: Attempt,
    /// How.
    pub end: End,
    /// A person decided it.
    pub by_hand: bool,
}

/// What a record has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: its leader had been followed by another, or what it says was overtaken.
    Void,
    /// An epoch begins.
    Led {
        /// Which.
        epoch: u64,
    },
    /// A promise was made.
    Prepared {
        /// For which attempt.
        attempt: Attempt,
    },
    /// What was prepared has ended.
    Finished {
        /// Which attempt.
        attempt: Attempt,
        /// The store's answer, if it committed.
        answer: Option<Bytes>,
        /// A person decided it.
        by_hand: bool,
    },
    /// Run in one phase.
    Ran {
        /// Which attempt.
        attempt: Attempt,
        /// What was run.
        work: Work,
        /// The store's answer.
        answer: Bytes,
    },
    /// This attempt and all before it are refused for good.
    Refused {
        /// Which.
        attempt: Attempt,
    },
}

/// The replicated state of a participant.
///
/// Invariants: what is prepared is later than what has ended of the same transaction, which was then aborted; `finished` of a coordinator begins after `forgotten`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParticipantTable {
    limits: TableLimits,
    epoch: u64,
    prepared: BTreeMap<TransactionId, Prepared>,
    finished: BTreeMap<TransactionId, Finished>,
    /// How many are in `finished`, by coordinator; of every coordinator that ever had a transaction here.
    remembered: BTreeMap<GroupId, usize>,
    /// The newest transaction that was dropped from `finished`, by coordinator: it and all before are refused.
    forgotten: BTreeMap<GroupId, TransactionId>,
}

impl ParticipantTable {
    /// Before the first record.
    #[must_use]
    pub fn new(limits: TableLimits) -> ParticipantTable {
        assert!(limits.finished > 0 && limits.coordinators > 0, "validate refuses a memory of nothing");
        ParticipantTable {
            limits,
            epoch: 0,
            prepared: BTreeMap::new(),
            finished: BTreeMap::new(),
            remembered: BTreeMap::new(),
            forgotten: BTreeMap::new(),
        }
    }

    /// The newest epoch in the log; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is prepared, in order.
    pub fn prepared(&self) -> impl Iterator<Item = &Prepared> {
        self.prepared.values()
    }

    /// What is prepared of this transaction.
    #[must_use]
    pub fn prepared_of(&self, transaction: TransactionId) -> Option<&Prepared> {
        self.prepared.get(&transaction)
    }

    /// How this transaction ended, if that is remembered.
    #[must_use]
    pub fn finished_of(&self, transaction: TransactionId) -> Option<&Finished> {
        self.finished.get(&transaction)
    }

    /// How many transactions are prepared.
    #[must_use]
    pub fn prepared_len(&self) -> usize {
        self.prepared.len()
    }

    /// Whether the transaction is so old that its end would no longer be remembered.
    #[must_use]
    pub fn is_forgotten(&self, transaction: TransactionId) -> bool {
        self.forgotten.get(&transaction.coordinator).is_some_and(|newest| transaction <= *newest)
    }

    /// Whether transactions of this coordinator can be taken: what it has finished has a place.
    #[must_use]
    pub fn has_room_for(&self, coordinator: GroupId) -> bool {
        self.remembered.contains_key(&coordinator) || self.remembered.len() < self.limits.coordinators
    }

    /// Whether a record about this attempt comes to nothing.
    fn is_void(&self, attempt: Attempt) -> bool {
        self.is_over(attempt)
            || self.prepared.contains_key(&attempt.transaction)
            || !self.has_room_for(attempt.transaction.coordinator)
    }

    /// Whether this attempt may no longer be prepared or run: it, a later one, or the whole transaction has ended.
    #[must_use]
    pub fn is_over(&self, attempt: Attempt) -> bool {
        if planted(Plant::LateCommitAccepted) {
            return false;
        }
        let ended = self.finished.get(&attempt.transaction).is_some_and(|finished| match finished.end {
            End::Committed { .. } => true,
            End::Aborted => attempt.number <= finished.attempt.number,
        });
        ended || self.is_forgotten(attempt.transaction)
    }

    /// Applies a record in the log's order. Deterministic; `store` runs what commits. O(log transactions) beside the store's work.
    pub fn apply(&mut self, record: ParticipantRecord, store: &mut impl Store) -> Effect {
        let ParticipantRecord { epoch, body } = record;
        if body == ParticipantBody::Lead {
            if epoch <= self.epoch {
                return Effect::Void;
            }
            self.epoch = epoch;
            debug_assert!(self.counts_are_right(), "a beginning changes nothing else");
            return Effect::Led { epoch };
        }
        if epoch != self.epoch {
            // Of a leader that was deposed while the record was on its way.
            assert!(epoch < self.epoch, "an epoch's first record says that it begins");
            return Effect::Void;
        }
        match body {
            ParticipantBody::Lead => unreachable!("dealt with above"),
            ParticipantBody::Prepare { attempt, writers, work } => self.prepare(attempt, writers, work),
            ParticipantBody::Finish { attempt, commit, by_hand } => {
                self.finish(attempt, commit, by_hand, store)
            }
            ParticipantBody::Once { attempt, work } => {
                if self.is_void(attempt) {
                    return Effect::Void;
                }
                assert!(
                    !self.is_forgotten(attempt.transaction) || planted(Plant::LateCommitAccepted),
                    "checked above"
                );
                let answer = store.apply(&work.operations);
                self.remember(attempt, End::Committed { answer: answer.clone() }, false);
                Effect::Ran { attempt, work, answer }
            }
            ParticipantBody::Refuse { attempt } => {
                if self.is_void(attempt) {
                    return Effect::Void;
                }
                self.remember(attempt, End::Aborted, false);
                Effect::Refused { attempt }
            }
        }
    }

    fn prepare(&mut self, attempt: Attempt, writers: Vec<GroupId>, work: Work) -> Effect {
        if self.is_void(attempt) {
            return Effect::Void;
        }
        assert!(work.writes(), "who only reads prepares nothing");
        self.remembered.entry(attempt.transaction.coordinator).or_default();
        assert!(self.remembered.len() <= self.limits.coordinators, "coordinators are limited");
        let before = self.prepared.insert(attempt.transaction, Prepared { attempt, writers, work });
        assert!(before.is_none(), "a transaction is prepared once at a time");
        debug_assert!(!self.is_forgotten(attempt.transaction), "what is forgotten is over");
        Effect::Prepared { attempt }
    }

    fn finish(&mut self, attempt: Attempt, commit: bool, by_hand: bool, store: &mut impl Store) -> Effect {
        if self.prepared.get(&attempt.transaction).is_none_or(|prepared| prepared.attempt != attempt) {
            return Effect::Void;
        }
        let prepared = self.prepared.remove(&attempt.transaction).expect("it was there");
        let answer = commit.then(|| store.apply(&prepared.work.operations));
        assert!(answer.is_some() == commit, "a commit has an answer, an abort has none");
        let end = answer.clone().map_or(End::Aborted, |answer| End::Committed { answer });
        self.remember(attempt, end, by_hand);
        Effect::Finished { attempt, answer, by_hand }
    }

    fn remember(&mut self, attempt: Attempt, end: End, by_hand: bool) {
        let transaction = attempt.transaction;
        assert!(!self.prepared.contains_key(&transaction), "what has ended is not prepared");
        let coordinator = transaction.coordinator;
        let count = self.remembered.entry(coordinator).or_default();
        if self.finished.insert(transaction, Finished { attempt, end, by_hand }).is_none() {
            *count += 1;
        }
        if *count <= self.limits.finished {
            return;
        }
        *count -= 1;
        let first = TransactionId { coordinator, epoch: 0, number: 0 };
        let (oldest, _) = self.finished.range(first..).next().expect("more than none are remembered");
        let oldest = *oldest;
        assert!(oldest.coordinator == coordinator, "it has more than it may");
        self.finished.remove(&oldest);
        let newest = self.forgotten.entry(coordinator).or_insert(oldest);
        *newest = oldest.max(*newest);
        assert!(*count >= self.limits.finished, "only what is too much is dropped");
        assert!(self.is_forgotten(oldest), "what is dropped is refused from now on");
        debug_assert!(self.counts_are_right(), "each is counted once");
    }

    /// O(state): only in debug builds.
    fn counts_are_right(&self) -> bool {
        self.remembered.values().sum::<usize>() == self.finished.len()
            && self.prepared.keys().all(|transaction| self.remembered.contains_key(&transaction.coordinator))
    }

    /// Appends the whole state, for a checkpoint. O(state).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_length(self.prepared.len(), out);
        for prepared in self.prepared.values() {
            put_attempt(prepared.attempt, out);
            put_groups(&prepared.writers, out);
            put_work(&prepared.work, out);
        }
        put_length(self.finished.len(), out);
        for finished in self.finished.values() {
            put_attempt(finished.attempt, out);
            let answer = match &finished.end {
                End::Committed { answer } => Some(answer),
                End::Aborted => None,
            };
            put_option(answer, out);
            out.push(u8::from(finished.by_hand));
        }
        put_length(self.forgotten.len(), out);
        for newest in self.forgotten.values() {
            put_attempt(Attempt { transaction: *newest, number: 0 }, out);
        }
    }

    /// Reads back what [`ParticipantTable::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else; never panics.
    pub fn decode(bytes: Bytes, limits: TableLimits) -> Result<ParticipantTable, DecodeError> {
        let mut reader = Reader(bytes);
        let mut table = ParticipantTable::new(limits);
        table.epoch = reader.count()?;
        for _ in 0..reader.length(40)? {
            let (attempt, writers, work) = (reader.attempt()?, reader.groups()?, reader.work()?);
            table.remembered.entry(attempt.transaction.coordinator).or_default();
            table.prepared.insert(attempt.transaction, Prepared { attempt, writers, work });
        }
        for _ in 0..reader.length(30)? {
            let attempt = reader.attempt()?;
            let end = reader.option()?.map_or(End::Aborted, |answer| End::Committed { answer });
            let finished = Finished { attempt, end, by_hand: reader.bool()? };
            let open = table.prepared.get(&attempt.transaction);
            if open.is_some_and(|prepared| finished.end != End::Aborted || attempt >= prepared.attempt) {
                return Err(DecodeError::new("an attempt that is prepared or finished"));
            }
            *table.remembered.entry(attempt.transaction.coordinator).or_default() += 1;
            table.finished.insert(attempt.transaction, finished);
        }
        for _ in 0..reader.length(28)? {
            let newest = reader.attempt()?.transaction;
            table.forgotten.insert(newest.coordinator, newest);
        }
        reader.end(table)
    }
}
