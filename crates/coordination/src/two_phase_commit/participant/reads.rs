//! Read-only participants: nothing is logged. The locks are the leader's own, so they count only if it can prove, after all votes were in,
//! that it still leads the epoch in which it voted; and only if they are the locks for which it voted.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keypact_protocol::{GroupId, Plant, planted};

use super::{Leading, Participant};
use crate::two_phase_commit::config::ms;
use crate::two_phase_commit::message::{Attempt, Body, Message, Refusal, TransactionId, Vote, Work};
use crate::two_phase_commit::record::ParticipantRecord;
use crate::two_phase_commit::{Outlet, Store};

/// A read-only part that was voted for, and holds its locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub(super) attempt: Attempt,
    /// Names this hold of the locks; also the token of its proof.
    serial: u64,
    /// When the locks are let go.
    expires_ns: u64,
}

/// A read in one phase that waits for its proof. It holds no locks.
#[derive(Clone, PartialEq, Eq, Debug)]
struct OnceRead {
    token: u64,
    to: GroupId,
    answer: Bytes,
    /// When nobody waits for it any more.
    expires_ns: u64,
}

/// What waits for the proof that this replica still leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proof {
    /// The confirmation of a reading.
    Confirm { to: GroupId, transaction: TransactionId },
    /// The answer of a read in one phase.
    Once(Attempt),
}

/// A leader's reads.
///
/// Invariant: every proof belongs to a reading or a read in one phase, and is dropped with it; so proofs that are lost are bounded, and asked
/// for again.
#[derive(Clone, Default, Debug)]
pub(super) struct Reads {
    holding: BTreeMap<TransactionId, Reading>,
    once: BTreeMap<Attempt, OnceRead>,
    proofs: BTreeMap<u64, Proof>,
    /// Readings whose locks were proven to be held after all votes were in, and are let go: so that who missed the answer gets it again, and a
    /// late copy of the question takes no locks. The last ones.
    confirmed: BTreeMap<TransactionId, (Attempt, u64)>,
    /// In the order in which they were confirmed, with those that were dropped since.
    confirmed_order: VecDeque<(TransactionId, u64)>,
    last_serial: u64,
}

impl Reads {
    fn serial(&mut self) -> u64 {
        self.last_serial += 1;
        assert!(!self.proofs.contains_key(&self.last_serial), "serials are new");
        self.last_serial
    }

    pub(super) fn holding_len(&self) -> usize {
        self.holding.len()
    }

    /// The reading that holds its locks.
    pub(super) fn holding_of(&self, transaction: TransactionId) -> Option<&Reading> {
        self.holding.get(&transaction)
    }

    /// The attempt that was confirmed, if that is remembered.
    pub(super) fn confirmed_of(&self, transaction: TransactionId) -> Option<Attempt> {
        self.confirmed.get(&transaction).map(|(attempt, _)| *attempt)
    }

    pub(super) fn forget_confirmed(&mut self, transaction: TransactionId) {
        self.confirmed.remove(&transaction);
    }

    fn remember_confirmed(&mut self, reading: Reading, most: usize) {
        let transaction = reading.attempt.transaction;
        if self.confirmed_order.len() >= most {
            let (oldest, serial) = self.confirmed_order.pop_front().expect("a limit is not zero");
            if self.confirmed.get(&oldest).is_some_and(|(_, known)| *known == serial) {
                self.confirmed.remove(&oldest);
            }
        }
        self.confirmed.insert(transaction, (reading.attempt, reading.serial));
        self.confirmed_order.push_back((transaction, reading.serial));
        assert!(
            self.confirmed.len() <= self.confirmed_order.len(),
            "whatever is remembered is dropped in turn"
        );
        assert!(self.confirmed_order.len() <= most, "the memory of readings is limited");
    }

    /// When the first of them is let go.
    pub(super) fn next_tick_ns(&self) -> Option<u64> {
        let holding = self.holding.values().map(|reading| reading.expires_ns);
        holding.chain(self.once.values().map(|read| read.expires_ns)).min()
    }

    /// Drops reads in one phase that have waited too long for their proof.
    fn expire_once(&mut self, now_ns: u64) {
        let proofs = &mut self.proofs;
        self.once.retain(|_, read| {
            let goes_on = read.expires_ns > now_ns;
            if !goes_on {
                proofs.remove(&read.token);
            }
            goes_on
        });
    }

    /// Panics if a proof belongs to nothing, or there are too many. O(1).
    pub(super) fn assert_invariants(&self, most: usize) {
        assert!(self.holding.len() <= most && self.once.len() <= most, "reads are limited");
        assert!(self.proofs.len() <= self.holding.len() + self.once.len(), "each proof belongs to a read");
        assert!(self.proofs.len() >= self.once.len(), "reads in one phase wait for nothing but their proof");
        assert!(
            self.proofs.last_key_value().is_none_or(|(token, _)| *token <= self.last_serial),
            "tokens are given out in order"
        );
    }
}

impl Participant {
    pub(super) fn begin_reading(&mut self, attempt: Attempt, now_ns: u64) {
        self.counters.read_only += 1;
        assert!(self.table.prepared_of(attempt.transaction).is_none(), "a reader promises nothing");
        let expires_ns = now_ns + ms(self.config.read_lock_ms);
        let reads = &mut self.leading.as_mut().expect("followers hold no locks").reads;
        let serial = reads.serial();
        let before = reads.holding.insert(attempt.transaction, Reading { attempt, serial, expires_ns });
        assert!(before.is_none(), "one attempt at a time");
        assert!(reads.confirmed_of(attempt.transaction).is_none(), "what was confirmed is not read again");
    }

