//! Clocks and message orders.
//!
//! Each is behind a feature of its own name; all are in the default.
//!
//! | feature | module | what it is |
//! |---|---|---|
//! | `clock` | [`clock`] | Lamport, vector and hybrid logical clocks; dots and dotted causal contexts |
//! | `fifo` | [`fifo`] | each sender's messages in their order, gaps repaired |
//! | `causal` | [`causal`] | a message waits for what it comes after |
//! | `total` | [`total`] | one order for all, over a replicated log or by a sequencer |
//!
//! `fifo` and `causal` share [`broadcast`]: streams, repair, membership, recovery. In all three a delivery's command is an [`Envelope`], which names its
//! sender; see there for how a broadcast maps on the contract.
#![no_std]

extern crate alloc;

#[cfg(any(feature = "fifo", feature = "causal"))]
pub mod broadcast;
#[cfg(feature = "causal")]
pub mod causal;
#[cfg(feature = "clock")]
pub mod clock;
#[cfg(any(feature = "fifo", feature = "causal", feature = "total"))]
mod envelope;
#[cfg(feature = "fifo")]
pub mod fifo;
#[cfg(feature = "total")]
pub mod total;

#[cfg(any(feature = "fifo", feature = "causal", feature = "total"))]
pub use envelope::Envelope;
