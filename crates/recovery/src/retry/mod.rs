//! Retry with backoff: whether a failure may be tried again, and after how long.
//!
//! What it guarantees, of one operation ([`Retry`]):
//! - The wait before retry number n, counted from 0 after the first try, is `min(max, base * 2^n) + random(0, jitter)`, for every n; or the
//!   same with full, equal or decorrelated jitter ([`Jitter`]).
//! - An *uncertain* failure is tried again only if the operation carries a token; a permanent one never ([`Failure`]).
//! - No try begins after the deadline, and no wait begins that would end after it.
//!
//! And of all operations that share a [`Budget`]: at most `ratio * first tries + minimum * time` retries. If everything fails, the service
//! gets 1.2 times the load at the default ratio, and no more; three retries each would make it 4 times.
//!
//! ```text
//!            try ──ok──▶ done
//!             ▲ │failed
//!   after wait│ ▼
//!           waiting ◀── class? retries left? before the deadline? budget? ──no──▶ given up
//! ```
//!
//! Sources: Metcalfe & Boggs 1976 (binary exponential backoff); Brooker, "Exponential Backoff and Jitter", 2015 (full, equal,
//! decorrelated); the retry budgets of Finagle. Nothing here sleeps or draws: the caller does both.

mod backoff;
mod budget;
mod policy;
#[cfg(test)]
mod tests;

pub use backoff::{Jitter, capped_exponential, draw};
pub use budget::{Budget, BudgetConfig, BudgetCounts};
pub use policy::{Failure, GiveUp, Policy, PolicyError, Retry};
