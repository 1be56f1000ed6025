//! The claims that are measured, in order, and those that are not.

use super::claim;
use super::{Claim, NotHere};

/// All that are measured here, by number.
pub static CLAIMS: &[Claim] = &[
    claim::reads_scale::CLAIM,
    claim::writes_at_the_leader::CLAIM,
    claim::stale_follower_reads::CLAIM,
    claim::lag_grows::CLAIM,
    claim::chain_is_consistent::CLAIM,
    claim::tail_reads_scale::CLAIM,
    claim::chain_writes_slow::CLAIM,
    claim::head_failure::CLAIM,
    claim::range_is_simple::RANGE,
    claim::range_queries::RANGE,
    claim::hash_is_even::EVEN,
    claim::hash_is_even::FAST,
    claim::range_queries::HASH,
    claim::hash_is_even::MOVES,
    claim::ring_moves_little::MOVES,
    claim::ring_moves_little::ADJACENT,
    claim::ring_moves_little::UNEVEN,
    claim::range_is_simple::RING,
    claim::raft_is_safe::CLAIM,
    claim::raft_is_live::CLAIM,
    claim::majority_is_safe::CLAIM,
    claim::crdts_resolve::CLAIM,
    claim::crdts_commute::CLAIM,
    claim::last_write_counter::CLAIM,
    claim::retries::WAITS,
    claim::retries::HERD,
    claim::retries::LONGEST,
    claim::breaker::OPENS,
    claim::breaker::COOLS,
    claim::breaker::CLOSES,
    claim::breaker::REOPENS,
];

/// What needs more than a simulator and one process.
pub static NOT_HERE: &[NotHere] = &[];
