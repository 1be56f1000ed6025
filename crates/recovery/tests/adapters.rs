//! The async functions and the layers, on tokio's paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use keypact_recovery::circuit_breaker::{Called, Config, Outcome, SharedBreaker, State, WindowKind};
use keypact_recovery::idempotency::{self, Answer, Fingerprint, Refused, Ticket, Token};
use keypact_recovery::retry::{BudgetConfig, Failure, GiveUp, Jitter, Policy};
use keypact_recovery::tokio::{Flights, Grounded, Retrying, SharedBudget, guarded, retry};
use keypact_recovery::tower::{BreakerLayer, OnceLayer, RetryLayer, Retryable, Ticketed};
use tower_layer::Layer;
use tower_service::Service;

fn policy() -> Policy {
    let jitter = Jitter::Added { jitter_ns: 0 };
    Policy { base_ns: 100_000_000, max_ns: 1_000_000_000, jitter, retries_max: 3, deadline_ns: None }
}

/// Fails so often, then succeeds.
#[derive(Clone)]
struct Flaky {
    left: Arc<AtomicU32>,
    calls: Arc<AtomicU32>,
}

impl Flaky {
    fn new(failures: u32) -> Flaky {
        Flaky { left: Arc::new(AtomicU32::new(failures)), calls: Arc::new(AtomicU32::new(0)) }
    }

