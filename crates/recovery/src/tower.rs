//! The policies as layers of `tower`: around any service, in any order. Retries outside, breaker inside is the usual one: then each try asks
//! the breaker, and a rejected one is "not applied".

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::{Called, Outcome, SharedBreaker, SharedPermit};
#[cfg(feature = "idempotency")]
use crate::idempotency::{Answer, Fingerprint, Ticket};
#[cfg(feature = "idempotency")]
use crate::tokio::{Flights, Grounded};
#[cfg(feature = "retry")]
use crate::{
    retry::{Failure, Policy},
    tokio::{GaveUp, Retrying, SharedBudget, retry},
};

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Calls a service once it is ready.
async fn oneshot<S: Service<R>, R>(mut service: S, request: R) -> Result<S::Response, S::Error> {
    core::future::poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}

/// What retrying needs to know of requests and errors.
#[cfg(feature = "retry")]
pub trait Retryable<R, E>: Send + Sync + 'static {
    /// Whether the request carries a token.
    fn has_token(&self, request: &R) -> bool;
    /// What the error means for the request's effect.
    fn classify(&self, error: &E) -> Failure;
}

/// Retries by policy and budget.
#[cfg(feature = "retry")]
#[derive(Debug)]
pub struct RetryLayer<C> {
    policy: Policy,
    budget: Option<Arc<SharedBudget>>,
    random: fn() -> u64,
    classes: Arc<C>,
}

#[cfg(feature = "retry")]
impl<C> Clone for RetryLayer<C> {
    fn clone(&self) -> Self {
        let (budget, classes) = (self.budget.clone(), self.classes.clone());
        RetryLayer { policy: self.policy, budget, random: self.random, classes }
    }
}

#[cfg(feature = "retry")]
impl<C> RetryLayer<C> {
    /// A layer with this policy. `random` draws 64 bits.
    pub fn new(
        policy: Policy,
        budget: Option<Arc<SharedBudget>>,
        random: fn() -> u64,
        classes: C,
    ) -> RetryLayer<C> {
        RetryLayer { policy, budget, random, classes: Arc::new(classes) }
    }
}

#[cfg(feature = "retry")]
impl<S, C> Layer<S> for RetryLayer<C> {
    type Service = Retries<S, C>;

    fn layer(&self, inner: S) -> Retries<S, C> {
        Retries { inner, layer: self.clone() }
    }
}

/// A service that retries.
#[cfg(feature = "retry")]
#[derive(Debug)]
pub struct Retries<S, C> {
    inner: S,
    layer: RetryLayer<C>,
}

#[cfg(feature = "retry")]
impl<S: Clone, C> Clone for Retries<S, C> {
    fn clone(&self) -> Self {
        Retries { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

#[cfg(feature = "retry")]
impl<S, C, R> Service<R> for Retries<S, C>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Clone + Send + Sync + 'static,
    C: Retryable<R, S::Error>,
{
    type Response = S::Response;
    type Error = GaveUp<S::Error>;
    type Future = Boxed<S::Response, Self::Error>;

    /// Each try waits for the inner service by itself.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            let token = layer.classes.has_token(&request);
            let retrying = Retrying {
                policy: &layer.policy,
                budget: layer.budget.as_deref(),
                token,
                random: layer.random,
            };
            let operation = move || oneshot(inner.clone(), request.clone());
            retry(retrying, operation, |error| layer.classes.classify(error)).await
        })
    }
}

/// A breaker before a service.
#[cfg(feature = "circuit-breaker")]
#[derive(Debug)]
pub struct BreakerLayer<T, E> {
    breaker: Arc<SharedBreaker>,
    outcome: fn(&Result<T, E>) -> Outcome,
}

#[cfg(feature = "circuit-breaker")]
impl<T, E> Clone for BreakerLayer<T, E> {
    fn clone(&self) -> Self {
        BreakerLayer { breaker: self.breaker.clone(), outcome: self.outcome }
    }
}

