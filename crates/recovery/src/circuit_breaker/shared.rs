//! A breaker that threads share, and that reads the clock itself.

use core::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::breaker::{Calm, CircuitBreaker, Outcome, Permit, Rejected, State};
use super::config::{Config, ConfigError};

/// No call goes through without the lock.
const ASK: u64 = u64::MAX;

/// A circuit breaker behind a lock. While it is closed and nobody looks at durations, letting a call through takes one atomic load and no
/// lock; recording its outcome takes the lock once.
#[derive(Debug)]
pub struct SharedBreaker {
    breaker: Mutex<CircuitBreaker>,
    /// The generation whose calls go through unasked, or [`ASK`]. Written under the lock. Who reads an old one holds a permit of an earlier
    /// state, whose outcome counts for nothing.
    calm: AtomicU64,
    epoch: Instant,
}

/// Why a call has no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Called<E> {
    /// It was not made.
    Rejected(Rejected),
    /// It was made, and failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for Called<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Called::Rejected(rejected) => rejected.fmt(f),
            Called::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Called<E> {}

/// A permit that gives itself back: dropped without an outcome, the call counts as ignored.
#[derive(Debug)]
#[must_use = "the call's outcome has to be recorded"]
pub struct SharedPermit<B: AsRef<SharedBreaker>> {
    breaker: B,
    permit: Option<Permit>,
}

impl AsRef<SharedBreaker> for SharedBreaker {
    fn as_ref(&self) -> &SharedBreaker {
        self
    }
}

impl<B: AsRef<SharedBreaker>> SharedPermit<B> {
    /// The call has ended so.
    #[inline]
    pub fn record(mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            self.breaker.as_ref().end(permit, outcome);
        }
    }
}

impl<B: AsRef<SharedBreaker>> Drop for SharedPermit<B> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.as_ref().end(permit, Outcome::Ignored);
        }
    }
}

impl SharedBreaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`ConfigError`] if no breaker can have these settings.
    pub fn new(config: Config) -> Result<SharedBreaker, ConfigError> {
        let breaker = CircuitBreaker::new(config)?;
        let calm = AtomicU64::new(breaker.calm_generation().unwrap_or(ASK));
        Ok(SharedBreaker { breaker: Mutex::new(breaker), calm, epoch: Instant::now() })
    }

    /// Makes a call if it may be made. Every `Err` counts as an error; to tell them apart use [`SharedBreaker::admit`].
    ///
    /// # Errors
    /// [`Called`].
    #[inline]
    pub fn call<T, E>(&self, operation: impl FnOnce() -> Result<T, E>) -> Result<T, Called<E>> {
        let permit = self.begin().map_err(Called::Rejected)?;
        let guard = SharedPermit { breaker: self, permit: Some(permit) };
        match operation() {
            Ok(value) => {
                guard.record(Outcome::Success);
                Ok(value)
            }
            Err(error) => {
                guard.record(Outcome::Error);
                Err(Called::Failed(error))
            }
        }
    }

    /// May a call be made now?
    ///
    /// # Errors
    /// [`Rejected`]: it must not be made.
    pub fn admit(&self) -> Result<SharedPermit<&SharedBreaker>, Rejected> {
        Ok(SharedPermit { breaker: self, permit: Some(self.begin()?) })
    }

    #[inline]
    fn begin(&self) -> Result<Permit, Rejected> {
        let calm = self.calm.load(Ordering::Acquire);
        if calm != ASK {
            return Ok(Permit::closed(calm));
        }
        let mut breaker = self.lock();
        let result = breaker.admit(|| self.now_ns());
        assert!(result.is_err() || breaker.state() != State::Open, "an open breaker lets nobody through");
        self.publish(&breaker);
        result
    }

    #[inline]
    fn end(&self, permit: Permit, outcome: Outcome) {
        let mut breaker = self.lock();
        // In the calm the generation stays, so there is nothing to publish.
        match breaker.record_calm(&permit, outcome) {
            Some(Calm::Goes) => {}
            ended => self.end_otherwise(breaker, permit, outcome, ended),
        }
    }

    #[inline(never)]
    fn end_otherwise(
        &self,
        mut breaker: MutexGuard<'_, CircuitBreaker>,
        permit: Permit,
        outcome: Outcome,
        recorded: Option<Calm>,
    ) {
        match recorded {
            Some(_) => breaker.judge(self.now_ns()),
            None => breaker.record(permit, outcome, || self.now_ns()),
        }
        self.publish(&breaker);
    }

    #[inline]
    fn publish(&self, breaker: &CircuitBreaker) {
        self.calm.store(breaker.calm_generation().unwrap_or(ASK), Ordering::Release);
    }

    /// Nanoseconds since the breaker was made.
    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Looks at it, takes its events, forces it.
    pub fn with<R>(&self, look: impl FnOnce(&mut CircuitBreaker, u64) -> R) -> R {
        let mut breaker = self.lock();
        let result = look(&mut breaker, self.now_ns());
        self.publish(&breaker);
        result
    }

    /// Holds also after a panic elsewhere: no method leaves the breaker half-changed.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<B: AsRef<SharedBreaker> + Clone> SharedPermit<B> {
    /// A permit that owns its way to the breaker, as futures need.
    ///
    /// # Errors
    /// [`Rejected`]: the call must not be made.
    pub fn of(breaker: &B) -> Result<SharedPermit<B>, Rejected> {
        let permit = breaker.as_ref().begin()?;
        Ok(SharedPermit { breaker: breaker.clone(), permit: Some(permit) })
    }
}
