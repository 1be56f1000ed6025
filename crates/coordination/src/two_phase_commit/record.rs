//! What stands in the groups' logs. Every record carries the epoch of the leader that appended it; once a log holds [`CoordinatorBody::Lead`]
//! or [`ParticipantBody::Lead`] of a later epoch, records of earlier ones are void, wherever they come from.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, GroupId, Wire};

use super::message::{Attempt, TransactionId, Work};
use super::wire::{Reader, put_attempt, put_groups, put_transaction, put_work};

/// A record in a coordinator's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoordinatorRecord {
    /// Epoch of the leader that appended it.
    pub epoch: u64,
    /// What it says.
    pub body: CoordinatorBody,
}

/// What a coordinator logs. Presumed abort: neither beginnings nor aborts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoordinatorBody {
    /// A leader begins its epoch.
    Lead,
    /// This attempt is committed.
    Commit {
        /// Which.
        attempt: Attempt,
        /// Who has to be told until they say that they applied it.
        writers: Vec<GroupId>,
    },
    /// All writers have applied it; it may be forgotten.
    End {
        /// Which.
        transaction: TransactionId,
    },
}

/// A record in a participant's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParticipantRecord {
    /// Epoch of the leader that appended it.
    pub epoch: u64,
    /// What it says.
    pub body: ParticipantBody,
}

/// What a participant logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParticipantBody {
    /// A leader begins its epoch.
    Lead,
    /// A promise: locked, and will do what is decided.
    Prepare {
        /// Which attempt.
        attempt: Attempt,
        /// Who else writes.
        writers: Vec<GroupId>,
        /// What is to be done.
        work: Work,
    },
    /// The outcome of what was prepared. A commit runs the operations.
    Finish {
        /// Which attempt.
        attempt: Attempt,
        /// Committed, or aborted.
        commit: bool,
        /// A person decided, not the coordinator.
        by_hand: bool,
    },
    /// Runs the operations at once: this participant is the only one.
    Once {
        /// Which attempt.
        attempt: Attempt,
        /// What to do.
        work: Work,
    },
    /// This attempt and all before it will never be prepared or run here.
    Refuse {
        /// Which.
        attempt: Attempt,
    },
}

impl Wire for CoordinatorRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        match &self.body {
            CoordinatorBody::Lead => out.push(0),
            CoordinatorBody::Commit { attempt, writers } => {
                out.push(1);
                put_attempt(*attempt, out);
                put_groups(writers, out);
            }
            CoordinatorBody::End { transaction } => {
                out.push(2);
                put_transaction(*transaction, out);
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<CoordinatorRecord, DecodeError> {
        let mut reader = Reader(bytes);
        let epoch = reader.count()?;
        let body = match reader.u8()? {
            0 => CoordinatorBody::Lead,
            1 => CoordinatorBody::Commit { attempt: reader.attempt()?, writers: reader.groups()? },
            2 => CoordinatorBody::End { transaction: reader.transaction()? },
            _ => return Err(DecodeError::new("a kind of coordinator's record")),
        };
        reader.end(CoordinatorRecord { epoch, body })
    }
}

impl Wire for ParticipantRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        match &self.body {
            ParticipantBody::Lead => out.push(0),
            ParticipantBody::Prepare { attempt, writers, work } => {
                out.push(1);
                put_attempt(*attempt, out);
                put_groups(writers, out);
                put_work(work, out);
            }
            ParticipantBody::Finish { attempt, commit, by_hand } => {
                out.push(2);
                put_attempt(*attempt, out);
                out.push(u8::from(*commit));
                out.push(u8::from(*by_hand));
            }
            ParticipantBody::Once { attempt, work } => {
                out.push(3);
                put_attempt(*attempt, out);
                put_work(work, out);
            }
            ParticipantBody::Refuse { attempt } => {
                out.push(4);
                put_attempt(*attempt, out);
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<ParticipantRecord, DecodeError> {
        let mut reader = Reader(bytes);
        let epoch = reader.count()?;
        let body = match reader.u8()? {
            0 => ParticipantBody::Lead,
            1 => ParticipantBody::Prepare {
                attempt: reader.attempt()?,
                writers: reader.groups()?,
                work: reader.work()?,
            },
            2 => ParticipantBody::Finish {
                attempt: reader.attempt()?,
                commit: reader.bool()?,
                by_hand: reader.bool()?,
            },
            3 => ParticipantBody::Once { attempt: reader.attempt()?, work: reader.work()? },
            4 => ParticipantBody::Refuse { attempt: reader.attempt()? },
            _ => return Err(DecodeError::new("a kind of participant's record")),
        };
        reader.end(ParticipantRecord { epoch, body })
    }
}
