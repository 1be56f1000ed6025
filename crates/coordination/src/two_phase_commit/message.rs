//! What coordinators and participants say to each other. Addresses are groups: whoever drives the machines finds a group's leader.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, GroupId, Wire};

use super::wire::{Reader, put_attempt, put_bytes, put_groups, put_option, put_work};

/// One transaction. The epoch is the coordinator's in which it began, so a number is never given twice, though only commits are logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// The coordinator's group.
    pub coordinator: GroupId,
    /// The coordinator's epoch in which the transaction began.
    pub epoch: u64,
    /// Counted from 1 in each epoch.
    pub number: u64,
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{}", self.coordinator, self.epoch, self.number)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One try of a transaction: (transaction, attempt, epoch), which every message carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Of which transaction.
    pub transaction: TransactionId,
    /// Counted from 1. Of one transaction at most one attempt ever commits, and none after it begins.
    pub number: u32,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.transaction, self.number)
    }
}

/// How a key is locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mode {
    /// Others may share it.
    Shared,
    /// Nobody else may have it.
    Exclusive,
}

/// One key to be locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// The key.
    pub key: Bytes,
    /// How.
    pub mode: Mode,
}

/// What a transaction does at one participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Work {
    /// The keys that the operations touch.
    pub locks: Vec<Lock>,
    /// For the participant's [`super::Store`]; opaque here.
    pub operations: Bytes,
}

impl Work {
    /// Whether it changes anything: whoever holds shared locks only has nothing to log.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.locks.iter().any(|lock| lock.mode == Mode::Exclusive)
    }

    /// Bytes of keys and operations.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.locks.iter().map(|lock| lock.key.len()).sum::<usize>() + self.operations.len()
    }
}

/// Why a participant does not take part in an attempt. But for [`Refusal::ByHand`] it has applied nothing, and won't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Another transaction holds a key. No-wait: the coordinator may try again.
    Locked,
    /// Too much is under way here. The coordinator may try again.
    Overloaded,
    /// The store says that the operations are not possible (a failed condition). Final.
    Inadmissible,
    /// More locks or bytes than this participant takes. Final.
    TooLarge,
    /// A later attempt is known here, or the transaction is older than what is remembered. Final.
    Stale,
    /// So many coordinators are known here that no other is taken. Final.
    TooManyCoordinators,
    /// A person has committed an attempt of this transaction here: it is applied here, whatever the others do. Final.
    ByHand,
}

impl Refusal {
    /// All, in the order of their codes on the wire.
    const ALL: [Refusal; 7] = [
        Refusal::Locked,
        Refusal::Overloaded,
        Refusal::Inadmissible,
        Refusal::TooLarge,
        Refusal::Stale,
        Refusal::TooManyCoordinators,
        Refusal::ByHand,
    ];
}

impl Refusal {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn may_retry(self) -> bool {
        matches!(self, Refusal::Locked | Refusal::Overloaded)
    }
}

/// A participant's vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Vote {
    /// Prepared, in its log: it will do whatever is decided.
    Yes,
    /// It only reads, holds its locks, and this is what it read. Nothing is logged; the locks count only if [`Body::Confirm`] is answered so.
    ReadOnly {
        /// The store's answer.
        answer: Bytes,
        /// Names this hold of the locks, and no other in the participant's epoch. A late copy of [`Body::Prepare`] can take locks that
        /// had run out once more, for the same attempt; in between, others may have written.
        serial: u64,
    },
    /// It does not take part.
    No {
        /// Why.
        why: Refusal,
    },
}

