//! Replication protocols: leader-follower.
#![no_std]

extern crate alloc;

pub mod leader_follower;
