//! What a coordinator's log comes to: the commits that are not applied everywhere yet. What is not in it is aborted, or over.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, GroupId};

use crate::two_phase_commit::message::{Attempt, TransactionId};
use crate::two_phase_commit::record::{CoordinatorBody, CoordinatorRecord};
use crate::two_phase_commit::wire::{Reader, put_attempt, put_groups, put_length};

/// A logged commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Which attempt.
    pub attempt: Attempt,
    /// Who has to apply it.
    pub writers: Vec<GroupId>,
}

/// What a coordinator's record has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Nothing: its leader had been followed by another.
    Void,
    /// An epoch begins.
    Led {
        /// Which.
        epoch: u64,
    },
    /// This attempt is committed.
    Committed {
        /// Which.
        attempt: Attempt,
    },
    /// Applied everywhere.
    Ended {
        /// Which.
        transaction: TransactionId,
    },
}

/// The replicated state of a coordinator.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CoordinatorTable {
    epoch: u64,
    committed: BTreeMap<TransactionId, Committed>,
}

impl CoordinatorTable {
    /// The newest epoch in the log; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Commits that are not applied everywhere, as far as the log says.
    pub fn committed(&self) -> impl Iterator<Item = &Committed> {
        self.committed.values()
    }

    /// This transaction's commit, if it is among them.
    #[must_use]
    pub fn committed_of(&self, transaction: TransactionId) -> Option<&Committed> {
        self.committed.get(&transaction)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty()
    }

    /// Applies a record in the log's order. Deterministic. O(log transactions).
    pub fn apply(&mut self, record: CoordinatorRecord) -> Decision {
        let CoordinatorRecord { epoch, body } = record;
        if body == CoordinatorBody::Lead {
            if epoch <= self.epoch {
                return Decision::Void;
            }
            self.epoch = epoch;
            return Decision::Led { epoch };
        }
        if epoch != self.epoch {
            assert!(epoch < self.epoch, "an epoch's first record says that it begins");
            return Decision::Void;
        }
        match body {
            CoordinatorBody::Lead => unreachable!("dealt with above"),
            CoordinatorBody::Commit { attempt, writers } => {
                assert!(
                    attempt.transaction.epoch <= epoch,
                    "a leader decides what began in its time or before"
                );
                assert!(attempt.number > 0, "attempts are counted from 1");
                let before = self.committed.insert(attempt.transaction, Committed { attempt, writers });
                assert!(before.is_none(), "a transaction commits once");
                Decision::Committed { attempt }
            }
            CoordinatorBody::End { transaction } => match self.committed.remove(&transaction) {
                Some(_) => Decision::Ended { transaction },
                None => Decision::Void,
            },
        }
    }

    /// Appends the whole state, for a checkpoint. O(state).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_length(self.committed.len(), out);
        for committed in self.committed.values() {
            put_attempt(committed.attempt, out);
            put_groups(&committed.writers, out);
        }
    }

    /// Reads back what [`CoordinatorTable::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else; never panics.
    pub fn decode(bytes: Bytes) -> Result<CoordinatorTable, DecodeError> {
        let mut reader = Reader(bytes);
        let mut table = CoordinatorTable { epoch: reader.count()?, committed: BTreeMap::new() };
        for _ in 0..reader.length(32)? {
            let (attempt, writers) = (reader.attempt()?, reader.groups()?);
            table.committed.insert(attempt.transaction, Committed { attempt, writers });
        }
        reader.end(table)
    }
}
