//! Which tickets are known, and what came of them. In memory; what makes it last is in [`super::Once`].

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::record::{Answer, Base, Ended, Record};
use super::session::Session;
use super::slot::{Slot, State};
use super::ticket::{Fingerprint, Ticket, Token};
use crate::plant::{Plant, planted};

/// Limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// A token is remembered for so long after it was made, milliseconds; a session for so long after its last use.
    pub retention_ms: u64,
    /// Answers of free tokens kept, at most.
    pub answers_max: usize,
    /// Operations in flight, at most.
    pub in_flight_max: usize,
    /// Duplicates that wait for one operation, at most.
    pub waiters_max: usize,
    /// How long a duplicate waits, milliseconds.
    pub wait_max_ms: u64,
    /// How far a client's clock may be ahead, milliseconds.
    pub skew_max_ms: u64,
    /// Sessions, at most.
    pub sessions_max: usize,
    /// How far a session's numbers may run ahead of what its client has acknowledged; so many answers are kept for each.
    pub session_window: u64,
}

impl Default for Config {
    /// A day, 100,000 answers; 1,024 in flight, 16 waiters for 5 s each; 1,000 sessions of 64.
    fn default() -> Self {
        Config {
            retention_ms: 24 * 3_600 * 1_000,
            answers_max: 100_000,
            in_flight_max: 1_024,
            waiters_max: 16,
            wait_max_ms: 5_000,
            skew_max_ms: 60_000,
            sessions_max: 1_000,
            session_window: 64,
        }
    }
}

/// What to do with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Run it, and end it: nobody else does.
    New,
    /// Someone runs it. The waiter is told by [`Ledger::end`], [`Ledger::abandon`], [`Ledger::lose`] or [`Ledger::give_up`].
    Waits,
    /// It has run; answer this.
    Done(Answer),
}

/// Why a request with a ticket is not served. Nothing has changed, and it was not run now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refused {
    /// The ticket belongs to another operation.
    Mismatch,
    /// The ticket is older than what is remembered: it may have run or not, nobody here can tell.
    Forgotten,
    /// The token says that it is made in the future. Its time decides when it is forgotten, so it can't be taken.
    FromTheFuture,
    /// Enough duplicates wait for this operation already.
    TooManyWait,
    /// Too many operations are in flight. Not applied.
    TooManyInFlight,
    /// Who ran it is gone: it may have run or not, nobody here can tell.
    Uncertain,
    /// No session of this number was ever opened.
    NoSuchSession,
    /// The session was not used for too long, or gave way to others: its operations may have run or not.
    SessionForgotten,
    /// The store has failed: not run now, and nothing can be until it is recovered.
    Stopped,
    /// The number is 0, or too far ahead of what was acknowledged. Not applied.
    OutOfWindow,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Mismatch => "this token belongs to another operation; nothing was done",
            Refused::Forgotten => {
                "this token is too old to be remembered: it may have been applied or not; not run"
            }
            Refused::FromTheFuture => "this token's time is in the future: not run; set the client's clock",
            Refused::TooManyWait => {
                "too many wait for this operation already: it is in flight; ask again later"
            }
            Refused::TooManyInFlight => "too many operations are in flight: not applied; ask again later",
            Refused::Uncertain => {
                "who ran this operation is gone: it may have been applied or not; not run again"
            }
            Refused::Stopped => "the store has failed: not run now; recover it first",
            Refused::NoSuchSession => "there was never such a session: not applied; open one",
            Refused::SessionForgotten => {
                "this session was forgotten: its operations may have been applied or not; not run"
            }
            Refused::OutOfWindow => {
                "this number is outside the session's window: not applied; acknowledge first"
            }
        })
    }
}

impl core::error::Error for Refused {}

/// A session was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its number.
    pub session: u64,
    /// Those that were dropped since the one before was opened, the one that gave way to this one too: for [`Record::Opened`].
    pub dropped: Vec<u64>,
}

/// What a ledger has seen in this life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Begun anew.
    pub new: u64,
    /// Answered from memory.
    pub repeated: u64,
    /// Duplicates that waited.
    pub waited: u64,
    /// Of them, given up.
    pub waited_in_vain: u64,
    /// Fingerprints that did not match.
    pub mismatched: u64,
    /// Refused as forgotten.
    pub forgotten: u64,
    /// Answers dropped, by time or number.
    pub dropped: u64,
    /// Sessions dropped.
    pub sessions_dropped: u64,
}

