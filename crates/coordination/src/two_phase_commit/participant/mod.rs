//! A participant: locks, promises, and does what was decided. Its table is the group's; everything else here is its leader's own and dies with
//! the leadership.

mod reads;
mod table;
mod votes;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{GroupId, Plant, planted};

pub use table::{Effect, End, Finished, ParticipantTable, Prepared};

use self::reads::Reads;
use super::config::{ParticipantConfig, ms};
use super::locks::Locks;
use super::message::{Attempt, Body, Message, Mode, Refusal, TransactionId, Vote};
use super::record::{ParticipantBody, ParticipantRecord};
use super::{Input, Outlet, Store};

/// How often each thing happened in this life.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ParticipantCounters {
    /// Votes `Yes`, first ones only.
    pub prepared: u64,
    /// Votes `ReadOnly`, first ones only.
    pub read_only: u64,
    /// Refused because a key was locked.
    pub locked: u64,
    /// Refused for another reason.
    pub refused: u64,
    /// Messages about an attempt that a later one had overtaken.
    pub stale: u64,
    /// Confirmations that could not be given.
    pub not_held: u64,
    /// Questions about an outcome.
    pub inquiries: u64,
    /// Transactions whose outcome another participant told.
    pub told_by_peer: u64,
    /// Commits, by two phases.
    pub committed: u64,
    /// Aborts of what was prepared.
    pub aborted: u64,
    /// Run in one phase.
    pub ran_once: u64,
    /// Read locks that ran out.
    pub reads_expired: u64,
    /// Confirmations refused, because the locks had run out and a late copy of the question had taken them again.
    pub revived: u64,
    /// Messages that contradict what a person had decided here; copies count, too.
    pub contradicted: u64,
}

/// What a leader has appended and not yet seen applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Appending {
    /// A promise; `abort` if an abort came meanwhile.
    Prepare { abort: bool },
    /// An outcome.
    Finish,
    /// One phase.
    Once,
    /// A refusal, to be told to this group with this vote, or as an outcome.
    Refuse { to: GroupId, why: Option<Refusal> },
}

/// A promise whose outcome is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubt {
    since_ns: u64,
    ask_at_ns: u64,
    asked: u32,
}

/// A promise whose outcome is not known here, for a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InDoubt {
    /// Which attempt.
    pub attempt: Attempt,
    /// All participants that write.
    pub writers: Vec<GroupId>,
    /// Keys it holds.
    pub keys: Vec<Bytes>,
    /// For how long this leader has waited, nanoseconds.
    pub waited_ns: u64,
    /// How often it has asked.
    pub asked: u32,
}

/// Only while leading.
#[derive(Clone, Debug)]
struct Leading {
    epoch: u64,
    locks: Locks,
    reads: Reads,
    appending: BTreeMap<TransactionId, (Attempt, Appending)>,
    doubts: BTreeMap<TransactionId, Doubt>,
}

/// What stands in the way of a command that is not part of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocker {
    /// This transaction holds the key. It has to wait before it is proposed.
    Transaction(TransactionId),
    /// Not known: this replica does not lead, or its epoch's first record is not applied yet, so it has no locks. Nothing may be proposed here.
    NotLeading,
}

/// One replica of a participant.
#[derive(Clone, Debug)]
pub struct Participant {
    config: ParticipantConfig,
    table: ParticipantTable,
    /// An epoch that the log gave to this replica, and whose first record is on its way.
    nominated: Option<u64>,
    leading: Option<Leading>,
    counters: ParticipantCounters,
}

impl Participant {
    /// A replica whose log comes to `table`. It follows.
    #[must_use]
    pub fn new(config: ParticipantConfig, table: ParticipantTable) -> Participant {
        assert!(config.validate().is_ok(), "whoever builds a participant validates its configuration");
        Participant {
            config,
            table,
            nominated: None,
            leading: None,
            counters: ParticipantCounters::default(),
        }
    }

    /// The replicated state.
    #[must_use]
    pub fn table(&self) -> &ParticipantTable {
        &self.table
    }

