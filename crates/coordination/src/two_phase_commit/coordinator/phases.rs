//! From one phase of a transaction to the next.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{GroupId, Plant, planted};

use super::{Active, Coordinator, Outcome, Phase, Voted, Why};
use crate::two_phase_commit::Outlet;
use crate::two_phase_commit::config::ms;
use crate::two_phase_commit::message::{Attempt, Body, Message, Refusal, TransactionId};
use crate::two_phase_commit::record::{CoordinatorBody, CoordinatorRecord};

impl Active {
    pub(super) fn writers(&self) -> impl Iterator<Item = GroupId> {
        self.members.iter().filter(|member| member.writes).map(|member| member.participant)
    }

    pub(super) fn next_tick_ns(&self) -> u64 {
        let phase_ns = match self.phase {
            Phase::Pausing { until_ns } => return until_ns,
            Phase::Voting { until_ns } | Phase::Confirming { until_ns } => until_ns.min(self.deadline_ns),
            Phase::Once => self.deadline_ns,
            Phase::Deciding | Phase::Committed => u64::MAX,
        };
        let answer_ns = if self.request.is_some() { self.answer_by_ns } else { u64::MAX };
        let resend_ns = if self.phase == Phase::Deciding { u64::MAX } else { self.resend_at_ns };
        phase_ns.min(answer_ns).min(resend_ns)
    }

    /// Says to everyone who has not answered what the phase wants of them.
    fn say(&self, out: &mut impl Outlet<CoordinatorRecord>) {
        let attempt = self.attempt;
        let writers: Vec<GroupId> = self.writers().collect();
        for member in &self.members {
            let work =
                || member.work.clone().expect("only decided transactions are taken over without their work");
            let body = match self.phase {
                Phase::Once => Body::Once { work: work() },
                Phase::Voting { .. } if member.voted.is_none() => {
                    Body::Prepare { writers: writers.clone(), work: work() }
                }
                Phase::Confirming { .. } if !member.writes && !member.confirmed => {
                    let Voted { epoch, serial } = member.voted.expect("all have voted");
                    Body::Confirm { epoch, serial }
                }
                Phase::Committed if member.writes && !member.done => Body::Commit,
                _ => continue,
            };
            out.send(member.participant, Message { attempt, body });
        }
    }
}

impl Coordinator {
    fn active(&mut self, transaction: TransactionId) -> &mut Active {
        let leading = self.leading.as_mut().expect("only leaders have anything under way");
        leading.active.get_mut(&transaction).expect("it is under way")
    }

    /// Enters a phase and says what it wants.
    fn enter(
        &mut self,
        transaction: TransactionId,
        phase: Phase,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let resend_at_ns = now_ns + ms(self.config.resend_ms);
        let active = self.active(transaction);
        active.phase = phase;
        active.resend_at_ns = resend_at_ns;
        active.say(out);
    }

    pub(super) fn begin_attempt(
        &mut self,
        transaction: TransactionId,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let until_ns = now_ns + ms(self.config.vote_ms);
        let active = self.active(transaction);
        assert!(matches!(active.phase, Phase::Pausing { .. }), "one attempt at a time");
        active.attempt.number += 1;
        for member in &mut active.members {
            member.voted = None;
            member.confirmed = false;
            member.answer = None;
            assert!(!member.done, "nothing was applied in an attempt that was aborted");
        }
        let phase = if active.members.len() == 1 { Phase::Once } else { Phase::Voting { until_ns } };
        let again = active.attempt.number > 1;
        self.counters.retried += u64::from(again);
        assert!(self.active(transaction).attempt.number <= self.config.max_attempts, "attempts are limited");
        self.enter(transaction, phase, now_ns, out);
    }

    /// All votes are in: who only reads is asked whether it still holds its locks. From the moment of the last vote until they answer,
    /// everybody holds everything: that is when the transaction takes place.
    pub(super) fn confirm(
        &mut self,
        transaction: TransactionId,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let until_ns = now_ns + ms(self.config.vote_ms);
        let active = self.active(transaction);
        assert!(
            active.members.iter().all(|member| member.voted.is_some()),
            "nobody is asked before all have voted"
        );
        assert!(matches!(active.phase, Phase::Voting { .. }), "votes come while they are awaited");
        if active.members.iter().all(|member| member.writes) {
            return self.decide(transaction, now_ns, out);
        }
        self.enter(transaction, Phase::Confirming { until_ns }, now_ns, out);
    }

