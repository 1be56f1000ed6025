//! Read-only participants: nothing is logged. The locks are the leader's own, so they count only if it can prove, after all votes were in,
//! that it still leads the epoch in which it voted.

use keypact_protocol::{GroupId, Plant, planted};

use super::{Leading, Participant};
use crate::two_phase_commit::config::ms;
use crate::two_phase_commit::message::{Attempt, Body, Message, TransactionId, Vote, Work};
use crate::two_phase_commit::record::ParticipantRecord;
use crate::two_phase_commit::{Outlet, Store};

/// A read-only part that was voted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub(super) attempt: Attempt,
    /// When it is forgotten, and its locks with it.
    pub(super) expires_ns: u64,
    /// It has been proven that the locks were held after all votes were in. They are gone now.
    pub(super) confirmed: bool,
}

/// What waits for the proof that this replica still leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    /// A confirmation.
    Confirm { to: GroupId, attempt: Attempt },
    /// The answer of a read in one phase.
    Once { to: GroupId, attempt: Attempt, answer: bytes::Bytes },
}

/// Proofs under way at most; whoever asks beyond that asks again.
const PROOFS_MAX: usize = 8_192;

impl Participant {
    pub(super) fn begin_reading(&mut self, attempt: Attempt, now_ns: u64) {
        self.counters.read_only += 1;
        assert!(self.table.prepared_of(attempt.transaction).is_none(), "a reader promises nothing");
        let expires_ns = now_ns + ms(self.config.read_lock_ms);
        let leading = self.leading.as_mut().expect("followers hold no locks");
        let reading = Reading { attempt, expires_ns, confirmed: false };
        let before = leading.reads.insert(attempt.transaction, reading);
        assert!(before.is_none(), "one attempt at a time");
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
        let reading = leading.reads.get(&attempt.transaction).expect("it holds its locks");
        assert!(reading.attempt == attempt, "of this attempt");
        assert!(!work.writes(), "who writes does not vote so");
        if reading.confirmed {
            // A late copy of the question: the coordinator has had the answer, and the locks are gone.
            return;
        }
        let vote = Vote::ReadOnly { answer: store.read(&work.operations) };
        out.send(to, Message { attempt, body: Body::Vote { epoch: leading.epoch, vote } });
        if planted(Plant::ReadLockReleasedAtVote) {
            leading.locks.release(attempt.transaction);
        }
    }

    pub(super) fn on_confirm(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        epoch: u64,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        let reading = leading.reads.get(&attempt.transaction).filter(|reading| reading.attempt == attempt);
        match reading {
            Some(reading) if epoch == leading.epoch && reading.confirmed => {
                let body = Body::Confirmed { epoch, held: true };
                out.send(from, Message { attempt, body });
            }
            Some(_) if epoch == leading.epoch && leading.proofs.len() < PROOFS_MAX => {
                let token = leading.token();
                assert!(!leading.proofs.contains_key(&token), "tokens are new");
                leading.proofs.insert(token, Proof::Confirm { to: from, attempt });
                out.prove(token);
            }
            Some(_) if epoch == leading.epoch => {}
            _ => self.not_held(from, attempt, out),
        }
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
        store: &impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        assert!(!work.writes(), "who writes logs it");
        let leading = self.leading.as_mut().expect("followers hear nothing");
        leading.locks.release(attempt.transaction);
        if leading.proofs.len() >= PROOFS_MAX {
            return;
        }
        let token = leading.token();
        assert!(!leading.proofs.contains_key(&token), "tokens are new");
        let answer = store.read(&work.operations);
        leading.proofs.insert(token, Proof::Once { to: from, attempt, answer });
        out.prove(token);
    }

    /// This replica led its epoch at some moment after it asked for the proof, so it had led it all the time before.
    pub(super) fn proven(&mut self, token: u64, out: &mut impl Outlet<ParticipantRecord>) {
        let Some(leading) = &mut self.leading else { return };
        assert!(leading.epoch == self.table.epoch(), "a replica that sees a later epoch does not lead");
        match leading.proofs.remove(&token) {
            None => {}
            Some(Proof::Once { to, attempt, answer }) => {
                let body = Body::Applied { answer: Some(answer) };
                out.send(to, Message { attempt, body });
            }
            Some(Proof::Confirm { to, attempt }) => {
                let epoch = leading.epoch;
                let reading = leading.reads.get_mut(&attempt.transaction);
                match reading.filter(|reading| reading.attempt == attempt) {
                    // Run out or aborted while the proof was on its way.
                    None => self.not_held(to, attempt, out),
                    Some(reading) => {
                        reading.confirmed = true;
                        leading.locks.release(attempt.transaction);
                        out.send(to, Message { attempt, body: Body::Confirmed { epoch, held: true } });
                    }
                }
            }
        }
    }
}

impl Leading {
    pub(super) fn end_reading(&mut self, transaction: TransactionId) {
        if self.reads.remove(&transaction).is_some_and(|reading| !reading.confirmed) {
            self.locks.release(transaction);
        }
    }

    /// Lets go what has waited too long; returns how much.
    pub(super) fn expire_reads(&mut self, now_ns: u64) -> u64 {
        let old: alloc::vec::Vec<TransactionId> = self
            .reads
            .iter()
            .filter(|(_, reading)| reading.expires_ns <= now_ns)
            .map(|(transaction, _)| *transaction)
            .collect();
        let expired = old.iter().filter(|transaction| !self.reads[*transaction].confirmed).count();
        for transaction in old {
            self.end_reading(transaction);
            debug_assert!(!self.reads.contains_key(&transaction), "it has ended");
        }
        debug_assert!(self.reads.values().all(|reading| reading.expires_ns > now_ns), "the others go on");
        expired as u64
    }
}