    /// Whether it leads, which includes that its epoch's first record was applied.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading.is_some()
    }

    /// Counters of this life.
    #[must_use]
    pub fn counters(&self) -> ParticipantCounters {
        self.counters
    }

    /// What stands in the way of a command that is not part of a transaction; `None` if it may be proposed now.
    #[must_use]
    pub fn blocked_by(&self, key: &[u8], mode: Mode) -> Option<Blocker> {
        let Some(leading) = &self.leading else { return Some(Blocker::NotLeading) };
        leading.locks.conflict(None, key, mode).map(Blocker::Transaction)
    }

    /// Keys locked here; 0 at a follower.
    #[must_use]
    pub fn locked_keys(&self) -> usize {
        self.leading.as_ref().map_or(0, |leading| leading.locks.len())
    }

    /// Promises whose outcome is not known, oldest transaction first; empty at a follower.
    pub fn in_doubt(&self, now_ns: u64) -> impl Iterator<Item = InDoubt> {
        let doubts = self.leading.iter().flat_map(|leading| leading.doubts.iter());
        doubts.map(move |(transaction, doubt)| {
            let prepared = self.table.prepared_of(*transaction).expect("only promises are in doubt");
            InDoubt {
                attempt: prepared.attempt,
                writers: prepared.writers.clone(),
                keys: prepared.work.locks.iter().map(|lock| lock.key.clone()).collect(),
                waited_ns: now_ns.saturating_sub(doubt.since_ns),
                asked: doubt.asked,
            }
        })
    }

    /// A person decides what is in doubt, because the coordinator will not come back. This may break atomicity, which is why it is logged
    /// as done by hand, and counted if the coordinator ever says otherwise.
    ///
    /// # Errors
    /// [`ResolveError`]; nothing has changed.
    pub fn resolve(
        &mut self,
        transaction: TransactionId,
        commit: bool,
        out: &mut impl Outlet<ParticipantRecord>,
    ) -> Result<(), ResolveError> {
        let Some(leading) = &mut self.leading else { return Err(ResolveError::NotLeader) };
        if !leading.doubts.contains_key(&transaction) {
            return Err(ResolveError::NotInDoubt);
        }
        if leading.appending.contains_key(&transaction) {
            return Err(ResolveError::OutcomeOnItsWay);
        }
        let prepared = self.table.prepared_of(transaction).expect("only promises are in doubt");
        let attempt = prepared.attempt;
        assert!(attempt.transaction == transaction, "a promise stands under its transaction");
        leading.append_finish(attempt, commit, true, out);
        Ok(())
    }

    /// When [`Input::Tick`] is next needed; `None` if nothing waits.
    #[must_use]
    pub fn next_tick_ns(&self) -> Option<u64> {
        let leading = self.leading.as_ref()?;
        let doubts = leading.doubts.values().map(|doubt| doubt.ask_at_ns);
        doubts.chain(leading.reads.next_tick_ns()).min()
    }

    /// Takes one input; returns what a record has come to.
    pub fn handle(
        &mut self,
        input: Input<ParticipantRecord>,
        now_ns: u64,
        store: &mut impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) -> Effect {
        match input {
            Input::Lead { epoch } => self.nominate(epoch, out),
            Input::Follow => self.step_down(),
            Input::Applied(record) => return self.apply(record, now_ns, store, out),
            Input::Message { from, message } => self.hear(from, message, now_ns, store, out),
            Input::Proven { epoch, token } => self.proven(epoch, token, out),
            Input::Tick => self.tick(now_ns, out),
        }
        Effect::Void
    }

    fn nominate(&mut self, epoch: u64, out: &mut impl Outlet<ParticipantRecord>) {
        self.step_down();
        assert!(self.leading.is_none() && self.nominated.is_none(), "whoever is told to lead begins anew");
        if epoch > self.table.epoch() {
            self.nominated = Some(epoch);
            out.append(ParticipantRecord { epoch, body: ParticipantBody::Lead });
        }
    }

    fn step_down(&mut self) {
        self.leading = None;
        self.nominated = None;
    }

    fn hear(
        &mut self,
        from: GroupId,
        message: Message,
        now_ns: u64,
        store: &impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        if self.leading.is_none() {
            return;
        }
        let Message { attempt, body } = message;
        match body {
            Body::Prepare { writers, work } => {
                self.on_prepare(from, attempt, writers, work, now_ns, store, out)
            }
            Body::Once { work } => self.on_once(from, attempt, work, now_ns, store, out),
            Body::Confirm { epoch, serial } => self.on_confirm(from, attempt, epoch, serial, out),
            Body::Commit => self.on_commit(from, attempt, out),
            Body::Abort => self.on_abort(attempt, out),
            Body::Inquire => self.on_inquire(from, attempt, out),
            Body::Outcome { commit } => self.on_outcome(from, attempt, commit, out),
            // What participants say to coordinators.
            Body::Vote { .. } | Body::Confirmed { .. } | Body::Applied { .. } | Body::Contradicted => {
                self.counters.stale += 1;
            }
        }
    }

    fn apply(
        &mut self,
        record: ParticipantRecord,
        now_ns: u64,
        store: &mut impl Store,
        out: &mut impl Outlet<ParticipantRecord>,
    ) -> Effect {
        let of_own_epoch = self.leading.as_ref().is_some_and(|leading| leading.epoch == record.epoch);
        let transaction = match &record.body {
            ParticipantBody::Lead => None,
            ParticipantBody::Prepare { attempt, .. }
            | ParticipantBody::Finish { attempt, .. }
            | ParticipantBody::Once { attempt, .. }
            | ParticipantBody::Refuse { attempt } => Some(attempt.transaction),
        };
        let effect = self.table.apply(record, store);
        if let Effect::Led { epoch } = effect {
            self.begin(epoch, now_ns);
            return effect;
        }
        if let (Some(transaction), true) = (transaction, of_own_epoch) {
            let leading = self.leading.as_mut().expect("records of one's own epoch come while one leads");
            let (attempt, appending) = leading
                .appending
                .remove(&transaction)
                .expect("a leader appended what its epoch's records say");
            self.applied(attempt, appending, &effect, now_ns, out);
        }
        effect
    }

    /// An epoch begins: this replica's, or another's.
    fn begin(&mut self, epoch: u64, now_ns: u64) {
        self.leading = None;
        if self.nominated != Some(epoch) {
            // An earlier leader's beginning may be applied after this replica was told to lead; a later one's ends its hopes.
            self.nominated = self.nominated.filter(|nominated| *nominated > epoch);
            return;
        }
        self.nominated = None;
        assert!(self.table.epoch() == epoch, "the table has the beginning");
        let mut locks = Locks::default();
        let mut doubts = BTreeMap::new();
        for prepared in self.table.prepared() {
            let transaction = prepared.attempt.transaction;
            let taken = locks.take(transaction, &prepared.work.locks);
            let sound = taken.is_ok() || planted(Plant::PreparedDataReadable);
            assert!(sound, "promises never contradict each other");
            // An older leader may have asked already, but nobody knows when.
            let before = doubts.insert(transaction, Doubt { since_ns: now_ns, ask_at_ns: now_ns, asked: 0 });
            assert!(before.is_none(), "one promise of a transaction");
        }
        assert!(locks.holders() == doubts.len(), "promises, and nothing else, hold locks at the beginning");
        self.leading =
            Some(Leading { epoch, locks, reads: Reads::default(), appending: BTreeMap::new(), doubts });
    }

    /// The leader's part once its own record is applied: what it says from here on stands in the log.
    fn applied(
        &mut self,
        attempt: Attempt,
        appending: Appending,
        effect: &Effect,
        now_ns: u64,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        let leading = self.leading.as_mut().expect("only a leader waits for its records");
        let transaction = attempt.transaction;
        let coordinator = transaction.coordinator;
        match (appending, effect) {
            (Appending::Prepare { abort }, Effect::Prepared { .. }) => {
                let ask_at_ns = now_ns + ms(self.config.inquire_ms);
                let before =
                    leading.doubts.insert(transaction, Doubt { since_ns: now_ns, ask_at_ns, asked: 0 });
                assert!(before.is_none(), "one promise of a transaction");
                self.counters.prepared += 1;
                if abort {
                    return leading.append_finish(attempt, false, false, out);
                }
                let vote = Body::Vote { epoch: leading.epoch, vote: Vote::Yes };
                out.send(coordinator, Message { attempt, body: vote });
            }
            (Appending::Finish, Effect::Finished { answer, .. }) => {
                let doubt = leading.doubts.remove(&transaction);
                assert!(doubt.is_some(), "what ends was in doubt");
                leading.locks.release(transaction);
                match answer {
                    None => self.counters.aborted += 1,
                    Some(answer) => {
                        self.counters.committed += 1;
                        let body = Body::Applied { answer: Some(answer.clone()) };
                        out.send(coordinator, Message { attempt, body });
                    }
                }
            }
            (Appending::Once, Effect::Ran { answer, .. }) => {
                let known =
                    self.table.finished_of(transaction).is_some() || self.table.is_forgotten(transaction);
                assert!(known, "what was run is remembered, or so old that it is refused");
                self.counters.ran_once += 1;
                leading.locks.release(transaction);
                let body = Body::Applied { answer: Some(answer.clone()) };
                out.send(coordinator, Message { attempt, body });
            }
            (Appending::Refuse { to, why }, Effect::Refused { .. }) => {
                assert!(
                    self.table.is_over(attempt) || planted(Plant::LateCommitAccepted),
                    "and stays refused"
                );
                let epoch = leading.epoch;
                let body = match why {
                    Some(why) => Body::Vote { epoch, vote: Vote::No { why } },
                    None => Body::Outcome { commit: false },
                };
                out.send(to, Message { attempt, body });
            }
            (_, Effect::Void) => self.came_to_nothing(transaction),
            (appending, effect) => {
                unreachable!("{appending:?} came to {effect:?}: one record at a time of a transaction")
            }
        }
    }

    /// So many others ended meanwhile that this one counts as forgotten, or other coordinators took the last places. Whoever asks again is told so.
    fn came_to_nothing(&mut self, transaction: TransactionId) {
        assert!(
            self.table.is_forgotten(transaction) || !self.table.has_room_for(transaction.coordinator),
            "a leader appends only what is not over"
        );
        self.leading.as_mut().expect("only a leader waits for its records").locks.release(transaction);
        self.counters.stale += 1;
    }

    fn tick(&mut self, now_ns: u64, out: &mut impl Outlet<ParticipantRecord>) {
        let Some(leading) = &mut self.leading else { return };
        let inquire_ns = ms(self.config.inquire_ms);
        let mut given_up = Vec::new();
        for (transaction, doubt) in &mut leading.doubts {
            if doubt.ask_at_ns > now_ns {
                continue;
            }
            let prepared = self.table.prepared_of(*transaction).expect("only promises are in doubt");
            let attempt = prepared.attempt;
            doubt.ask_at_ns = now_ns + inquire_ns;
            doubt.asked = doubt.asked.saturating_add(1);
            assert!(doubt.ask_at_ns > now_ns, "it is not asked twice at once");
            self.counters.inquiries += 1;
            out.send(transaction.coordinator, Message { attempt, body: Body::Inquire });
            if doubt.asked > 1 {
                // The coordinator did not answer; the others may know.
                for writer in prepared.writers.iter().filter(|writer| **writer != self.config.group) {
                    out.send(*writer, Message { attempt, body: Body::Inquire });
                }
            }
            if planted(Plant::LocksFreedOnTimeout) && doubt.asked > 2 {
                given_up.push(attempt);
            }
        }
        for attempt in given_up {
            leading.append_finish(attempt, false, false, out);
        }
        self.counters.reads_expired += leading.expire_reads(now_ns);
    }

    /// Panics if the leader's part and the table contradict each other. O(1).
    pub fn assert_invariants(&self) {
        let Some(leading) = &self.leading else { return };
        assert!(leading.epoch == self.table.epoch(), "who leads leads the log's newest epoch");
        assert!(
            leading.doubts.len() == self.table.prepared_len(),
            "every promise is in doubt, and nothing else"
        );
        leading.reads.assert_invariants(self.config.max_transactions);
        assert!(leading.appending.len() <= 2 * self.config.max_transactions, "what is appended is limited");
        let may_hold = leading.doubts.len() + leading.reads.holding_len() + leading.appending.len();
        assert!(leading.locks.holders() <= may_hold, "only what is under way holds locks");
    }
}

