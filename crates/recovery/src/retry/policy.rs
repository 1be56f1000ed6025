//! Whether to try again.

use core::fmt;

use super::backoff::{Jitter, wait_ns};
use super::budget::Budget;
use crate::plant::{Plant, planted};
use crate::{MILLISECOND_NS, Now};

/// What a failure says about the operation's effect. Only the first is safe to repeat by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Failure {
    /// It certainly had no effect: refused, not connected, overloaded.
    NotApplied,
    /// It may have had its effect: no answer in time, connection lost after sending. Repeated only with a token.
    Uncertain,
    /// It would fail again: wrong arguments, not allowed.
    Permanent,
}

/// Why an operation is not tried again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GiveUp {
    /// The failure is permanent.
    Permanent,
    /// It may have been applied, and without a token nobody could tell.
    UncertainWithoutToken,
    /// All retries are used up.
    Retries,
    /// The next try would begin after the deadline.
    Deadline,
    /// The budget is empty: the service has trouble enough.
    Budget,
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GiveUp::Permanent => "it would fail again",
            GiveUp::UncertainWithoutToken => "it may have been applied, and carries no token",
            GiveUp::Retries => "no retries are left",
            GiveUp::Deadline => "the next try would come after the deadline",
            GiveUp::Budget => "the retry budget is empty",
        })
    }
}

impl core::error::Error for GiveUp {}

/// How one kind of operation is retried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The first wait, nanoseconds.
    pub base_ns: u64,
    /// The longest wait before jitter is added, nanoseconds.
    pub max_ns: u64,
    /// What chance does to it.
    pub jitter: Jitter,
    /// Tries after the first one, at most.
    pub retries_max: u32,
    /// No try begins later than this after the first one, nanoseconds.
    pub deadline_ns: Option<u64>,
}

impl Default for Policy {
    /// 100 ms, doubled up to 10 s, up to 100 ms added; five retries, no deadline.
    fn default() -> Self {
        Policy {
            base_ns: 100 * MILLISECOND_NS,
            max_ns: 10_000 * MILLISECOND_NS,
            jitter: Jitter::Added { jitter_ns: 100 * MILLISECOND_NS },
            retries_max: 5,
            deadline_ns: None,
        }
    }
}

/// A policy that says nothing sensible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyError {
    /// The longest wait is shorter than the first.
    MaxBelowBase,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::MaxBelowBase => f.write_str("the longest wait is shorter than the first"),
        }
    }
}

impl core::error::Error for PolicyError {}

impl Policy {
    /// Whether it is sensible.
    ///
    /// # Errors
    /// [`PolicyError`]; for settings that people wrote.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.max_ns < self.base_ns { Err(PolicyError::MaxBelowBase) } else { Ok(()) }
    }

    /// An operation whose first try begins now. `token`: whether it carries one.
    ///
    /// The time is asked for only if there is a deadline.
    #[inline]
    pub fn begin(&self, token: bool, now: impl Now) -> Retry {
        let until_ns = match self.deadline_ns {
            None => u64::MAX,
            Some(deadline_ns) => now.now_ns().saturating_add(deadline_ns),
        };
        Retry { policy: *self, token, retries: 0, previous_ns: self.base_ns, until_ns }
    }
}

/// One operation under way.
#[derive(Clone, Debug)]
pub struct Retry {
    policy: Policy,
    token: bool,
    retries: u32,
    /// The last wait, for decorrelated jitter.
    previous_ns: u64,
    /// The deadline's moment.
    until_ns: u64,
}

impl Retry {
    /// A try has failed. `random`: 64 bits, drawn anew for each call. Returns how long to wait before the next try, nanoseconds.
    ///
    /// The time is asked for at most once, and only if there is a deadline or a budget.
    ///
    /// # Errors
    /// [`GiveUp`]; nothing was taken from the budget then, and no retry was counted.
    pub fn failed(
        &mut self,
        failure: Failure,
        budget: Option<&mut Budget>,
        now: impl Now,
        random: u64,
    ) -> Result<u64, GiveUp> {
        match failure {
            Failure::Permanent => return Err(GiveUp::Permanent),
            Failure::Uncertain if !self.token && !planted(Plant::UncertainWithoutToken) => {
                return Err(GiveUp::UncertainWithoutToken);
            }
            Failure::Uncertain | Failure::NotApplied => {}
        }
        let Policy { base_ns, max_ns, jitter, retries_max, deadline_ns } = self.policy;
        if self.retries >= retries_max {
            return Err(GiveUp::Retries);
        }
        let wait_ns = wait_ns(jitter, base_ns, max_ns, self.retries, self.previous_ns, random);
        if deadline_ns.is_some() || budget.is_some() {
            let now_ns = now.now_ns();
            if now_ns.saturating_add(wait_ns) > self.until_ns {
                return Err(GiveUp::Deadline);
            }
            // Last, so that nothing is withdrawn for what is not done.
            if budget.is_some_and(|budget| !budget.withdraw(now_ns)) {
                return Err(GiveUp::Budget);
            }
        }
        let jitter_ns = if let Jitter::Added { jitter_ns } = jitter { jitter_ns } else { 0 };
        assert!(wait_ns <= max_ns.saturating_add(jitter_ns), "the longest wait is max + jitter");
        assert!(failure != Failure::Permanent, "what would fail again is not tried again");
        self.retries += 1;
        self.previous_ns = wait_ns;
        assert!(self.retries <= retries_max, "never more retries than allowed");
        Ok(wait_ns)
    }

    /// Retries granted so far.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }
}