#[cfg(feature = "circuit-breaker")]
impl<T, E> BreakerLayer<T, E> {
    /// A layer with this breaker. `outcome`: what a result means for the service.
    pub fn new(breaker: Arc<SharedBreaker>, outcome: fn(&Result<T, E>) -> Outcome) -> BreakerLayer<T, E> {
        BreakerLayer { breaker, outcome }
    }
}

#[cfg(feature = "circuit-breaker")]
impl<S, T, E> Layer<S> for BreakerLayer<T, E> {
    type Service = Guarded<S, T, E>;

    fn layer(&self, inner: S) -> Guarded<S, T, E> {
        Guarded { inner, layer: self.clone() }
    }
}

/// A service behind a breaker.
#[cfg(feature = "circuit-breaker")]
#[derive(Debug)]
pub struct Guarded<S, T, E> {
    inner: S,
    layer: BreakerLayer<T, E>,
}

#[cfg(feature = "circuit-breaker")]
impl<S: Clone, T, E> Clone for Guarded<S, T, E> {
    fn clone(&self) -> Self {
        Guarded { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

#[cfg(feature = "circuit-breaker")]
impl<S, R> Service<R> for Guarded<S, S::Response, S::Error>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = Called<S::Error>;
    type Future = Boxed<S::Response, Self::Error>;

    /// Each call waits for the inner service under its permit: a service that can't even become ready fails calls like any other, and a
    /// breaker that is open answers at once.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let outcome = self.layer.outcome;
        match SharedPermit::of(&self.layer.breaker) {
            Err(rejected) => Box::pin(core::future::ready(Err(Called::Rejected(rejected)))),
            Ok(permit) => {
                let called = oneshot(self.inner.clone(), request);
                Box::pin(async move {
                    let result = called.await;
                    permit.record(outcome(&result));
                    result.map_err(Called::Failed)
                })
            }
        }
    }
}

/// What running once needs to know of requests: their ticket, if they have one, and what they ask for.
#[cfg(feature = "idempotency")]
pub trait Ticketed {
    /// The ticket and the fingerprint.
    fn ticket(&self) -> Option<(Ticket, Fingerprint)>;
}

/// Runs each ticket once, in this process's life. The inner service answers with bytes, or nil; its errors mean "no effect".
#[cfg(feature = "idempotency")]
#[derive(Clone, Debug)]
pub struct OnceLayer {
    flights: Flights,
    now_ms: fn() -> u64,
}

#[cfg(feature = "idempotency")]
impl OnceLayer {
    /// A layer over these flights. `now_ms`: Unix milliseconds.
    #[must_use]
    pub fn new(flights: Flights, now_ms: fn() -> u64) -> OnceLayer {
        OnceLayer { flights, now_ms }
    }
}

#[cfg(feature = "idempotency")]
impl<S> Layer<S> for OnceLayer {
    type Service = RunsOnce<S>;

    fn layer(&self, inner: S) -> RunsOnce<S> {
        RunsOnce { inner, layer: self.clone() }
    }
}

/// A service that runs each ticket once.
#[cfg(feature = "idempotency")]
#[derive(Clone, Debug)]
pub struct RunsOnce<S> {
    inner: S,
    layer: OnceLayer,
}

#[cfg(feature = "idempotency")]
impl<S, R> Service<R> for RunsOnce<S>
where
    S: Service<R, Response = Answer> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    R: Ticketed + Send + 'static,
{
    type Response = Answer;
    type Error = Grounded<S::Error>;
    type Future = Boxed<Answer, Self::Error>;

    /// Who runs waits for the inner service by itself.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (inner, OnceLayer { flights, now_ms }) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            let Some((ticket, fingerprint)) = request.ticket() else {
                return oneshot(inner, request).await.map_err(Grounded::Failed);
            };
            flights.run(ticket, fingerprint, now_ms(), || oneshot(inner, request)).await
        })
    }
}