    async fn answer(self) -> Result<Answer, &'static str> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 { Err("no") } else { Ok(None) }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Request(u128);

impl Ticketed for Request {
    fn ticket(&self) -> Option<(Ticket, Fingerprint)> {
        Some((Ticket::Free(Token::new(1_000, self.0)), Fingerprint(self.0)))
    }
}

impl Service<Request> for Flaky {
    type Response = Answer;
    type Error = &'static str;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Answer, &'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        Box::pin(self.clone().answer())
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_by_the_policy() {
    let flaky = Flaky::new(2);
    let begun = tokio::time::Instant::now();
    let retrying = Retrying { policy: &policy(), budget: None, token: false, random: || 0 };
    assert_eq!(retry(retrying, || flaky.clone().answer(), |_| Failure::NotApplied).await, Ok(None));
    assert_eq!((flaky.calls(), begun.elapsed().as_millis()), (3, 330));
}

#[tokio::test(start_paused = true)]
async fn a_shared_budget_ends_retries_early() {
    let flaky = Flaky::new(99);
    let budget = SharedBudget::new(BudgetConfig { ratio_ppm: 1_000_000, minimum_per_s: 0, capacity: 10 });
    let retrying = Retrying { policy: &policy(), budget: Some(&budget), token: true, random: || 0 };
    let gave_up = retry(retrying, || flaky.clone().answer(), |_| Failure::Uncertain).await;
    let gave_up = gave_up.expect_err("it never succeeds");
    assert_eq!((gave_up.why, gave_up.retries, flaky.calls()), (GiveUp::Budget, 1, 2));
}

fn breaker() -> SharedBreaker {
    let window = WindowKind::Count { calls: 2 };
    SharedBreaker::new(Config { window, minimum_calls: 2, ..Config::default() }).expect("the settings hold")
}

fn judge<T, E>(result: &Result<T, E>) -> Outcome {
    if result.is_ok() { Outcome::Success } else { Outcome::Error }
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_halfway_counts_as_ignored() {
    let (breaker, flaky) = (breaker(), Flaky::new(9));
    let call = guarded(&breaker, || flaky.clone().answer(), judge);
    assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err());
    assert_eq!(breaker.with(|breaker, _| breaker.counts().ignored), 1);
    for _ in 0..2 {
        assert_eq!(guarded(&breaker, || flaky.clone().answer(), judge).await, Err(Called::Failed("no")));
    }
    assert!(matches!(guarded(&breaker, || flaky.clone().answer(), judge).await, Err(Called::Rejected(_))));
    assert_eq!(flaky.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_flight_for_all_who_ask_at_once() {
    let (flights, flaky) = (Flights::new(idempotency::Config::default()), Flaky::new(0));
    let ticket = Ticket::Free(Token::new(1_000, 1));
    let run = || flights.run(ticket, Fingerprint(1), 1_000, || flaky.clone().answer());
    assert_eq!(tokio::join!(run(), run(), run()), (Ok(None), Ok(None), Ok(None)));
    assert_eq!((run().await, flaky.calls()), (Ok(None), 1));
    let other = flights.run(ticket, Fingerprint(2), 1_000, || flaky.clone().answer()).await;
    assert_eq!(other, Err(Grounded::Refused(Refused::Mismatch)));
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_a_failure_is_told() {
    let (flights, flaky) = (Flights::new(idempotency::Config::default()), Flaky::new(1));
    let ticket = Ticket::Free(Token::new(1_000, 1));
    let run = || flights.run(ticket, Fingerprint(1), 1_000, || flaky.clone().answer());
    assert_eq!(tokio::join!(run(), run()), (Err(Grounded::Failed("no")), Err(Grounded::NotApplied)));
    assert_eq!((run().await, flaky.calls()), (Ok(None), 2));
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded() {
    let config = idempotency::Config { wait_max_ms: 5, ..idempotency::Config::default() };
    let (flights, flaky) = (Flights::new(config), Flaky::new(0));
    let ticket = Ticket::Free(Token::new(1_000, 1));
    let run = || flights.run(ticket, Fingerprint(1), 1_000, || flaky.clone().answer());
    assert_eq!(tokio::join!(run(), run()), (Ok(None), Err(Grounded::StillInFlight)));
}

/// Room for one flight: whatever a lost one leaves behind, the next would be refused.
fn narrow() -> Flights {
    Flights::new(idempotency::Config { in_flight_max: 1, ..idempotency::Config::default() })
}

const UNCERTAIN: Result<Answer, Grounded<&str>> = Err(Grounded::Refused(Refused::Uncertain));

/// Guards against tickets that stay in flight for good, and against "not applied" for what may have been.
#[tokio::test(start_paused = true)]
async fn a_flight_that_is_dropped_is_uncertain_and_leaves_its_place() {
    let (flights, flaky) = (narrow(), Flaky::new(0));
    for number in 1..=3 {
        let ticket = Ticket::Free(Token::new(1_000, number));
        let run = || flights.run(ticket, Fingerprint(1), 1_000, || flaky.clone().answer());
        let dropped = tokio::time::timeout(Duration::from_millis(1), run());
        let (dropped, waited) = tokio::join!(dropped, run());
        assert!(dropped.is_err(), "its caller gave up halfway");
        assert_eq!(waited, UNCERTAIN, "who waited is told");
        assert_eq!(run().await, UNCERTAIN, "it is not run again");
    }
    assert_eq!(flaky.calls(), 3);
    let other = Ticket::Free(Token::new(1_000, 4));
    assert_eq!(flights.run(other, Fingerprint(1), 1_000, || flaky.clone().answer()).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_panics_is_uncertain_and_leaves_its_place() {
    let flights = narrow();
    for number in 1..=3 {
        let ticket = Ticket::Free(Token::new(1_000, number));
        let shared = flights.clone();
        let panics = tokio::spawn(async move {
            let operation = || async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(number > 3, "a bug");
                Err::<Answer, _>("it never gets here")
            };
            shared.run(ticket, Fingerprint(1), 1_000, operation).await
        });
        tokio::task::yield_now().await;
        let again = || flights.run(ticket, Fingerprint(1), 1_000, || async { Ok(None) });
        assert_eq!(again().await, UNCERTAIN, "who waited is told");
        assert!(panics.await.is_err_and(|error| error.is_panic()));
        assert_eq!(again().await, UNCERTAIN, "it is not run again");
    }
}

/// The same through the layer: calls that time out must not fill the ledger.
#[tokio::test(start_paused = true)]
async fn calls_dropped_through_the_layer_leave_their_place() {
    let flaky = Flaky::new(0);
    let mut service = OnceLayer::new(narrow(), || 1_000).layer(flaky.clone());
    for number in 1..=3 {
        let call = service.call(Request(number));
        assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err());
        assert_eq!(service.call(Request(number)).await, UNCERTAIN);
    }
    assert_eq!((service.call(Request(4)).await, flaky.calls()), (Ok(None), 4));
}

struct Classes;

impl Retryable<Request, Called<Grounded<&'static str>>> for Classes {
    fn has_token(&self, _: &Request) -> bool {
        true
    }

    fn classify(&self, error: &Called<Grounded<&'static str>>) -> Failure {
        match error {
            Called::Rejected(_) | Called::Failed(Grounded::Failed(_)) => Failure::NotApplied,
            Called::Failed(_) => Failure::Uncertain,
        }
    }
}

/// Retries outside, breaker inside, one run a ticket within: all three as layers.
#[tokio::test(start_paused = true)]
async fn layers_stack() {
    let flaky = Flaky::new(1);
    let flights = Flights::new(idempotency::Config::default());
    let breaker = Arc::new(SharedBreaker::new(Config::default()).expect("the settings hold"));
    let once = OnceLayer::new(flights, || 1_000).layer(flaky.clone());
    let guarded = BreakerLayer::new(breaker.clone(), judge).layer(once);
    let mut service = RetryLayer::new(policy(), None, || 0, Classes).layer(guarded);
    assert_eq!(service.call(Request(1)).await, Ok(None));
    assert_eq!(service.call(Request(1)).await, Ok(None));
    assert_eq!(flaky.calls(), 2, "one failure, one run");
    breaker.with(|breaker, now_ns| breaker.force_open(now_ns));
    let gave_up = service.call(Request(2)).await.expect_err("the breaker is open");
    assert_eq!((gave_up.why, gave_up.retries, flaky.calls()), (GiveUp::Retries, 3, 2));
}

/// Never becomes ready: a pool without connections.
#[derive(Clone)]
struct Unready(Arc<AtomicU32>);

impl Service<Request> for Unready {
    type Response = Answer;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Answer, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Err("no connection"))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// Guards against a breaker that passes `poll_ready` through, and never learns of a service that fails there.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_opens_the_breaker() {
    let (asked, breaker) = (Arc::new(AtomicU32::new(0)), Arc::new(breaker()));
    let mut service = BreakerLayer::new(breaker.clone(), judge).layer(Unready(asked.clone()));
    for _ in 0..2 {
        assert!(std::future::poll_fn(|context| service.poll_ready(context)).await.is_ok());
        assert_eq!(service.call(Request(1)).await, Err(Called::Failed("no connection")));
    }
    assert_eq!(breaker.with(|breaker, _| (breaker.state(), breaker.counts().errors)), (State::Open, 2));
    assert!(std::future::poll_fn(|context| service.poll_ready(context)).await.is_ok());
    assert!(matches!(service.call(Request(1)).await, Err(Called::Rejected(_))));
    assert_eq!(asked.load(Ordering::Relaxed), 2, "open, it is not asked");
}