/// The tickets of one service or partition. `W` is what the caller knows a waiting request by.
///
/// Times are Unix milliseconds that never fall, like the stamps of a log; replicas that apply the same calls hold the same ledger.
#[derive(Clone, Debug)]
pub struct Ledger<W> {
    config: Config,
    tokens: BTreeMap<Token, Slot<W>>,
    /// Every token up to here that is not in `tokens` may have been forgotten.
    forgotten: Option<Token>,
    /// Free tokens that have ended.
    done: usize,
    in_flight: usize,
    sessions: BTreeMap<u64, Session<W>>,
    next_session: u64,
    /// Sessions dropped since the last one was opened: no more than there were then.
    dropped: Vec<u64>,
    now_ms: u64,
    counts: Counts,
}

/// More sessions than a record may name.
const SESSIONS_MAX: usize = 1 << 20;

impl<W> Ledger<W> {
    /// An empty ledger.
    ///
    /// # Panics
    /// If a limit leaves no room for one operation, or there may be more than 2^20 sessions.
    #[must_use]
    pub fn new(config: Config) -> Ledger<W> {
        let room = config.answers_max.min(config.in_flight_max).min(config.sessions_max);
        assert!(room > 0 && config.session_window > 0, "there is room for one operation");
        assert!(config.sessions_max <= SESSIONS_MAX, "a record can name all sessions");
        Ledger {
            config,
            tokens: BTreeMap::new(),
            forgotten: None,
            done: 0,
            in_flight: 0,
            sessions: BTreeMap::new(),
            next_session: 1,
            dropped: Vec::new(),
            now_ms: 0,
            counts: Counts::default(),
        }
    }

    /// A request with a ticket has come. O(log n).
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn begin(
        &mut self,
        ticket: Ticket,
        fingerprint: Fingerprint,
        waiter: W,
        now_ms: u64,
    ) -> Result<Begun, Refused> {
        self.advance(now_ms);
        let begun = match ticket {
            Ticket::Free(token) => self.begin_free(token, fingerprint, waiter),
            Ticket::Sequenced { session, sequence } => {
                self.begin_sequenced(session, sequence, fingerprint, waiter)
            }
        };
        match &begun {
            Ok(Begun::New) => {
                self.in_flight += 1;
                self.counts.new += 1;
                assert!(self.in_flight <= self.config.in_flight_max, "operations in flight are bounded");
            }
            Ok(Begun::Done(_)) => self.counts.repeated += 1,
            Ok(Begun::Waits) => self.counts.waited += 1,
            Err(Refused::Mismatch) => self.counts.mismatched += 1,
            Err(Refused::Forgotten | Refused::SessionForgotten) => self.counts.forgotten += 1,
            Err(_) => {}
        }
        begun
    }

    fn begin_free(&mut self, token: Token, fingerprint: Fingerprint, waiter: W) -> Result<Begun, Refused> {
        let until_ms = self.now_ms.saturating_add(self.config.wait_max_ms);
        if let Some(slot) = self.tokens.get_mut(&token) {
            let was_done = slot.has_ended();
            let begun = slot.again(fingerprint, waiter, until_ms, self.config.waiters_max);
            // Only a planted bug takes a done one back.
            self.done -= usize::from(was_done && begun == Ok(Begun::New));
            return begun;
        }
        if self.is_forgotten(token) && !planted(Plant::ForgottenTakenForNew) {
            return Err(Refused::Forgotten);
        }
        if token.issued_ms() > self.now_ms.saturating_add(self.config.skew_max_ms) {
            return Err(Refused::FromTheFuture);
        }
        self.room_in_flight()?;
        self.tokens.insert(token, Slot::in_flight(fingerprint));
        Ok(Begun::New)
    }

    fn begin_sequenced(
        &mut self,
        session: u64,
        sequence: u64,
        fingerprint: Fingerprint,
        waiter: W,
    ) -> Result<Begun, Refused> {
        let until_ms = self.now_ms.saturating_add(self.config.wait_max_ms);
        let room = self.room_in_flight();
        let now_ms = self.now_ms;
        let Some(known) = self.sessions.get_mut(&session) else {
            let opened = session > 0 && session < self.next_session;
            return Err(if opened { Refused::SessionForgotten } else { Refused::NoSuchSession });
        };
        if let Some(slot) = known.slots.get_mut(&sequence) {
            let begun = slot.again(fingerprint, waiter, until_ms, self.config.waiters_max)?;
            known.used_ms = now_ms;
            return Ok(begun);
        }
        if sequence <= known.floor && sequence > 0 {
            return Err(Refused::Forgotten);
        }
        if sequence == 0 || sequence - known.floor > self.config.session_window {
            return Err(Refused::OutOfWindow);
        }
        room?;
        known.used_ms = now_ms;
        known.slots.insert(sequence, Slot::in_flight(fingerprint));
        Ok(Begun::New)
    }

