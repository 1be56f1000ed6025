//! Plain async functions: a retry loop, a call through a breaker, one flight for many callers. They read tokio's clock and use its timer.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::tokio::time::Instant;

#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::{Called, Outcome, SharedBreaker, SharedPermit};
#[cfg(feature = "idempotency")]
use crate::idempotency::{Answer, Begun, Config, Fingerprint, Ledger, Refused, Ticket};
#[cfg(feature = "retry")]
use crate::retry::{Budget, BudgetConfig, Failure, GiveUp, Policy};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an operation has not succeeded: its last error, and why it was not tried again.
#[cfg(feature = "retry")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GaveUp<E> {
    /// The last error.
    pub error: E,
    /// Why that was the last.
    pub why: GiveUp,
    /// Retries made.
    pub retries: u32,
}

#[cfg(feature = "retry")]
impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {} retries: {})", self.error, self.retries, self.why)
    }
}

#[cfg(feature = "retry")]
impl<E: fmt::Debug + fmt::Display> core::error::Error for GaveUp<E> {}

/// A budget that tasks share, with its own clock.
#[cfg(feature = "retry")]
#[derive(Debug)]
pub struct SharedBudget {
    budget: Mutex<Budget>,
    epoch: Instant,
}

#[cfg(feature = "retry")]
impl SharedBudget {
    /// An empty budget.
    #[must_use]
    pub fn new(config: BudgetConfig) -> SharedBudget {
        SharedBudget { budget: Mutex::new(Budget::new(config, 0)), epoch: Instant::now() }
    }

    /// Looks at it.
    pub fn with<R>(&self, look: impl FnOnce(&mut Budget) -> R) -> R {
        look(&mut locked(&self.budget))
    }
}

/// How to retry: the policy, whose budget, and where chance comes from.
#[cfg(feature = "retry")]
#[derive(Clone, Copy, Debug)]
pub struct Retrying<'a> {
    /// Waits and limits.
    pub policy: &'a Policy,
    /// The budget that pays, if any.
    pub budget: Option<&'a SharedBudget>,
    /// Whether the operation carries a token.
    pub token: bool,
    /// Draws 64 bits for each wait.
    pub random: fn() -> u64,
}

/// Runs an operation until it succeeds or may not be tried again. `classify` says what an error means for its effect.
///
/// # Errors
/// [`GaveUp`] with the last error.
#[cfg(feature = "retry")]
pub async fn retry<T, E, F: Future<Output = Result<T, E>>>(
    retrying: Retrying<'_>,
    mut operation: impl FnMut() -> F,
    classify: impl Fn(&E) -> Failure,
) -> Result<T, GaveUp<E>> {
    // The clock's zero; read only by who needs it.
    let mut epoch = None;
    let mut now = || {
        let epoch = retrying.budget.map_or_else(|| *epoch.get_or_insert_with(Instant::now), |b| b.epoch);
        epoch.elapsed().as_nanos() as u64
    };
    let mut state = retrying.policy.begin(retrying.token, &mut now);
    if let Some(budget) = retrying.budget {
        budget.with(Budget::first_try);
    }
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let failure = classify(&error);
        let granted = {
            let mut budget = retrying.budget.map(|budget| locked(&budget.budget));
            state.failed(failure, budget.as_deref_mut(), &mut now, (retrying.random)())
        };
        match granted {
            Err(why) => return Err(GaveUp { error, why, retries: state.retries() }),
            Ok(0) => {}
            Ok(wait_ns) => ::tokio::time::sleep(Duration::from_nanos(wait_ns)).await,
        }
    }
}

/// Makes a call through a breaker. `outcome` says what a result means for the service. Dropped before its end, the call counts as ignored.
///
/// # Errors
/// [`Called`].
#[cfg(feature = "circuit-breaker")]
pub async fn guarded<T, E, F: Future<Output = Result<T, E>>>(
    breaker: &SharedBreaker,
    operation: impl FnOnce() -> F,
    outcome: impl Fn(&Result<T, E>) -> Outcome,
) -> Result<T, Called<E>> {
    let permit: SharedPermit<&SharedBreaker> = breaker.admit().map_err(Called::Rejected)?;
    let result = operation().await;
    permit.record(outcome(&result));
    result.map_err(Called::Failed)
}

/// Why a flight has no answer.
#[cfg(feature = "idempotency")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Grounded<E> {
    /// The ledger refused it. [`Refused::Uncertain`]: who ran it was dropped or panicked; it may have been applied or not.
    Refused(Refused),
    /// It was run here, and failed without effect.
    Failed(E),
    /// Another caller ran it, and it failed without effect. Not applied.
    NotApplied,
    /// It is still in flight elsewhere.
    StillInFlight,
}

#[cfg(feature = "idempotency")]
impl<E: fmt::Display> fmt::Display for Grounded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grounded::Refused(refused) => refused.fmt(f),
            Grounded::Failed(error) => error.fmt(f),
            Grounded::NotApplied => f.write_str("another caller's try had no effect: not applied"),
            Grounded::StillInFlight => f.write_str("the operation is still in flight"),
        }
    }
}

