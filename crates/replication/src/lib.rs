//! Replication protocols, each behind its own feature: leader-follower, chain, gossip.
#![no_std]

extern crate alloc;

#[cfg(feature = "chain")]
pub mod chain;
#[cfg(feature = "gossip")]
pub mod gossip;
#[cfg(feature = "leader-follower")]
pub mod leader_follower;