    fn room_in_flight(&self) -> Result<(), Refused> {
        if self.in_flight < self.config.in_flight_max { Ok(()) } else { Err(Refused::TooManyInFlight) }
    }

    fn is_forgotten(&self, token: Token) -> bool {
        let expired = token.issued_ms().saturating_add(self.config.retention_ms) < self.now_ms;
        expired || self.forgotten.is_some_and(|upto| token <= upto)
    }

    /// An operation that was [`Begun::New`] has had its effect, and both are durable. Returns who waited.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn end(&mut self, ticket: Ticket, answer: Answer) -> Vec<W> {
        self.land(ticket, State::Done(answer))
    }

    /// Who ran an operation that was [`Begun::New`] is gone, and nobody knows whether it had its effect. Its ticket is refused as
    /// [`Refused::Uncertain`] for as long as an answer would have been kept: it must not run twice, and takes no place in flight. Returns
    /// who waited; tell them the same. Not for a ticket of [`super::Once`], whose store knows.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn lose(&mut self, ticket: Ticket) -> Vec<W> {
        self.land(ticket, State::Lost)
    }

    fn land(&mut self, ticket: Ticket, state: State<W>) -> Vec<W> {
        let slot = self.slot_mut(ticket).expect("what ends was begun");
        let waiters = slot.end(state);
        assert!(self.in_flight > 0, "what ends was in flight");
        self.in_flight -= 1;
        if matches!(ticket, Ticket::Free(_)) {
            self.done += 1;
            self.drop_old();
        }
        waiters
    }

    /// An operation that was [`Begun::New`] had no effect, and never will: its ticket is new again. Returns who waited; tell them that it
    /// was not applied.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn abandon(&mut self, ticket: Ticket) -> Vec<W> {
        let slot = match ticket {
            Ticket::Free(token) => self.tokens.remove(&token),
            Ticket::Sequenced { session, sequence } => {
                self.sessions.get_mut(&session).and_then(|session| session.slots.remove(&sequence))
            }
        };
        let Some(Slot { state: State::InFlight { waiters }, .. }) = slot else {
            panic!("what is abandoned was in flight");
        };
        assert!(self.in_flight > 0, "what is abandoned was counted");
        self.in_flight -= 1;
        waiters.into_iter().map(|(waiter, _)| waiter).collect()
    }

    /// Who has waited for too long; tell them that the operation is still in flight. Also drops what is too old. O(in flight + dropped).
    pub fn give_up(&mut self, now_ms: u64) -> Vec<W> {
        self.advance(now_ms);
        let mut given_up = Vec::new();
        if self.in_flight > 0 {
            let sequenced = self.sessions.values_mut().flat_map(|session| session.slots.values_mut());
            for slot in self.tokens.values_mut().chain(sequenced) {
                slot.give_up(now_ms, &mut given_up);
            }
        }
        self.counts.waited_in_vain += given_up.len() as u64;
        assert!(self.now_ms >= now_ms, "time has gone on");
        given_up
    }

    /// Time goes on: tokens and sessions that are too old are dropped.
    fn advance(&mut self, now_ms: u64) {
        if now_ms > self.now_ms {
            self.now_ms = now_ms;
            self.drop_old();
        }
    }

    fn drop_old(&mut self) {
        while self.done > 0 {
            // Those in flight are passed over: they are few, and never dropped.
            let (token, _) = self.tokens.iter().find(|(_, slot)| slot.has_ended()).expect("some are done");
            let token = *token;
            let expired = token.issued_ms().saturating_add(self.config.retention_ms) < self.now_ms;
            if !expired && self.done <= self.config.answers_max {
                break;
            }
            self.tokens.remove(&token);
            self.done -= 1;
            self.counts.dropped += 1;
            self.forgotten = self.forgotten.max(Some(token));
        }
        assert!(self.done <= self.config.answers_max, "answers are bounded");
    }

    fn slot_mut(&mut self, ticket: Ticket) -> Option<&mut Slot<W>> {
        match ticket {
            Ticket::Free(token) => self.tokens.get_mut(&token),
            Ticket::Sequenced { session, sequence } => {
                self.sessions.get_mut(&session)?.slots.get_mut(&sequence)
            }
        }
    }

    /// Opens a session. Its client may use it once [`Record::Opened`] is durable. If there are too many, the one unused for longest without
    /// anything in flight gives way. O(sessions) then, else O(log sessions).
    ///
    /// # Errors
    /// [`Refused::TooManyInFlight`] if all are busy.
    pub fn open(&mut self, now_ms: u64) -> Result<Opened, Refused> {
        self.advance(now_ms);
        if self.sessions.len() >= self.config.sessions_max {
            self.drop_session()?;
        }
        let session = self.next_session;
        self.next_session += 1;
        let before = self.sessions.insert(session, Session::new(0, self.now_ms));
        assert!(before.is_none(), "numbers of sessions are used once");
        assert!(self.sessions.len() <= self.config.sessions_max, "sessions are bounded");
        Ok(Opened { session, dropped: core::mem::take(&mut self.dropped) })
    }

    fn drop_session(&mut self) -> Result<(), Refused> {
        let idle = self.sessions.iter().filter(|(_, session)| !session.has_in_flight());
        let oldest = idle.min_by_key(|(_, session)| session.used_ms).map(|(number, _)| *number);
        let number = oldest.ok_or(Refused::TooManyInFlight)?;
        let dropped = self.sessions.remove(&number);
        assert!(
            dropped.is_some_and(|session| !session.has_in_flight()),
            "what is in flight keeps its session"
        );
        self.note_dropped(number);
        Ok(())
    }

    fn note_dropped(&mut self, session: u64) {
        assert!(!self.sessions.contains_key(&session), "what is noted as dropped is gone");
        self.dropped.push(session);
        assert!(self.dropped.len() <= SESSIONS_MAX, "no more are dropped than there were");
        self.counts.sessions_dropped += 1;
    }

    /// Drops sessions that were not used for the retention. O(sessions).
    pub fn drop_idle_sessions(&mut self, now_ms: u64) {
        self.advance(now_ms);
        let (now_ms, retention_ms) = (self.now_ms, self.config.retention_ms);
        let is_idle = |session: &mut Session<W>| {
            session.used_ms.saturating_add(retention_ms) < now_ms && !session.has_in_flight()
        };
        let idle: Vec<u64> =
            self.sessions.extract_if(.., |_, session| is_idle(session)).map(|(number, _)| number).collect();
        idle.into_iter().for_each(|session| self.note_dropped(session));
    }

    /// The client of a session has the answers of all its operations up to this one; they are dropped.
    ///
    /// # Errors
    /// [`Refused::NoSuchSession`] or [`Refused::SessionForgotten`].
    pub fn acknowledge(&mut self, session: u64, through: u64) -> Result<(), Refused> {
        let opened = session > 0 && session < self.next_session;
        let refused = if opened { Refused::SessionForgotten } else { Refused::NoSuchSession };
        let window = self.config.session_window;
        let known = self.sessions.get_mut(&session).ok_or(refused)?;
        // Nobody has answers to what could not have been asked.
        let floor = known.floor;
        known.acknowledge(through.min(known.floor + window));
        assert!((floor..=floor + window).contains(&known.floor), "a floor rises, by a window at most");
        Ok(())
    }

    /// Takes a record in, at recovery; [`Ledger::recovered`] follows the last.
    ///
    /// # Panics
    /// If something is in flight: then it is no recovery.
    pub fn replay(&mut self, record: &Record) {
        assert!(self.in_flight == 0, "recovery comes first");
        match record {
            Record::Effect { ended: Some(ended), .. } => self.replay_ended(ended),
            Record::Effect { ended: None, .. } => {}
            Record::Opened { session, at_ms, dropped } => {
                self.now_ms = self.now_ms.max(*at_ms);
                dropped.iter().for_each(|session| drop(self.sessions.remove(session)));
                self.replay_session(*session, Session::new(0, *at_ms));
            }
            Record::Base(Base { forgotten, next_session, now_ms, .. }) => {
                self.forgotten = self.forgotten.max(*forgotten);
                self.next_session = self.next_session.max(*next_session);
                self.now_ms = self.now_ms.max(*now_ms);
            }
            Record::Session { session, floor, used_ms } => {
                self.replay_session(*session, Session::new(*floor, *used_ms));
            }
        }
    }

    fn replay_session(&mut self, number: u64, session: Session<W>) {
        self.next_session = self.next_session.max(number.saturating_add(1));
        self.sessions.insert(number, session);
    }

    /// After the last record: who was dropped under the same limit stands in the records; if it was lowered, those unused for longest are
    /// dropped now. O(sessions) for each.
    pub fn recovered(&mut self) {
        assert!(self.in_flight == 0, "recovery comes first");
        while self.sessions.len() > self.config.sessions_max {
            self.drop_session().expect("nothing is in flight");
        }
        self.assert_invariants();
    }

    fn replay_ended(&mut self, ended: &Ended) {
        let slot = Slot { fingerprint: ended.fingerprint, state: State::Done(ended.answer.clone()) };
        self.now_ms = self.now_ms.max(ended.at_ms);
        match ended.ticket {
            Ticket::Free(token) => {
                self.done += usize::from(self.tokens.insert(token, slot).is_none());
                self.drop_old();
            }
            Ticket::Sequenced { session, sequence } => {
                // A session that had given way before the crash stays away.
                if let Some(session) = self.sessions.get_mut(&session)
                    && sequence > session.floor
                {
                    session.used_ms = session.used_ms.max(ended.at_ms);
                    session.slots.insert(sequence, slot);
                    // Acknowledgements are not logged; the window is what bounds a session.
                    let through = sequence.saturating_sub(self.config.session_window);
                    session.acknowledge(through);
                }
            }
        }
    }

    /// All that a new log has to begin with, for compaction: [`Record::Base`] with this state, sessions, answers.
    pub fn records(&self, state: Vec<u8>) -> impl Iterator<Item = Record> {
        let (forgotten, next_session, now_ms) = (self.forgotten, self.next_session, self.now_ms);
        let base = Record::Base(Base { forgotten, next_session, now_ms, state });
        let sessions = self.sessions.iter().map(|(number, session)| Record::Session {
            session: *number,
            floor: session.floor,
            used_ms: session.used_ms,
        });
        let free = self.tokens.iter().map(move |(token, slot)| (Ticket::Free(*token), slot, now_ms));
        let sequenced = self.sessions.iter().flat_map(|(number, session)| {
            let (session_number, used_ms) = (*number, session.used_ms);
            session.slots.iter().map(move |(sequence, slot)| {
                (Ticket::Sequenced { session: session_number, sequence: *sequence }, slot, used_ms)
            })
        });
        let ended = free.chain(sequenced).filter_map(|(ticket, slot, at_ms)| match &slot.state {
            State::InFlight { .. } | State::Lost => None,
            State::Done(answer) => {
                let (fingerprint, answer) = (slot.fingerprint, answer.clone());
                Some(Record::Effect {
                    ended: Some(Ended { ticket, fingerprint, answer, at_ms }),
                    effect: Vec::new(),
                })
            }
        });
        core::iter::once(base).chain(sessions).chain(ended)
    }

    /// The fingerprint with which a ticket was begun, while it is known.
    #[must_use]
    pub fn fingerprint(&self, ticket: Ticket) -> Option<Fingerprint> {
        match ticket {
            Ticket::Free(token) => self.tokens.get(&token).map(|slot| slot.fingerprint),
            Ticket::Sequenced { session, sequence } => {
                self.sessions.get(&session)?.slots.get(&sequence).map(|slot| slot.fingerprint)
            }
        }
    }

    /// The latest time seen, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Answers of free tokens that are kept.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.done
    }

    /// Operations in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What it has seen in this life.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What must hold after every call.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_invariants(&self) {
        let done = self.tokens.values().filter(|slot| slot.has_ended()).count();
        assert!(done == self.done, "answers are counted");
        assert!(self.tokens.len() <= done + self.in_flight, "a token is done or in flight");
        assert!(done <= self.config.answers_max, "answers are bounded");
        let sequenced = self.sessions.values().flat_map(|session| session.slots.values());
        let in_flight = self.tokens.values().chain(sequenced).filter(|slot| !slot.has_ended()).count();
        assert!(in_flight == self.in_flight, "what is in flight is counted");
        assert!(in_flight <= self.config.in_flight_max, "what is in flight is bounded");
        assert!(self.sessions.len() <= self.config.sessions_max, "sessions are bounded");
        for (number, session) in &self.sessions {
            assert!(*number < self.next_session, "a session was opened");
            let last = session.slots.keys().next_back().copied().unwrap_or(0);
            assert!(last.saturating_sub(session.floor) <= self.config.session_window, "windows are bounded");
        }
    }
}
