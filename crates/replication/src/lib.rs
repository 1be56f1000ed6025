//! Replication protocols: leader-follower.
#![no_std]
