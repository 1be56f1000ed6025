//! Clocks and message orders.
//!
//! Each is behind a feature of its own name; all are in the default.
//!
//! | feature | module | what it is |
//! |---|---|---|
//! | `clock` | [`clock`] | Lamport, vector and hybrid logical clocks; dots and dotted causal contexts |
#![no_std]

extern crate alloc;

#[cfg(feature = "clock")]
pub mod clock;
