//! Circuit breaker: stop asking a service that fails, and find out carefully when it is well again.
//!
//! What it guarantees:
//! - *Opens* when the rate of errors, or of slow calls, has been at or above its threshold for the configured duration, measured over the
//!   last calls or the last seconds ([`WindowKind`]), and never on fewer calls than the minimum. It opens with the first result after that.
//! - *Open*, it lets nothing through until the cool-down is over.
//! - *Half-open*, it lets through `probes` calls and no more, whatever happens; their results alone decide. Probes that never come back
//!   count as failed after the probe timeout, so that it can't stay half-open.
//! - A call that was let through in an earlier state counts for nothing when it ends.
//! - Ignored outcomes (the caller's own mistakes, cancelled calls) leave no trace in the rates and give a probe back.
//!
//! ```text
//!               rate at or above threshold, for the duration
//!      ┌────────┐ ─────────────────────────────────────▶ ┌──────┐
//!      │ closed │                                        │ open │ ◀─┐
//!      └────────┘                                        └──────┘   │
//!          ▲           ┌───────────┐   a call, after the     │      │
//!          └────────── │ half-open │ ◀── cool-down ──────────┘      │
//!   probes: rate below └───────────┘ ───────────────────────────────┘
//!                            probes: rate at or above, or no answer in time
//! ```
//!
//! Sources: Nygard, "Release It!", 2007; the states, windows, rates and comparisons of resilience4j. Where it differs:
//! `docs/protocols/circuit-breaker.md`.

mod breaker;
mod config;
mod event;
mod keyed;
#[cfg(feature = "std")]
mod shared;
#[cfg(test)]
mod tests;
mod window;

pub use breaker::{CircuitBreaker, Counts, Outcome, Permit, Rejected, State};
pub use config::{Config, ConfigError, WindowKind};
pub use event::{Event, Why};
pub use keyed::{Breakers, KeyRefused, KeyedPermit};
#[cfg(feature = "std")]
pub use shared::{Called, SharedBreaker, SharedPermit};
pub use window::Rates;