#[cfg(feature = "idempotency")]
impl<E: fmt::Debug + fmt::Display> core::error::Error for Grounded<E> {}

#[cfg(feature = "idempotency")]
type Waiting = BTreeMap<u64, ::tokio::sync::oneshot::Sender<Landed>>;

/// How a flight ended, for those who wait.
#[cfg(feature = "idempotency")]
#[derive(Clone, Debug)]
enum Landed {
    Answered(Answer),
    NotApplied,
    /// Nobody knows.
    Lost,
}

/// A flight under way. Dropped before it has landed, by a caller who gave up or by a panic, it is lost: the operation may have had its effect
/// or not, so the ticket is neither new again nor in flight for ever.
#[cfg(feature = "idempotency")]
struct Flight<'a> {
    flights: &'a Flights,
    ticket: Option<Ticket>,
}

#[cfg(feature = "idempotency")]
impl Flight<'_> {
    fn land(mut self, landed: &Landed) {
        let ticket = self.ticket.take().expect("a flight lands once");
        self.flights.land(ticket, landed);
    }
}

#[cfg(feature = "idempotency")]
impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.flights.land(ticket, &Landed::Lost);
        }
    }
}

/// A ledger in memory that tasks share: the first caller with a ticket runs the operation, the others wait for its answer.
///
/// It lasts as long as the process. Effects that outlive the process need [`crate::idempotency::Once`] over a store that does, too.
#[cfg(feature = "idempotency")]
#[derive(Clone, Debug)]
pub struct Flights {
    shared: Arc<Mutex<(Ledger<u64>, Waiting, u64)>>,
    wait_max: Duration,
}

#[cfg(feature = "idempotency")]
impl Flights {
    /// No flight yet.
    #[must_use]
    pub fn new(config: Config) -> Flights {
        let shared = (Ledger::new(config), BTreeMap::new(), 0);
        Flights { shared: Arc::new(Mutex::new(shared)), wait_max: Duration::from_millis(config.wait_max_ms) }
    }

    /// Runs the operation, waits for who runs it, or answers from memory. `now_ms`: Unix milliseconds. An `Err` of the operation means that it
    /// had no effect. If the future is dropped while it runs the operation, or the operation panics, nobody knows: who waits, and who asks
    /// again, is told [`Refused::Uncertain`], and it is not run again while that is remembered.
    ///
    /// # Errors
    /// [`Grounded`].
    pub async fn run<E, F: Future<Output = Result<Answer, E>>>(
        &self,
        ticket: Ticket,
        fingerprint: Fingerprint,
        now_ms: u64,
        operation: impl FnOnce() -> F,
    ) -> Result<Answer, Grounded<E>> {
        let receiver = {
            let mut shared = locked(&self.shared);
            let (ledger, waiting, next) = &mut *shared;
            *next += 1;
            let mut begun = ledger.begin(ticket, fingerprint, *next, now_ms);
            if begun == Err(Refused::TooManyWait) {
                // Some may have given up meanwhile.
                for number in ledger.give_up(now_ms) {
                    waiting.remove(&number);
                }
                begun = ledger.begin(ticket, fingerprint, *next, now_ms);
            }
            match begun.map_err(Grounded::Refused)? {
                Begun::Done(answer) => return Ok(answer),
                Begun::New => None,
                Begun::Waits => {
                    let (sender, receiver) = ::tokio::sync::oneshot::channel();
                    waiting.insert(*next, sender);
                    Some((receiver, *next))
                }
            }
        };
        match receiver {
            None => {
                let flight = Flight { flights: self, ticket: Some(ticket) };
                let result = operation().await;
                flight.land(&match &result {
                    Ok(answer) => Landed::Answered(answer.clone()),
                    Err(_) => Landed::NotApplied,
                });
                result.map_err(Grounded::Failed)
            }
            Some((receiver, number)) => {
                let told = ::tokio::time::timeout(self.wait_max, receiver).await;
                let left = locked(&self.shared).1.remove(&number);
                assert!(left.is_none() || told.is_err(), "who is told is no longer waiting");
                match told {
                    Ok(Ok(Landed::Answered(answer))) => Ok(answer),
                    Ok(Ok(Landed::NotApplied)) => Err(Grounded::NotApplied),
                    Ok(Ok(Landed::Lost)) => Err(Grounded::Refused(Refused::Uncertain)),
                    Ok(Err(_)) | Err(_) => Err(Grounded::StillInFlight),
                }
            }
        }
    }

    fn land(&self, ticket: Ticket, landed: &Landed) {
        let mut shared = locked(&self.shared);
        let (ledger, waiting, _) = &mut *shared;
        let waiters = match landed {
            Landed::Answered(answer) => ledger.end(ticket, answer.clone()),
            Landed::NotApplied => ledger.abandon(ticket),
            Landed::Lost => ledger.lose(ticket),
        };
        for sender in waiters.iter().filter_map(|number| waiting.remove(number)) {
            // Who no longer waits is told nothing.
            let _ = sender.send(landed.clone());
        }
    }
}
