//! A coordinator: asks, counts votes, logs a commit, tells. Its table is the group's; everything else is its leader's own, and what was not
//! decided when the leader ends is aborted.

mod phases;
mod table;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{GroupId, Plant, RequestId, planted};

pub use table::{Committed, CoordinatorTable, Decision};

use super::config::{CoordinatorConfig, ms};
use super::message::{Attempt, Body, Message, Refusal, TransactionId, Vote, Work};
use super::record::{CoordinatorBody, CoordinatorRecord};
use super::{Input, Outlet};

/// What a transaction does at one participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Which participant.
    pub participant: GroupId,
    /// What it does there.
    pub work: Work,
}

/// What a client is told: one of three, unless a person has torn it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Applied everywhere; the participants' answers in the order of the parts. `None` where an answer was no longer remembered.
    Committed {
        /// The answers.
        answers: Vec<Option<Bytes>>,
    },
    /// Not applied anywhere, and it won't be.
    NotApplied {
        /// Why.
        why: Why,
    },
    /// This coordinator can't say. It is atomic all the same: all of it or nothing.
    Uncertain,
    /// At these participants a person has decided, and otherwise than the coordinator: what they have differs from what the others have.
    ByHand {
        /// Which.
        participants: Vec<GroupId>,
    },
}

/// Why nothing was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// This replica does not lead the coordinator's group.
    NotLeader,
    /// Too many transactions are under way.
    Overloaded,
    /// No parts, two parts at one participant, too many parts, or too large ones.
    Malformed,
    /// The last attempt was refused by this participant.
    Refused {
        /// Who.
        participant: GroupId,
        /// Why.
        why: Refusal,
    },
    /// Not all votes came in time.
    TimedOut,
}

/// How often each thing happened in this life.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CoordinatorCounters {
    /// Transactions begun.
    pub begun: u64,
    /// Begun with one participant.
    pub one_phase: u64,
    /// Commits logged.
    pub committed: u64,
    /// Committed without a record, as nobody wrote.
    pub read_only: u64,
    /// Attempts aborted.
    pub aborted: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Clients told that nothing was applied.
    pub not_applied: u64,
    /// Clients told that it is not known.
    pub uncertain: u64,
    /// Participants at which a person had decided otherwise.
    pub by_hand: u64,
    /// Attempts aborted because a read-only participant no longer held its locks.
    pub not_held: u64,
    /// Attempts aborted because votes were missing in time.
    pub timed_out: u64,
    /// Commits of an earlier leader that this one has finished.
    pub taken_over: u64,
    /// Questions answered "aborted" because nothing was known.
    pub presumed_aborted: u64,
    /// Questions answered "committed".
    pub told_committed: u64,
    /// Messages about attempts that are over.
    pub stale: u64,
}

/// Where an attempt stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The only participant was asked to do it.
    Once,
    /// Votes are awaited.
    Voting { until_ns: u64 },
    /// All votes are in; read-only participants are asked whether they still hold their locks.
    Confirming { until_ns: u64 },
    /// The commit is on its way into the log.
    Deciding,
    /// Committed; writers are told until all have said that they applied it.
    Committed,
    /// The attempt was aborted; the next begins then.
    Pausing { until_ns: u64 },
}

/// A vote for an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Voted {
    /// The participant's epoch.
    epoch: u64,
    /// A reader's: which hold of its locks it was.
    serial: u64,
}

/// One participant of a transaction under way.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    participant: GroupId,
    /// Empty where an earlier leader's commit was taken over.
    work: Option<Work>,
    writes: bool,
    /// Its vote for the present attempt.
    voted: Option<Voted>,
    confirmed: bool,
    /// It has applied its part, or read it, or never will, as a person has decided.
    done: bool,
    /// A person has aborted it there.
    by_hand: bool,
    answer: Option<Bytes>,
}

/// A transaction under way.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Active {
    /// Whom to answer; `None` once answered, or if an earlier leader began it.
    request: Option<RequestId>,
    attempt: Attempt,
    phase: Phase,
    members: Vec<Member>,
    /// No attempt begins after this.
    deadline_ns: u64,
    /// Who asked is told by then that it is not known.
    answer_by_ns: u64,
    resend_at_ns: u64,
}

/// Only while leading.
#[derive(Clone, Debug)]
struct Leading {
    epoch: u64,
    next_number: u64,
    active: BTreeMap<TransactionId, Active>,
}

/// One replica of a coordinator.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    table: CoordinatorTable,
    nominated: Option<u64>,
    leading: Option<Leading>,
    counters: CoordinatorCounters,
    /// The state of the generator of pauses.
    chance: u64,
}