    pub(super) fn on_confirmed(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        held: bool,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        let active = leading
            .active
            .get_mut(&attempt.transaction)
            .filter(|active| active.attempt == attempt && matches!(active.phase, Phase::Confirming { .. }));
        let member = active.and_then(|active| active.members.iter_mut().find(|m| m.participant == from));
        let Some(member) = member.filter(|member| !member.writes && !member.confirmed) else {
            self.counters.stale += 1;
            return;
        };
        if !held {
            self.counters.not_held += 1;
            return self.refused(attempt.transaction, from, Refusal::Locked, now_ns, out);
        }
        member.confirmed = true;
        let active = self.active(attempt.transaction);
        if active.members.iter().all(|member| member.writes || member.confirmed) {
            self.decide(attempt.transaction, now_ns, out);
        }
    }

    /// The commit is in the log: everybody may know.
    pub(super) fn tell_commit(
        &mut self,
        transaction: TransactionId,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        assert!(
            self.table.committed_of(transaction).is_some() || planted(Plant::DecisionNotLogged),
            "nobody is told before it is logged"
        );
        self.enter(transaction, Phase::Committed, now_ns, out);
    }

    /// A participant has applied its part; or, `by_hand`, a person has aborted what is committed, and it never will.
    pub(super) fn on_applied(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        answer: Option<Bytes>,
        by_hand: bool,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        let Some(active) = leading.active.get_mut(&attempt.transaction) else {
            self.counters.stale += 1;
            return;
        };
        // One phase: an earlier attempt may have been run after all, once; its answer is the transaction's, whichever attempt it was.
        let counts = match active.phase {
            Phase::Committed => active.attempt == attempt,
            Phase::Once | Phase::Pausing { .. } => active.members.len() == 1 && !by_hand,
            _ => false,
        };
        let member = active.members.iter_mut().find(|member| member.participant == from);
        let Some(member) = member.filter(|member| counts && !member.done) else {
            self.counters.stale += 1;
            return;
        };
        member.done = true;
        member.by_hand = by_hand;
        member.answer = answer;
        self.counters.by_hand += u64::from(by_hand);
        if active.members.iter().all(|member| member.done || !member.writes || active.phase == Phase::Once) {
            self.finish(attempt.transaction, out);
        }
    }

    /// Everything is done everywhere: the client is answered, and what was logged may be forgotten.
    pub(super) fn finish(&mut self, transaction: TransactionId, out: &mut impl Outlet<CoordinatorRecord>) {
        let leading = self.leading.as_mut().expect("only leaders finish");
        let active = leading.active.remove(&transaction).expect("it is under way");
        assert!(active.attempt.number > 0, "something was attempted");
        assert!(
            active.members.iter().all(|member| member.done || !member.writes),
            "all writers have applied it"
        );
        if self.table.committed_of(transaction).is_some() {
            let body = CoordinatorBody::End { transaction };
            out.append(CoordinatorRecord { epoch: leading.epoch, body });
        }
        let Some(request) = active.request else { return };
        let torn = active.members.iter().filter(|member| member.by_hand);
        let participants: Vec<GroupId> = torn.map(|member| member.participant).collect();
        if participants.is_empty() {
            let answers = active.members.into_iter().map(|member| member.answer).collect();
            out.answer(request, Outcome::Committed { answers });
        } else {
            out.answer(request, Outcome::ByHand { participants });
        }
    }

    /// An attempt failed: everybody lets go, and another one begins after a pause, if it may.
    pub(super) fn refused(
        &mut self,
        transaction: TransactionId,
        participant: GroupId,
        why: Refusal,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        if self.active(transaction).phase == Phase::Once && why == Refusal::Stale {
            // The participant no longer remembers whether an earlier copy of the message was carried out.
            return self.end_uncertain(transaction, out);
        }
        self.abort_attempt(transaction, out);
        if why == Refusal::ByHand {
            return self.end_by_hand(transaction, participant, out);
        }
        let number = self.active(transaction).attempt.number;
        let until_ns = now_ns + self.pause_ns(number);
        assert!(number <= self.config.max_attempts, "attempts are limited");
        let (max_attempts, active) = (self.config.max_attempts, self.active(transaction));
        if why.may_retry() && number < max_attempts && until_ns < active.deadline_ns {
            active.phase = Phase::Pausing { until_ns };
        } else {
            self.give_up(transaction, Why::Refused { participant, why }, out);
        }
    }

