//! Coordination protocols: Raft, two-phase commit. Each is behind a feature of its own name; both are in `default`.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "raft")]
pub mod raft;
#[cfg(feature = "two-phase-commit")]
pub mod two_phase_commit;