impl Coordinator {
    /// A replica whose log comes to `table`. It follows. `seed` should differ in every life: pauses between attempts are drawn from it.
    #[must_use]
    pub fn new(config: CoordinatorConfig, table: CoordinatorTable, seed: u64) -> Coordinator {
        assert!(config.validate().is_ok(), "whoever builds a coordinator validates its configuration");
        let counters = CoordinatorCounters::default();
        Coordinator { config, table, nominated: None, leading: None, counters, chance: seed }
    }

    /// The replicated state.
    #[must_use]
    pub fn table(&self) -> &CoordinatorTable {
        &self.table
    }

    /// Whether it leads, which includes that its epoch's first record was applied.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading.is_some()
    }

    /// Transactions under way here; 0 at a follower.
    #[must_use]
    pub fn active_len(&self) -> usize {
        self.leading.as_ref().map_or(0, |leading| leading.active.len())
    }

    /// Counters of this life.
    #[must_use]
    pub fn counters(&self) -> CoordinatorCounters {
        self.counters
    }

    /// When [`Input::Tick`] is next needed; `None` if nothing waits. O(transactions under way).
    #[must_use]
    pub fn next_tick_ns(&self) -> Option<u64> {
        let leading = self.leading.as_ref()?;
        leading.active.values().map(Active::next_tick_ns).min()
    }

    /// Begins a transaction. Every request is answered once, by [`Outlet::answer`], unless this process ends before.
    pub fn begin(
        &mut self,
        request: RequestId,
        parts: Vec<Part>,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let malformed = self.is_malformed(&parts);
        let refusal = match &self.leading {
            None => Some(Why::NotLeader),
            Some(_) if malformed => Some(Why::Malformed),
            Some(leading)
                if leading.active.len() >= self.config.max_transactions
                    || self.table.len() >= 2 * self.config.max_transactions =>
            {
                Some(Why::Overloaded)
            }
            Some(_) => None,
        };
        if let Some(why) = refusal {
            self.counters.not_applied += 1;
            return out.answer(request, Outcome::NotApplied { why });
        }
        let leading = self.leading.as_mut().expect("followers were refused");
        let transaction = TransactionId {
            coordinator: self.config.group,
            epoch: leading.epoch,
            number: leading.next_number,
        };
        leading.next_number += 1;
        self.counters.begun += 1;
        self.counters.one_phase += u64::from(parts.len() == 1);
        let members = parts.into_iter().map(|part| Member {
            participant: part.participant,
            writes: part.work.writes(),
            work: Some(part.work),
            voted: None,
            confirmed: false,
            done: false,
            by_hand: false,
            answer: None,
        });
        let active = Active {
            request: Some(request),
            attempt: Attempt { transaction, number: 0 },
            phase: Phase::Pausing { until_ns: now_ns },
            members: members.collect(),
            deadline_ns: now_ns + ms(self.config.transaction_ms),
            answer_by_ns: now_ns + ms(self.config.answer_ms),
            resend_at_ns: now_ns,
        };
        let before = leading.active.insert(transaction, active);
        assert!(before.is_none(), "a number is given once in an epoch");
        self.begin_attempt(transaction, now_ns, out);
    }

    fn is_malformed(&self, parts: &[Part]) -> bool {
        let twice = |at: usize, part: &Part| parts[..at].iter().any(|p| p.participant == part.participant);
        let too_large = |work: &Work| {
            work.locks.len() > self.config.max_locks || work.size_bytes() > self.config.max_work_bytes
        };
        parts.is_empty()
            || parts.len() > self.config.max_participants
            || parts.iter().enumerate().any(|(at, part)| twice(at, part) || too_large(&part.work))
    }

    /// Takes one input; returns what a record has come to.
    pub fn handle(
        &mut self,
        input: Input<CoordinatorRecord>,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) -> Decision {
        match input {
            Input::Lead { epoch } => {
                self.step_down(out);
                assert!(
                    self.leading.is_none() && self.nominated.is_none(),
                    "whoever is told to lead begins anew"
                );
                if epoch > self.table.epoch() {
                    self.nominated = Some(epoch);
                    out.append(CoordinatorRecord { epoch, body: CoordinatorBody::Lead });
                }
            }
            Input::Follow => self.step_down(out),
            Input::Applied(record) => return self.apply(record, now_ns, out),
            Input::Message { from, message } => self.hear(from, message, now_ns, out),
            // A coordinator answers nothing that would need it.
            Input::Proven { .. } => {}
            Input::Tick => self.tick(now_ns, out),
        }
        Decision::Void
    }

    /// Nothing that is undecided will ever commit: its commit would stand in the log after a later epoch's beginning, and be void. But
    /// whether a later epoch has begun is not known here, nor is what became of a commit that is on its way: so clients are told "uncertain",
    /// but for those whose attempt was never asked to commit.
    fn step_down(&mut self, out: &mut impl Outlet<CoordinatorRecord>) {
        self.nominated = None;
        let Some(leading) = self.leading.take() else { return };
        for active in leading.active.into_values() {
            let Some(request) = active.request else { continue };
            let undecided = matches!(
                active.phase,
                Phase::Voting { .. } | Phase::Confirming { .. } | Phase::Pausing { .. }
            );
            if undecided {
                self.counters.not_applied += 1;
                out.answer(request, Outcome::NotApplied { why: Why::NotLeader });
            } else {
                self.counters.uncertain += 1;
                out.answer(request, Outcome::Uncertain);
            }
        }
    }

    fn apply(
        &mut self,
        record: CoordinatorRecord,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) -> Decision {
        let of_own_epoch = self.leading.as_ref().is_some_and(|leading| leading.epoch == record.epoch);
        let decision = self.table.apply(record);
        match &decision {
            Decision::Led { epoch } => self.begin_epoch(*epoch, now_ns, out),
            Decision::Committed { attempt } if of_own_epoch => {
                self.counters.committed += 1;
                self.tell_commit(attempt.transaction, now_ns, out);
            }
            _ => {}
        }
        decision
    }

    /// This replica's epoch begins: commits of earlier leaders are told until they are applied everywhere. All else of theirs is aborted.
    fn begin_epoch(&mut self, epoch: u64, now_ns: u64, out: &mut impl Outlet<CoordinatorRecord>) {
        let nominated = self.nominated;
        self.step_down(out);
        if nominated != Some(epoch) {
            // An earlier leader's beginning may be applied after this replica was told to lead; a later one's ends its hopes.
            self.nominated = nominated.filter(|nominated| *nominated > epoch);
            return;
        }
        let member = |participant: &GroupId| Member {
            participant: *participant,
            work: None,
            writes: true,
            voted: None,
            confirmed: false,
            done: false,
            by_hand: false,
            answer: None,
        };
        let mut active = BTreeMap::new();
        for committed in self.table.committed() {
            let taken_over = Active {
                request: None,
                attempt: committed.attempt,
                phase: Phase::Committed,
                members: committed.writers.iter().map(member).collect(),
                deadline_ns: now_ns,
                answer_by_ns: now_ns,
                resend_at_ns: now_ns,
            };
            active.insert(committed.attempt.transaction, taken_over);
        }
        assert!(active.len() == self.table.len(), "every logged commit is finished by whoever leads");
        assert!(self.table.epoch() == epoch, "the table has the beginning");
        self.counters.taken_over += active.len() as u64;
        self.leading = Some(Leading { epoch, next_number: 1, active });
        self.tick(now_ns, out);
    }

    fn hear(
        &mut self,
        from: GroupId,
        message: Message,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let Message { attempt, body } = message;
        let of_later_epoch =
            self.leading.as_ref().is_none_or(|leading| attempt.transaction.epoch > leading.epoch);
        if of_later_epoch || attempt.transaction.coordinator != self.config.group {
            self.counters.stale += 1;
            return;
        }
        match body {
            Body::Vote { epoch, vote } => self.on_vote(from, attempt, epoch, vote, now_ns, out),
            Body::Confirmed { held, .. } => self.on_confirmed(from, attempt, held, now_ns, out),
            Body::Applied { answer } => self.on_applied(from, attempt, answer, false, out),
            Body::Contradicted => self.on_applied(from, attempt, None, true, out),
            Body::Inquire => self.on_inquire(from, attempt, out),
            // What coordinators say.
            _ => self.counters.stale += 1,
        }
    }

    /// A participant in doubt asks. Presumed abort: what is neither under way nor logged as committed is aborted. That is right because all
    /// that ever commits is logged before anyone is told, stays in the table until every writer has applied it, and because an attempt of an earlier
    /// epoch can't be decided any more once this epoch has begun.
    fn on_inquire(&mut self, from: GroupId, attempt: Attempt, out: &mut impl Outlet<CoordinatorRecord>) {
        let transaction = attempt.transaction;
        let leading = self.leading.as_ref().expect("followers hear nothing");
        let commit = match (self.table.committed_of(transaction), leading.active.get(&transaction)) {
            (Some(committed), _) => committed.attempt == attempt,
            (None, Some(active)) if active.attempt < attempt => return,
            (None, Some(active)) if active.attempt == attempt => match active.phase {
                Phase::Pausing { .. } => false,
                Phase::Committed => true,
                Phase::Once | Phase::Voting { .. } | Phase::Confirming { .. } | Phase::Deciding => return,
            },
            (None, _) => {
                self.counters.presumed_aborted += 1;
                false
            }
        };
        assert!(!commit || attempt.number > 0, "no attempt 0 is ever decided");
        self.counters.told_committed += u64::from(commit);
        out.send(from, Message { attempt, body: Body::Outcome { commit } });
    }

    fn tick(&mut self, now_ns: u64, out: &mut impl Outlet<CoordinatorRecord>) {
        let Some(leading) = &self.leading else { return };
        let due = leading.active.iter().filter(|(_, active)| active.next_tick_ns() <= now_ns);
        let due: Vec<TransactionId> = due.map(|(transaction, _)| *transaction).collect();
        for transaction in due {
            self.tick_one(transaction, now_ns, out);
        }
    }

    /// Panics if the leader's part and the table contradict each other. O(1).
    pub fn assert_invariants(&self) {
        let Some(leading) = &self.leading else { return };
        assert!(leading.epoch == self.table.epoch(), "who leads leads the log's newest epoch");
        assert!(leading.next_number >= 1, "numbers begin with 1");
        let most = self.config.max_transactions.max(self.counters.taken_over as usize) + 1;
        assert!(leading.active.len() <= most, "what is under way is limited");
        assert!(self.table.len() <= 3 * most, "commits whose end is not logged are limited");
    }

    /// The pause before the attempt after this one, nanoseconds: doubled each time, and up to as much again by chance.
    fn pause_ns(&mut self, attempt: u32) -> u64 {
        let base_ns = ms(self.config.backoff_ms) << attempt.saturating_sub(1).min(10);
        // SplitMix64 (Steele et al. 2014): spread is all that is wanted of it.
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((u128::from(mixed ^ (mixed >> 31)) * u128::from(base_ns + 1)) >> 64) as u64;
        assert!(share <= base_ns, "chance adds up to as much again");
        base_ns + share
    }

    fn decide(&mut self, transaction: TransactionId, now_ns: u64, out: &mut impl Outlet<CoordinatorRecord>) {
        let leading = self.leading.as_mut().expect("only leaders decide");
        let active = leading.active.get_mut(&transaction).expect("only what is under way is decided");
        assert!(active.members.iter().all(|member| member.voted.is_some()), "all have voted");
        assert!(
            active.members.iter().all(|member| member.writes || member.confirmed),
            "readers have confirmed"
        );
        assert!(self.table.committed_of(transaction).is_none(), "a transaction is decided once");
        let writers: Vec<GroupId> = active.writers().collect();
        if writers.is_empty() {
            // Nobody has anything to do: the reads were right at the moment when all locks were held.
            self.counters.read_only += 1;
            return self.finish(transaction, out);
        }
        if planted(Plant::DecisionNotLogged) {
            return self.tell_commit(transaction, now_ns, out);
        }
        active.phase = Phase::Deciding;
        let body = CoordinatorBody::Commit { attempt: active.attempt, writers };
        out.append(CoordinatorRecord { epoch: leading.epoch, body });
    }

    fn on_vote(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        epoch: u64,
        vote: Vote,
        now_ns: u64,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        let leading = self.leading.as_mut().expect("followers hear nothing");
        let current = leading.active.get_mut(&attempt.transaction).filter(|active| active.attempt == attempt);
        let Some(active) = current else { return self.late_vote(from, attempt, &vote, out) };
        let Some(member) = active.members.iter_mut().find(|member| member.participant == from) else {
            self.counters.stale += 1;
            return;
        };
        match (active.phase, vote) {
            (Phase::Voting { .. } | Phase::Once, Vote::No { why }) => {
                self.refused(attempt.transaction, from, why, now_ns, out);
            }
            (Phase::Voting { .. }, vote) => {
                let (answer, serial) = match vote {
                    Vote::ReadOnly { answer, serial } => (Some(answer), serial),
                    _ => (None, 0),
                };
                if member.voted.is_some() || member.writes == answer.is_some() {
                    // Said before; or a writer that claims to read, or the other way round.
                    self.counters.stale += u64::from(member.voted.is_none());
                    return;
                }
                member.voted = Some(Voted { epoch, serial });
                member.answer = answer;
                if active.members.iter().all(|member| member.voted.is_some()) {
                    self.confirm(attempt.transaction, now_ns, out);
                }
            }
            _ => self.counters.stale += 1,
        }
    }

    /// A vote for an attempt that is over, or that an earlier leader had begun: whoever gave it waits, and is told.
    fn late_vote(
        &mut self,
        from: GroupId,
        attempt: Attempt,
        vote: &Vote,
        out: &mut impl Outlet<CoordinatorRecord>,
    ) {
        self.counters.stale += 1;
        match vote {
            Vote::No { .. } => {}
            Vote::ReadOnly { .. } => out.send(from, Message { attempt, body: Body::Abort }),
            Vote::Yes => self.on_inquire(from, attempt, out),
        }
    }
}
