//! A ledger over a store: what a service calls.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use super::ledger::{Begun, Config, Ledger, Opened, Refused};
use super::record::{Answer, Base, Ended, Record};
use super::store::Store;
use super::ticket::{Fingerprint, Ticket};
use crate::plant::{Plant, planted};

/// Runs operations once. Effects are bytes here: the caller makes them, applies them when they are durable, and applies them again at
/// recovery.
///
/// ```text
/// begin ─▶ New ─▶ (decide) ─▶ append(answer, effect) ─▶ sync ─▶ durable ─▶ apply, answer, tell the waiters
///      └─▶ Done(answer), Waits, Refused
/// ```
#[derive(Debug)]
pub struct Once<S, W> {
    ledger: Ledger<W>,
    store: S,
    /// What is appended and not yet durable, by position.
    pending: VecDeque<(u64, Option<Ticket>, Answer)>,
    /// The store has failed: nothing is begun or appended any more.
    stopped: bool,
}

/// An operation whose effect and answer are durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished<W> {
    /// Which, if it had a ticket.
    pub ticket: Option<Ticket>,
    /// Its answer.
    pub answer: Answer,
    /// Duplicates to be told the same.
    pub waiters: Vec<W>,
}

/// What recovery finds, for the caller to apply, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replayed<'a> {
    /// The caller's state at the last compaction.
    State(&'a [u8]),
    /// An effect after it.
    Effect(&'a [u8]),
}

/// Why something was not stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OnceError<E> {
    /// The store failed: what was being stored may be there or not. Stop, and recover.
    Store(E),
    /// The store does not take it, and is as it was. Nothing was done: the ticket is in flight as before, to be ended by a shorter answer or
    /// abandoned.
    Rejected(E),
    /// The store failed before. Nothing was done.
    Stopped,
    /// The ledger refused. Nothing was done.
    Refused(Refused),
}

impl<E: fmt::Display> fmt::Display for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnceError::Store(error) => write!(f, "may be stored or not: {error}"),
            OnceError::Rejected(error) => write!(f, "not stored, and nothing has changed: {error}"),
            OnceError::Stopped => f.write_str("nothing was done: the store has failed before"),
            OnceError::Refused(refused) => refused.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for OnceError<E> {}

