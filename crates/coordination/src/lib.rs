//! Coordination protocols: Raft.
#![no_std]
