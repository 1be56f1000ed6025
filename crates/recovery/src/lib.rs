//! What a client and a service do about failures: pure policies, with thin adapters behind features.
//!
//! | module, feature | pattern | what it decides |
//! |---|---|---|
//! | [`idempotency`] | idempotency tokens | has this operation run already, and what came of it? |
//! | [`retry`] | retry with backoff | may this failure be tried again, and after how long? |
//! | [`circuit_breaker`] | circuit breaker | is it worth asking at all? |
//!
//! The policies are `no_std` values: no clock, no randomness, no lock, no allocation per call on the way of a success. Time comes in as
//! nanoseconds or Unix milliseconds, chance as a `u64` that the caller drew. So the same code runs in a service, in a client, and in a
//! simulator where one seed decides everything.
//!
//! | feature | adds |
//! |---|---|
//! | `std` | `idempotency::FileStore`; `circuit_breaker::SharedBreaker`, which threads share and which reads the clock itself |
//! | `tokio` | plain async functions: `tokio::retry`, `tokio::guarded`, `tokio::Flights` |
//! | `tower` | `tower::{RetryLayer, BreakerLayer, OnceLayer}` |
//!
//! Invariant: this crate depends on no other of the workspace, and without features on nothing at all.

#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
#[cfg(feature = "idempotency")]
pub mod idempotency;
mod now;
pub mod plant;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tower")]
pub mod tower;

pub use now::{MICROSECOND_NS, MILLISECOND_NS, Now, SECOND_NS};