    /// The locks are held, so a vote that is said again says the same.
    pub(super) fn vote_read_only(
        &mut self,
        to: GroupId,
        attempt: Attempt,
        work: &Work,
        store: &impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers don't vote");
        let reading = leading.reads.holding_of(attempt.transaction).expect("it holds its locks");
        assert!(reading.attempt == attempt, "of this attempt");
        assert!(!work.writes(), "who writes does not vote so");
        let vote = Vote::ReadOnly { answer: store.read(&work.operations), serial: reading.serial };
        out.send(to, Message { attempt, body: Body::Vote { epoch: leading.epoch, vote } });
        if planted(Plant::ReadLockReleasedAtVote) {
            leading.locks.release(attempt.transaction);
        }
    }

    /// Are just the locks still held for which it was voted? Not others that a late copy of the question has taken since, for the same attempt.
    pub(super) fn on_confirm(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        epoch: u64,
        serial: u64,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        let transaction = attempt.transaction;
        if epoch == leading.epoch {
            if leading.reads.confirmed.get(&transaction) == Some(&(attempt, serial)) {
                return out.send(from, Message { attempt, body: Body::Confirmed { epoch, held: true } });
            }
            if let Some(reading) = leading.reads.holding.get(&transaction).copied()
                && reading.attempt == attempt
            {
                if reading.serial == serial {
                    // Said again, the same proof is asked for again.
                    leading.reads.proofs.insert(reading.serial, Proof::Confirm { to: from, transaction });
                    return out.prove(epoch, reading.serial);
                }
                self.counters.revived += 1;
            }
        }
        self.not_held(from, attempt, out);
    }

    fn not_held(&mut self, to: GroupId, attempt: Attempt, out: &mut impl Outlet<ParticipantRecord>) {
        self.counters.not_held += 1;
        let epoch = self.leading.as_ref().expect("followers hear nothing").epoch;
        out.send(to, Message { attempt, body: Body::Confirmed { epoch, held: false } });
    }

    /// A read in one phase: no lock is kept, since nobody else has to be asked. What is read now was so at one moment, and the proof
    /// says that this replica led until after that moment.
    pub(super) fn read_once(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        work: &Work,
        now_ns: u64,
        store: &impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        assert!(!work.writes(), "who writes logs it");
        let expires_ns = now_ns + ms(self.config.read_lock_ms);
        let leading = self.leading.as_mut().expect("followers hear nothing");
        leading.locks.release(attempt.transaction);
        let (epoch, reads) = (leading.epoch, &mut leading.reads);
        if let Some(read) = reads.once.get(&attempt) {
            return out.prove(epoch, read.token);
        }
        if reads.once.len() >= self.config.max_transactions {
            return self.vote_no(from, attempt, Refusal::Overloaded, out);
        }
        let token = reads.serial();
        let answer = store.read(&work.operations);
        reads.once.insert(attempt, OnceRead { token, to: from, answer, expires_ns });
        reads.proofs.insert(token, Proof::Once(attempt));
        out.prove(epoch, token);
    }

    /// This replica led its epoch at some moment after it asked for the proof, so it had led it all the time before.
    pub(super) fn proven(&mut self, epoch: u64, token: u64, out: &mut impl Outlet<ParticipantRecord>) {
        let Some(leading) = &mut self.leading else { return };
        assert!(leading.epoch == self.table.epoch(), "a replica that sees a later epoch does not lead");
        if epoch != leading.epoch {
            // Of an earlier time in which this replica led; its tokens began from 1 as well.
            self.counters.stale += 1;
            return;
        }
        // None: what it was for has run out, was aborted, or has been proven before.
        let Some(proof) = leading.reads.proofs.remove(&token) else { return };
        match proof {
            Proof::Once(attempt) => {
                let read = leading.reads.once.remove(&attempt).expect("proofs go with their reads");
                let body = Body::Applied { answer: Some(read.answer) };
                out.send(read.to, Message { attempt, body });
            }
            Proof::Confirm { to, transaction } => {
                let reading = leading.reads.holding.remove(&transaction).expect("proofs go with their reads");
                assert!(reading.serial == token, "a proof is for one hold of the locks");
                leading.locks.release(transaction);
                leading.reads.remember_confirmed(reading, self.config.max_transactions);
                let body = Body::Confirmed { epoch, held: true };
                out.send(to, Message { attempt: reading.attempt, body });
            }
        }
    }
}

impl Leading {
    /// Lets go of the locks of a reading, and of its proof.
    pub(super) fn end_reading(&mut self, transaction: TransactionId) {
        if let Some(reading) = self.reads.holding.remove(&transaction) {
            self.reads.proofs.remove(&reading.serial);
            self.locks.release(transaction);
        }
    }

    /// Lets go what has waited too long; returns how many readings.
    pub(super) fn expire_reads(&mut self, now_ns: u64) -> u64 {
        self.reads.expire_once(now_ns);
        let holding = self.reads.holding.iter();
        let old = holding.filter(|(_, reading)| reading.expires_ns <= now_ns);
        let old: alloc::vec::Vec<TransactionId> = old.map(|(transaction, _)| *transaction).collect();
        for transaction in &old {
            self.end_reading(*transaction);
        }
        debug_assert!(self.reads.next_tick_ns().is_none_or(|at_ns| at_ns > now_ns), "the others go on");
        old.len() as u64
    }
}
