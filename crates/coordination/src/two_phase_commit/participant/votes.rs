//! Preparing, voting, and doing what was decided.

use alloc::vec::Vec;

use keypact_protocol::{GroupId, Plant, planted};

use super::{Appending, End, Participant};
use crate::two_phase_commit::config::PARTICIPANTS_MAX;
use crate::two_phase_commit::message::{Attempt, Body, Message, Mode, Refusal, Vote, Work};
use crate::two_phase_commit::record::{ParticipantBody, ParticipantRecord};
use crate::two_phase_commit::{Outlet, Store};

impl Participant {
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one message, and what every input comes with"
    )]
    pub(super) fn on_prepare(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        writers: Vec<GroupId>,
        work: Work,
        now_ns: u64,
        store: &impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        let epoch = leading.epoch;
        let transaction = attempt.transaction;
        if let Some(prepared) = self.table.prepared_of(transaction) {
            if prepared.attempt == attempt {
                out.send(from, Message { attempt, body: Body::Vote { epoch, vote: Vote::Yes } });
            } else if prepared.attempt < attempt {
                // The coordinator has begun anew, so the earlier attempt is over. It will ask again.
                let earlier = prepared.attempt;
                leading.append_finish(earlier, false, false, out);
            } else {
                self.counters.stale += 1;
            }
            return;
        }
        if leading.appending.contains_key(&transaction) {
            return;
        }
        if self.table.is_over(attempt) {
            return self.vote_over(from, attempt, out);
        }
        let known = leading.reads.holding_of(transaction).map(|reading| reading.attempt);
        if known == Some(attempt) {
            return self.vote_read_only(from, attempt, &work, store, out);
        }
        if known.max(leading.reads.confirmed_of(transaction)) >= Some(attempt) {
            // A late copy of the question: the coordinator has had the answer, and the locks are gone.
            self.counters.stale += 1;
            return;
        }
        leading.end_reading(transaction);
        leading.reads.forget_confirmed(transaction);
        if writers.len() > PARTICIPANTS_MAX {
            return self.vote_no(from, attempt, Refusal::TooLarge, out);
        }
        if let Err(why) = self.admit(attempt, &work, store) {
            return self.vote_no(from, attempt, why, out);
        }
        if !work.writes() {
            self.begin_reading(attempt, now_ns);
            return self.vote_read_only(from, attempt, &work, store, out);
        }
        let leading = self.leading.as_mut().expect("still leading");
        let before = leading.appending.insert(transaction, (attempt, Appending::Prepare { abort: false }));
        assert!(before.is_none(), "one record at a time of a transaction");
        debug_assert!(work.writes(), "who only reads prepares nothing");
        let body = ParticipantBody::Prepare { attempt, writers, work };
        out.append(ParticipantRecord { epoch, body });
    }

    /// Takes the locks, if limits, other transactions and the store allow it; otherwise nothing changes.
    fn admit(&mut self, attempt: Attempt, work: &Work, store: &impl Store) -> Result<(), Refusal> {
        let leading = self.leading.as_mut().expect("followers admit nothing");
        if work.locks.len() > self.config.max_locks || work.size_bytes() > self.config.max_work_bytes {
            return Err(Refusal::TooLarge);
        }
        if leading.locks.holders() >= self.config.max_transactions
            || leading.reads.holding_len() >= self.config.max_transactions
            || leading.appending.len() >= self.config.max_transactions
        {
            return Err(Refusal::Overloaded);
        }
        let transaction = attempt.transaction;
        if !self.table.has_room_for(transaction.coordinator) {
            return Err(Refusal::TooManyCoordinators);
        }
        assert!(self.table.prepared_of(transaction).is_none(), "a promise is not made twice");
        assert!(!self.table.is_over(attempt), "what is over is not admitted");
        let taken = if planted(Plant::PreparedDataReadable) {
            let doubts = &leading.doubts;
            leading.locks.take_over(transaction, &work.locks, |lock, holder| {
                lock.mode == Mode::Shared && doubts.contains_key(&holder)
            })
        } else {
            leading.locks.take(transaction, &work.locks)
        };
        if taken.is_err() {
            return Err(Refusal::Locked);
        }
        if !store.admits(&work.operations) {
            leading.locks.release(transaction);
            return Err(Refusal::Inadmissible);
        }
        assert!(leading.locks.holders() <= self.config.max_transactions, "those that hold locks are limited");
        Ok(())
    }

    /// The attempt has ended here. If a person has committed it, or one before it, then it is applied here: "not applied" would be untrue.
    fn vote_over(&mut self, to: GroupId, attempt: Attempt, out: &mut impl Outlet<ParticipantRecord>) {
        self.counters.stale += 1;
        let why = if self.contradicts(attempt, false) { Refusal::ByHand } else { Refusal::Stale };
        self.counters.contradicted += u64::from(why == Refusal::ByHand);
        self.vote_no(to, attempt, why, out);
    }

    /// Whether a person has decided otherwise here than whoever says that this attempt, and with an abort all before it, ended so.
    fn contradicts(&self, attempt: Attempt, commit: bool) -> bool {
        let finished = self.table.finished_of(attempt.transaction).filter(|finished| finished.by_hand);
        finished.is_some_and(|finished| match finished.end {
            End::Committed { .. } => !commit && finished.attempt <= attempt,
            End::Aborted => commit && finished.attempt == attempt,
        })
    }

    /// A vote `No` binds nobody, so it needs no record: who votes so has promised nothing, and may still vote otherwise in the next attempt.
    pub(super) fn vote_no(
        &mut self,
        to: GroupId,
        attempt: Attempt,
        why: Refusal,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        self.count_refusal(why);
        let epoch = self.leading.as_ref().expect("followers don't vote").epoch;
        out.send(to, Message { attempt, body: Body::Vote { epoch, vote: Vote::No { why } } });
    }

    fn count_refusal(&mut self, why: Refusal) {
        if why == Refusal::Locked {
            self.counters.locked += 1;
        } else {
            self.counters.refused += 1;
        }
    }

    /// One phase. What is refused is logged: a duplicate that comes after the coordinator has told its client "not applied" must find
    /// that its attempt is over, at any later leader.
    pub(super) fn on_once(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        work: Work,
        now_ns: u64,
        store: &impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let transaction = attempt.transaction;
        let leading = self.leading.as_mut().expect("followers hear nothing");
        if leading.appending.contains_key(&transaction) || self.table.prepared_of(transaction).is_some() {
            return;
        }
        if self.table.is_over(attempt) {
            self.counters.stale += 1;
            return match self.table.finished_of(transaction).map(|finished| &finished.end) {
                Some(End::Committed { answer }) => {
                    let body = Body::Applied { answer: Some(answer.clone()) };
                    out.send(from, Message { attempt, body });
                }
                // Refused, in the log; the answer was lost.
                Some(End::Aborted) => self.vote_no(from, attempt, Refusal::Locked, out),
                // It may have been run long ago: the coordinator must not call it not applied.
                None => self.vote_no(from, attempt, Refusal::Stale, out),
            };
        }
        match self.admit(attempt, &work, store) {
            Ok(()) if work.writes() => {
                let leading = self.leading.as_mut().expect("still leading");
                let before = leading.appending.insert(transaction, (attempt, Appending::Once));
                assert!(before.is_none(), "one record at a time of a transaction");
                let body = ParticipantBody::Once { attempt, work };
                out.append(ParticipantRecord { epoch: leading.epoch, body });
            }
            Ok(()) => self.read_once(from, attempt, &work, now_ns, store, out),
            // These are refused at any time; no later copy finds it otherwise.
            Err(why @ (Refusal::TooLarge | Refusal::TooManyCoordinators)) => {
                self.vote_no(from, attempt, why, out);
            }
            Err(why) if !work.writes() => self.vote_no(from, attempt, why, out),
            Err(why) => {
                self.count_refusal(why);
                let leading = self.leading.as_mut().expect("still leading");
                if leading.appending.len() < self.config.max_transactions {
                    leading.append_refuse(attempt, from, Some(why), out);
                }
                // Else it is not answered at all; the coordinator asks again, or says that it does not know.
            }
        }
    }

    pub(super) fn on_commit(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        if self.is_prepared(attempt) {
            let leading = self.leading.as_mut().expect("followers hear nothing");
            return leading.append_finish(attempt, true, false, out);
        }
        let transaction = attempt.transaction;
        let answer = match self.table.finished_of(transaction) {
            Some(finished) => match &finished.end {
                End::Committed { answer } => Some(answer.clone()),
                End::Aborted if self.contradicts(attempt, true) => {
                    self.counters.contradicted += 1;
                    return out.send(from, Message { attempt, body: Body::Contradicted });
                }
                // Never prepared in this attempt: nobody who counts votes can have said so.
                End::Aborted => {
                    self.counters.stale += 1;
                    return;
                }
            },
            None if self.table.is_forgotten(transaction) => None,
            None => {
                self.counters.stale += 1;
                return;
            }
        };
        out.send(from, Message { attempt, body: Body::Applied { answer } });
    }

    /// Whether exactly this attempt is prepared.
    fn is_prepared(&self, attempt: Attempt) -> bool {
        self.table.prepared_of(attempt.transaction).is_some_and(|prepared| prepared.attempt == attempt)
    }

    /// An abort of an attempt ends all before it, too.
    pub(super) fn on_abort(&mut self, attempt: Attempt, out: &mut impl Outlet<ParticipantRecord>) {
        let transaction = attempt.transaction;
        self.counters.contradicted += u64::from(self.contradicts(attempt, false));
        let leading = self.leading.as_mut().expect("followers hear nothing");
        if leading.reads.holding_of(transaction).is_some_and(|reading| reading.attempt <= attempt) {
            leading.end_reading(transaction);
        }
        if let Some(prepared) = self.table.prepared_of(transaction) {
            if prepared.attempt <= attempt {
                let earlier = prepared.attempt;
                leading.append_finish(earlier, false, false, out);
            }
        } else if let Some((appended, Appending::Prepare { abort })) = leading.appending.get_mut(&transaction)
            && *appended <= attempt
        {
            *abort = true;
        }
    }

    /// Another writer is in doubt. It is told only what is certain: what ended here; or, since this one never promised anything, and now
    /// logs that it won't, that the attempt can't commit. Two that have both promised can't help each other.
    pub(super) fn on_inquire(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let transaction = attempt.transaction;
        let mut tell = |commit| out.send(from, Message { attempt, body: Body::Outcome { commit } });
        match (self.table.prepared_of(transaction), self.table.finished_of(transaction)) {
            // The coordinator began a later attempt here, so it has given up the earlier one.
            (Some(prepared), _) if prepared.attempt > attempt => tell(false),
            (Some(_), _) => {}
            // What a person decided is no proof of what the coordinator decided.
            (None, Some(finished)) if finished.by_hand => {}
            (None, Some(finished)) => match finished.end {
                End::Committed { .. } => tell(finished.attempt == attempt),
                End::Aborted if attempt <= finished.attempt => tell(false),
                End::Aborted => self.refuse_peer(from, attempt, out),
            },
            (None, None) if self.table.is_forgotten(transaction) => {}
            (None, None) => self.refuse_peer(from, attempt, out),
        }
    }

    fn refuse_peer(&mut self, from: GroupId, attempt: Attempt, out: &mut impl Outlet<ParticipantRecord>) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        if !leading.appending.contains_key(&attempt.transaction)
            && leading.appending.len() < self.config.max_transactions
            && self.table.has_room_for(attempt.transaction.coordinator)
        {
            leading.append_refuse(attempt, from, None, out);
        }
    }

    pub(super) fn on_outcome(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        commit: bool,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        if !self.is_prepared(attempt) {
            self.counters.stale += 1;
            self.counters.contradicted += u64::from(self.contradicts(attempt, commit));
            return;
        }
        self.counters.told_by_peer += u64::from(from != attempt.transaction.coordinator);
        let leading = self.leading.as_mut().expect("followers hear nothing");
        leading.append_finish(attempt, commit, false, out);
    }
}