impl Leading {
    /// Appends an outcome, unless one is on its way.
    fn append_finish(
        &mut self,
        attempt: Attempt,
        commit: bool,
        by_hand: bool,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        if self.appending.contains_key(&attempt.transaction) {
            return;
        }
        self.appending.insert(attempt.transaction, (attempt, Appending::Finish));
        let body = ParticipantBody::Finish { attempt, commit, by_hand };
        out.append(ParticipantRecord { epoch: self.epoch, body });
    }

    /// Appends a refusal and tells it once it is in the log.
    fn append_refuse(
        &mut self,
        attempt: Attempt,
        to: GroupId,
        why: Option<Refusal>,
        out: &mut impl Outlet<ParticipantRecord>,
    ) {
        assert!(!self.appending.contains_key(&attempt.transaction), "one record at a time of a transaction");
        self.appending.insert(attempt.transaction, (attempt, Appending::Refuse { to, why }));
        out.append(ParticipantRecord { epoch: self.epoch, body: ParticipantBody::Refuse { attempt } });
    }
}

/// Why nothing was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResolveError {
    /// Another replica leads.
    NotLeader,
    /// The transaction is not in doubt here.
    NotInDoubt,
    /// Its outcome was told, or decided by hand, and is on its way into the log.
    OutcomeOnItsWay,
}

impl core::fmt::Display for ResolveError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ResolveError::NotLeader => "this replica does not lead; nothing has changed",
            ResolveError::NotInDoubt => "the transaction is not in doubt here; nothing has changed",
            ResolveError::OutcomeOnItsWay => {
                "the transaction's outcome is on its way into the log; nothing has changed"
            }
        })
    }
}

impl core::error::Error for ResolveError {}
