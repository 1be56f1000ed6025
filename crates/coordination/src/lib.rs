//! Coordination protocols: Raft.
#![no_std]

extern crate alloc;

pub mod raft;