impl<S: Store, W> Once<S, W> {
    /// Recovers from what the store holds; gives effects and state to `apply`.
    pub fn recover(
        config: Config,
        store: S,
        records: impl IntoIterator<Item = Record>,
        mut apply: impl FnMut(Replayed<'_>),
    ) -> Once<S, W> {
        let mut ledger = Ledger::new(config);
        for record in records {
            ledger.replay(&record);
            match &record {
                Record::Effect { effect, .. } if !effect.is_empty() => apply(Replayed::Effect(effect)),
                Record::Base(Base { state, .. }) => apply(Replayed::State(state)),
                Record::Effect { .. } | Record::Opened { .. } | Record::Session { .. } => {}
            }
        }
        ledger.recovered();
        Once { ledger, store, pending: VecDeque::new(), stopped: false }
    }

    /// A request with a ticket has come; see [`Ledger::begin`].
    ///
    /// # Errors
    /// [`Refused`]. With [`Refused::Stopped`] after the store has failed: what would be run could not be stored, and what is known may be
    /// ahead of what is.
    pub fn begin(
        &mut self,
        ticket: Ticket,
        fingerprint: Fingerprint,
        waiter: W,
        now_ms: u64,
    ) -> Result<Begun, Refused> {
        if self.stopped {
            return Err(Refused::Stopped);
        }
        self.ledger.begin(ticket, fingerprint, waiter, now_ms)
    }

    /// An operation has been decided: its effect, its answer and the end of its ticket become one record. Nothing may be answered before
    /// [`Once::durable`] says so. Returns the record's position.
    ///
    /// # Errors
    /// [`OnceError`].
    ///
    /// # Panics
    /// If the ticket was not begun.
    pub fn append(
        &mut self,
        ticket: Option<Ticket>,
        answer: Answer,
        effect: Vec<u8>,
    ) -> Result<u64, OnceError<S::Error>> {
        let ended = ticket.map(|ticket| self.ended(ticket, answer.clone()));
        assert!(
            ended.is_some() == ticket.is_some(),
            "who has a ticket is told the same again, and nobody else"
        );
        let ended = if planted(Plant::ResultAfterEffect) { None } else { ended };
        let position = self.store(&Record::Effect { ended, effect })?;
        let last = self.pending.back().map_or(0, |pending| pending.0);
        assert!(position > last, "positions grow");
        self.pending.push_back((position, ticket, answer));
        assert!(!self.stopped, "a store that has failed takes nothing");
        Ok(position)
    }

    fn ended(&self, ticket: Ticket, answer: Answer) -> Ended {
        let fingerprint = self.ledger.fingerprint(ticket).expect("only what was begun is appended");
        Ended { ticket, fingerprint, answer, at_ms: self.ledger.now_ms() }
    }

    /// The store has failed so: it stops, unless nothing has changed.
    fn failed(&mut self, error: S::Error) -> OnceError<S::Error> {
        if S::is_intact(&error) {
            return OnceError::Rejected(error);
        }
        self.stopped = true;
        OnceError::Store(error)
    }

    fn store(&mut self, record: &Record) -> Result<u64, OnceError<S::Error>> {
        if self.stopped {
            return Err(OnceError::Stopped);
        }
        self.store.append(record).map_err(|error| self.failed(error))
    }

    /// Everything up to this position is durable: returns what has ended by that, to be applied and answered, in order.
    ///
    /// # Errors
    /// None but with a bug planted.
    pub fn durable(&mut self, upto: u64) -> Result<Vec<Finished<W>>, OnceError<S::Error>> {
        let mut finished = Vec::new();
        while self.pending.front().is_some_and(|pending| pending.0 <= upto) {
            let (_, ticket, answer) = self.pending.pop_front().expect("there is one");
            if planted(Plant::ResultAfterEffect)
                && let Some(ticket) = ticket
            {
                let ended = Some(self.ended(ticket, answer.clone()));
                self.store(&Record::Effect { ended, effect: Vec::new() })?;
            }
            let waiters = ticket.map_or_else(Vec::new, |ticket| self.ledger.end(ticket, answer.clone()));
            finished.push(Finished { ticket, answer, waiters });
        }
        assert!(
            self.pending.len() <= self.ledger.in_flight()
                || self.pending.iter().any(|pending| pending.1.is_none()),
            "a ticket is in flight until its end is durable"
        );
        assert!(self.pending.front().is_none_or(|pending| pending.0 > upto), "what is durable has ended");
        Ok(finished)
    }

    /// Asks the store to sync, and returns what has ended by that.
    ///
    /// # Errors
    /// [`OnceError`].
    pub fn sync(&mut self) -> Result<Vec<Finished<W>>, OnceError<S::Error>> {
        if self.stopped {
            return Err(OnceError::Stopped);
        }
        match self.store.sync() {
            Ok(upto) => self.durable(upto),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// [`Once::append`] and [`Once::sync`]: for a store that is durable when it returns.
    ///
    /// # Errors
    /// [`OnceError`].
    pub fn commit(
        &mut self,
        ticket: Option<Ticket>,
        answer: Answer,
        effect: Vec<u8>,
    ) -> Result<Vec<Finished<W>>, OnceError<S::Error>> {
        self.append(ticket, answer, effect)?;
        self.sync()
    }

    /// Opens a session. Returns its number, which may be given out once its record is durable, and the record's position.
    ///
    /// # Errors
    /// [`OnceError`]; refused if no session can give way.
    pub fn open(&mut self, now_ms: u64) -> Result<(u64, u64), OnceError<S::Error>> {
        if self.stopped {
            return Err(OnceError::Stopped);
        }
        let Opened { session, dropped } = self.ledger.open(now_ms).map_err(OnceError::Refused)?;
        let stored = self.store(&Record::Opened { session, at_ms: self.ledger.now_ms(), dropped });
        // The ledger has the session, and the log not who gave way.
        self.stopped |= stored.is_err();
        let position = stored?;
        Ok((session, position))
    }

    /// Begins a new log with this state and all that is remembered.
    ///
    /// # Errors
    /// [`OnceError`]. A state that the store does not take ([`OnceError::Rejected`], for `FileStore` one of more than
    /// `RECORD_BYTES_MAX`) leaves the old log, which serves on and grows.
    ///
    /// # Panics
    /// If something is appended and not yet durable: the state could not have it.
    pub fn compact(&mut self, state: Vec<u8>) -> Result<(), OnceError<S::Error>> {
        assert!(self.pending.is_empty(), "everything appended is durable, and in the state");
        if self.stopped {
            return Err(OnceError::Stopped);
        }
        let records: Vec<Record> = self.ledger.records(state).collect();
        assert!(matches!(records.first(), Some(Record::Base(_))), "a log begins with its base");
        self.store.replace(&mut records.into_iter()).map_err(|error| self.failed(error))
    }

    /// The tickets.
    #[must_use]
    pub fn ledger(&self) -> &Ledger<W> {
        &self.ledger
    }

    /// The tickets, to abandon, give up, or acknowledge.
    pub fn ledger_mut(&mut self) -> &mut Ledger<W> {
        &mut self.ledger
    }

    /// The store.
    #[must_use]
    pub fn store_ref(&self) -> &S {
        &self.store
    }

    /// The store, for a driver that moves its bytes.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }
}
