//! One ticket: in flight, done, or lost.

use alloc::vec::Vec;

use super::ledger::{Begun, Refused};
use super::record::Answer;
use super::ticket::Fingerprint;
use crate::plant::{Plant, planted};

/// What is known of a ticket.
#[derive(Clone, Debug)]
pub(super) struct Slot<W> {
    pub(super) fingerprint: Fingerprint,
    pub(super) state: State<W>,
}

#[derive(Clone, Debug)]
pub(super) enum State<W> {
    /// Someone runs it; duplicates wait, each with the time at which it is given up, Unix milliseconds.
    InFlight { waiters: Vec<(W, u64)> },
    /// It has run.
    Done(Answer),
    /// Who ran it is gone, and nobody knows how far it came.
    Lost,
}

impl<W> Slot<W> {
    pub(super) fn in_flight(fingerprint: Fingerprint) -> Slot<W> {
        Slot { fingerprint, state: State::InFlight { waiters: Vec::new() } }
    }

    /// Done or lost: nobody runs it any more.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.state, State::InFlight { .. })
    }

    /// The ticket is shown again.
    pub(super) fn again(
        &mut self,
        fingerprint: Fingerprint,
        waiter: W,
        until_ms: u64,
        waiters_max: usize,
    ) -> Result<Begun, Refused> {
        if self.fingerprint != fingerprint && !planted(Plant::FingerprintIgnored) {
            return Err(Refused::Mismatch);
        }
        match &mut self.state {
            State::Done(answer) => {
                let falsy = answer.as_deref().is_none_or(|bytes| bytes.is_empty() || bytes == b"0");
                if falsy && planted(Plant::FalsyRunAgain) {
                    self.state = State::InFlight { waiters: Vec::new() };
                    return Ok(Begun::New);
                }
                Ok(Begun::Done(answer.clone()))
            }
            State::Lost => Err(Refused::Uncertain),
            State::InFlight { waiters } => {
                if waiters.len() >= waiters_max {
                    return Err(Refused::TooManyWait);
                }
                waiters.push((waiter, until_ms));
                assert!(waiters.len() <= waiters_max, "who waits is bounded");
                Ok(Begun::Waits)
            }
        }
    }

    /// It has ended; returns who waited for it.
    pub(super) fn end(&mut self, state: State<W>) -> Vec<W> {
        assert!(!matches!(state, State::InFlight { .. }), "an end is no flight");
        match core::mem::replace(&mut self.state, state) {
            State::InFlight { waiters } => waiters.into_iter().map(|(waiter, _)| waiter).collect(),
            State::Done(_) | State::Lost => unreachable!("an operation ends once"),
        }
    }

    /// Takes those who have waited long enough.
    pub(super) fn give_up(&mut self, now_ms: u64, given_up: &mut Vec<W>) {
        if let State::InFlight { waiters } = &mut self.state {
            for (waiter, _) in waiters.extract_if(.., |(_, until_ms)| *until_ms <= now_ms) {
                given_up.push(waiter);
            }
        }
    }
}