/// A message: about which attempt, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The attempt.
    pub attempt: Attempt,
    /// What.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Coordinator to participant: lock, log, vote.
    Prepare {
        /// All participants that write: those who may tell each other the outcome.
        writers: Vec<GroupId>,
        /// What to do there.
        work: Work,
    },
    /// Coordinator to the only participant: do it, in one phase. Answered by [`Body::Applied`] or a vote `No`.
    Once {
        /// What to do.
        work: Work,
    },
    /// Participant to coordinator.
    Vote {
        /// The participant's epoch.
        epoch: u64,
        /// Its vote.
        vote: Vote,
    },
    /// Coordinator to a read-only participant: all votes are in; do you still hold just those locks, in the epoch in which you voted?
    Confirm {
        /// The participant's epoch when it voted.
        epoch: u64,
        /// The vote's.
        serial: u64,
    },
    /// The answer.
    Confirmed {
        /// The participant's epoch.
        epoch: u64,
        /// Whether it held them without a break until after it was asked.
        held: bool,
    },
    /// Coordinator to participant: it is decided, and logged.
    Commit,
    /// Coordinator to participant: this attempt is over. Not logged anywhere, not acknowledged (presumed abort).
    Abort,
    /// Participant to coordinator: committed and applied, in its log.
    Applied {
        /// The store's answer; `None` if it is no longer remembered.
        answer: Option<Bytes>,
    },
    /// Participant to coordinator, which says that this attempt is committed: a person has aborted it here.
    Contradicted,
    /// A participant in doubt to the coordinator, or to another writer: what became of it?
    Inquire,
    /// The answer, from whoever knows it for certain.
    Outcome {
        /// Committed, or aborted.
        commit: bool,
    },
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        put_attempt(self.attempt, out);
        match &self.body {
            Body::Prepare { writers, work } => {
                out.push(0);
                put_groups(writers, out);
                put_work(work, out);
            }
            Body::Once { work } => {
                out.push(1);
                put_work(work, out);
            }
            Body::Vote { epoch, vote } => {
                out.push(2);
                out.extend_from_slice(&epoch.to_le_bytes());
                put_vote(vote, out);
            }
            Body::Confirm { epoch, serial } => {
                out.push(3);
                out.extend_from_slice(&epoch.to_le_bytes());
                out.extend_from_slice(&serial.to_le_bytes());
            }
            Body::Confirmed { epoch, held } => {
                out.push(4);
                out.extend_from_slice(&epoch.to_le_bytes());
                out.push(u8::from(*held));
            }
            Body::Commit => out.push(5),
            Body::Abort => out.push(6),
            Body::Applied { answer } => {
                out.push(7);
                put_option(answer.as_ref(), out);
            }
            Body::Inquire => out.push(8),
            Body::Outcome { commit } => {
                out.push(9);
                out.push(u8::from(*commit));
            }
            Body::Contradicted => out.push(10),
        }
    }

    fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
        let mut reader = Reader(bytes);
        let attempt = reader.attempt()?;
        let body = match reader.u8()? {
            0 => Body::Prepare { writers: reader.groups()?, work: reader.work()? },
            1 => Body::Once { work: reader.work()? },
            2 => Body::Vote { epoch: reader.count()?, vote: vote(&mut reader)? },
            3 => Body::Confirm { epoch: reader.count()?, serial: reader.count()? },
            4 => Body::Confirmed { epoch: reader.count()?, held: reader.bool()? },
            5 => Body::Commit,
            6 => Body::Abort,
            7 => Body::Applied { answer: reader.option()? },
            8 => Body::Inquire,
            9 => Body::Outcome { commit: reader.bool()? },
            10 => Body::Contradicted,
            _ => return Err(DecodeError::new("a kind of message")),
        };
        reader.end(Message { attempt, body })
    }
}

fn put_vote(vote: &Vote, out: &mut Vec<u8>) {
    match vote {
        Vote::Yes => out.push(0),
        Vote::ReadOnly { answer, serial } => {
            out.push(1);
            put_bytes(answer, out);
            out.extend_from_slice(&serial.to_le_bytes());
        }
        Vote::No { why } => {
            out.push(2);
            out.push(*why as u8);
        }
    }
}

fn vote(reader: &mut Reader) -> Result<Vote, DecodeError> {
    Ok(match reader.u8()? {
        0 => Vote::Yes,
        1 => Vote::ReadOnly { answer: reader.bytes()?, serial: reader.count()? },
        2 => {
            let why = Refusal::ALL.get(usize::from(reader.u8()?)).ok_or(DecodeError::new("a refusal"))?;
            Vote::No { why: *why }
        }
        _ => return Err(DecodeError::new("a vote")),
    })
}
