//! Idempotency: an operation with a token has its effect at most once, and every retry is told what came of it.
//!
//! What it guarantees, of a [`Once`] over a [`Store`]:
//! - *At most once.* Effect and result are one record: after a crash both are there or neither. A ticket whose record may have been
//!   forgotten is refused, never run.
//! - *The same answer.* Every later request with the ticket gets the first one's answer: nil, 0 and empty are answers like any other.
//! - *One operation a ticket.* The same ticket with another fingerprint is an error.
//! - *Bounded waiting.* A duplicate of an operation in flight waits for its end, at most so long, and at most so many wait.
//! - *Bounded memory.* Answers are kept for a time and up to a number; what was forgotten is answered [`Refused::Forgotten`].
//!
//! ```text
//!   new ──begin──▶ in flight ──durable──▶ done ──time or number──▶ forgotten
//!    ▲                 │ abandon (no effect), or a crash before the record was durable
//!    └─────────────────┘
//! ```
//!
//! Two kinds of [`Ticket`]. A *free* one is a [`Token`] that the client made: 128 bits that begin with the time, as in a UUID version 7, so
//! that forgetting is a watermark and not a list. A *sequenced* one is a session, which was opened here, and a number counted up by the
//! client: nothing is ever in doubt, and answers go as soon as the client says that it has them.
//!
//! Sources: Birrell & Nelson 1984 (at-most-once calls); Lee et al., RIFL, SOSP 2015 (results stored with the effect, acknowledged sequence
//! numbers); Ongaro's dissertation, section 6.3 (sessions). Where it differs: `docs/protocols/idempotency.md`.

#[cfg(feature = "std")]
mod file;
mod ledger;
mod once;
mod record;
mod session;
mod slot;
mod store;
#[cfg(test)]
mod tests;
mod ticket;

#[cfg(feature = "std")]
pub use file::{FileError, FileStore, RECORD_BYTES_MAX};
pub use ledger::{Begun, Config, Counts, Ledger, Opened, Refused};
pub use once::{Finished, Once, OnceError, Replayed};
pub use record::{Answer, Base, DecodeError, Ended, Record};
pub use store::{MemoryStore, Never, Store};
pub use ticket::{Fingerprint, Ticket, Token, TokenError};
