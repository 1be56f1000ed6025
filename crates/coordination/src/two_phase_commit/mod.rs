//! Two-phase commit over replicated logs: one transaction's parts at several participants happen all, or none.
//!
//! # What it guarantees
//!
//! - *Atomicity*: no participant commits an attempt that another one aborts, whatever crashes, is cut off, comes late or comes twice.
//! - *Strict serializability* of all transactions (and of commands that respect [`Participant::blocked_by`]): strict two-phase locking; the
//!   moment of a transaction lies where all its locks are held.
//! - *No blocking by one machine*: coordinator and participants are groups; each lives on while its log does. With a coordinator that is not
//!   replicated, the textbook's blocking is there: promises hold their locks until it returns, or a person decides ([`Participant::resolve`]).
//!
//! It does not guarantee that a transaction gets through: locks are no-wait, attempts are limited.
//!
//! # Over which log
//!
//! Over any that gives all replicas of a group the same records in the same order, and tells one replica at a time that it may lead. That is all
//! that [`Input`] and [`Outlet`] ask: [`Outlet::append`] and [`Input::Applied`] are a log's propose and deliver, an epoch is Raft's term, a chain's or
//! leader-follower's epoch, or a number that one disk counts. Being deposed needs no message: a leader's first record is
//! [`ParticipantBody::Lead`], and what an earlier epoch's leader appended after it is void. *Persist, then speak* holds by itself: machines say nothing that
//! rests on a record before that record was applied.
//!
//! ```text
//!   client ── begin ──▶ Coordinator ── Prepare ──▶ Participant ── lock, admit, append Prepare
//!                            │  ◀────── Vote Yes ──────┘ (applied)       or, reading only: lock, Vote ReadOnly
//!            all votes in    │ ── Confirm ──▶ readers ── prove: still leading that epoch ── Confirmed
//!            append Commit   │
//!            (applied)       │ ── Commit ──▶ writers ── append Finish; applied: run, unlock, Applied
//!   client ◀── answers ── all Applied; append End
//!
//!   one attempt:   Voting ──▶ Confirming ──▶ Deciding ──▶ Committed ──▶ (End)        one participant:  Once ──▶ (done)
//!                    └──────────┴── No, not held, time ──▶ Pausing ──▶ next attempt, or NotApplied
//!   a participant: (nothing) ──▶ prepared ──▶ committed | aborted;   in doubt: asks the coordinator, then the other writers
//! ```
//!
//! # Sources
//!
//! Gray, "Notes on data base operating systems" (1978), the protocol; Mohan, Lindsay, Obermarck, "Transaction management in the R* distributed
//! database management system" (1986), presumed abort and the read-only vote; Bernstein, Hadzilacos, Goodman (1987), section 7.4, cooperative
//! termination; Gray and Lamport, "Consensus on transaction commit" (2006), why an unreplicated coordinator blocks; Corbett et al., "Spanner" (2012),
//! groups as participants and coordinator. Where this differs: `docs/protocols/two-phase-commit.md`.

mod config;
mod coordinator;
pub mod invariants;
mod locks;
mod message;
mod participant;
mod record;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use keypact_protocol::{GroupId, RequestId};

pub use config::{ConfigError, CoordinatorConfig, ParticipantConfig, TableLimits};
pub use coordinator::{
    Committed, Coordinator, CoordinatorCounters, CoordinatorTable, Decision, Outcome, Part, Why,
};
pub use locks::Locks;
pub use message::{Attempt, Body, Lock, Message, Mode, Refusal, TransactionId, Vote, Work};
pub use participant::{
    Blocker, Effect, End, Finished, InDoubt, Participant, ParticipantCounters, ParticipantTable, Prepared,
    ResolveError,
};
pub use record::{CoordinatorBody, CoordinatorRecord, ParticipantBody, ParticipantRecord};

/// What happens to a machine; `R` is its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<R> {
    /// The log lets this replica lead from now on, in this epoch, which no other replica was or will be given. All records before were given.
    Lead {
        /// The epoch, greater than all before.
        epoch: u64,
    },
    /// This replica does not lead, as far as is known. Early and late are both harmless.
    Follow,
    /// The log's next record, at every replica.
    Applied(R),
    /// Another group's leader says this. May come late, twice, out of order or never.
    Message {
        /// Which group.
        from: GroupId,
        /// What.
        message: Message,
    },
    /// This epoch was still the log's newest at some moment after [`Outlet::prove`].
    Proven {
        /// As it was asked. What was asked in another epoch is void, so that an answer that comes late proves nothing in the next.
        epoch: u64,
        /// As it was asked.
        token: u64,
    },
    /// Time has come to what `next_tick_ns` said. Early is harmless, late is allowed.
    Tick,
}

/// Where a machine writes its effects.
pub trait Outlet<R> {
    /// Asks the log to take a record. It comes back at every replica as [`Input::Applied`], once, in the order of appending; or, if this
    /// replica is deposed, perhaps never.
    fn append(&mut self, record: R);

    /// Says something to whoever leads that group. May be lost.
    fn send(&mut self, to: GroupId, message: Message);

    /// Asks the log whether this epoch, which is the replica's, is still the newest; [`Input::Proven`] if it is. May be lost; the same is then
    /// asked again.
    fn prove(&mut self, epoch: u64, token: u64);

    /// Answers a request that was begun here.
    fn answer(&mut self, request: RequestId, outcome: Outcome);
}

/// The data of a participant, on every replica.
pub trait Store {
    /// Whether the operations are possible now. Their keys are locked, so this holds until they are run or let go.
    fn admits(&self, operations: &[u8]) -> bool;

    /// What operations that only read would answer now.
    fn read(&self, operations: &[u8]) -> Bytes;

    /// Runs operations, in the log's order. Deterministic.
    fn apply(&mut self, operations: &Bytes) -> Bytes;
}