    /// The transaction is aborted, and a person has committed it at this participant.
    fn end_by_hand(
        &mut self,
        transaction: TransactionId,
        participant: GroupId,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        self.counters.by_hand += 1;
        assert!(self.table.committed_of(transaction).is_none(), "what is committed is not aborted");
        let leading = self.leading.as_mut().expect("only leaders have anything under way");
        let active = leading.active.remove(&transaction).expect("it is under way");
        if let Some(request) = active.request {
            out.answer(request, Outcome::ByHand { participants: Vec::from([participant]) });
        }
    }

    /// Presumed abort: nothing is logged, nobody has to answer. Whoever misses it asks.
    fn abort_attempt(&mut self, transaction: TransactionId, out: &mut impl Outlet<CoordinatorRecord>) {
        self.counters.aborted += 1;
        let active = self.active(transaction);
        let undecided = matches!(active.phase, Phase::Once | Phase::Voting { .. } | Phase::Confirming { .. });
        assert!(undecided, "what is decided is not aborted");
        if active.phase != Phase::Once {
            let attempt = active.attempt;
            for member in &active.members {
                out.send(member.participant, Message { attempt, body: Body::Abort });
            }
        }
    }

    fn give_up(&mut self, transaction: TransactionId, why: Why, out: &mut impl Outlet<CoordinatorRecord>) {
        let leading = self.leading.as_mut().expect("only leaders give up");
        let active = leading.active.remove(&transaction).expect("it is under way");
        assert!(self.table.committed_of(transaction).is_none(), "what is committed is not given up");
        self.counters.not_applied += 1;
        if let Some(request) = active.request {
            out.answer(request, Outcome::NotApplied { why });
        }
    }

    pub(super) fn tick_one(
        &mut self,
        transaction: TransactionId,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let resend_at_ns = now_ns + ms(self.config.resend_ms);
        let active = self.active(transaction);
        match active.phase {
            Phase::Pausing { .. } => return self.begin_attempt(transaction, now_ns, out),
            Phase::Voting { until_ns } | Phase::Confirming { until_ns }
                if now_ns >= until_ns.min(active.deadline_ns) =>
            {
                self.counters.timed_out += 1;
                return self.timed_out(transaction, now_ns, out);
            }
            // It may have been run, or may be yet.
            Phase::Once if now_ns >= active.deadline_ns => return self.end_uncertain(transaction, out),
            _ => {}
        }
        if active.request.is_some() && now_ns >= active.answer_by_ns {
            self.answer_uncertain(transaction, out);
        }
        let active = self.active(transaction);
        if now_ns >= active.resend_at_ns && active.phase != Phase::Deciding {
            active.resend_at_ns = resend_at_ns;
            active.say(out);
        }
    }

    fn timed_out(
        &mut self,
        transaction: TransactionId,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        self.abort_attempt(transaction, out);
        let number = self.active(transaction).attempt.number;
        let until_ns = now_ns + self.pause_ns(number);
        let (max_attempts, active) = (self.config.max_attempts, self.active(transaction));
        if number < max_attempts && until_ns < active.deadline_ns {
            active.phase = Phase::Pausing { until_ns };
        } else {
            self.give_up(transaction, Why::TimedOut, out);
        }
    }

    fn end_uncertain(&mut self, transaction: TransactionId, out: &mut impl Outlet<CoordinatorRecord>) {
        self.answer_uncertain(transaction, out);
        let leading = self.leading.as_mut().expect("only leaders have anything under way");
        let active = leading.active.remove(&transaction).expect("it is under way");
        assert!(active.phase == Phase::Once, "two phases end with a decision");
    }

    fn answer_uncertain(&mut self, transaction: TransactionId, out: &mut impl Outlet<CoordinatorRecord>) {
        self.counters.uncertain += 1;
        if let Some(request) = self.active(transaction).request.take() {
            out.answer(request, Outcome::Uncertain);
        }
    }
}
