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
    claim::head_change::CLAIM,
    claim::range_is_simple::RANGE,
    claim::range_queries::RANGE,
    claim::range_hotspots::CLAIM,
    claim::joins::RANGE,
    claim::hash_is_even::EVEN,
    claim::hash_is_even::FAST,
    claim::range_queries::HASH,
    claim::hash_is_even::MOVES,
    claim::ring_moves_little::MOVES,
    claim::ring_moves_little::ADJACENT,
    claim::joins::RING,
    claim::ring_moves_little::UNEVEN,
    claim::range_is_simple::RING,
    claim::two_phase_is_atomic::CLAIM,
    claim::two_phase_blocks::BLOCKS,
    claim::two_phase_blocks::PARTITIONS,
    claim::two_phase_blocks::SLOW,
    claim::raft_is_safe::CLAIM,
    claim::raft_is_live::CLAIM,
    claim::two_phase_beside_raft::THROUGHPUT,
    claim::two_phase_beside_raft::RESILIENT,
    claim::majority_is_safe::CLAIM,
    claim::crdts_resolve::CLAIM,
    claim::crdts_commute::CLAIM,
    claim::last_write_counter::CLAIM,
    claim::tokens::SAME,
    claim::tokens::CHOSEN,
    claim::tokens::IMMUTABLE,
    claim::retries::WAITS,
    claim::retries::HERD,
    claim::retries::LONGEST,
    claim::breaker::OPENS,
    claim::breaker::COOLS,
    claim::breaker::CLOSES,
    claim::breaker::REOPENS,
    claim::fifo_over_reconnects::CLAIM,
    claim::causal_inversions::CLAIM,
    claim::one_order::CLAIM,
    claim::order_costs::CLAIM,
    claim::under_a_cut::CLAIM,
];

/// What is not measured here.
pub static NOT_HERE: &[NotHere] = &[
    NotHere {
        number: 5,
        claim: "Peer-to-peer scales reads and writes",
        why: "not measured yet; scenario `gossip` runs it",
    },
    NotHere {
        number: 6,
        claim: "Peer-to-peer has no single master",
        why: "not measured yet; scenario `gossip` runs it",
    },
    NotHere {
        number: 7,
        claim: "Conflict resolution is complex",
        why: "not measured yet; scenario `gossip` runs it",
    },
    NotHere {
        number: 8,
        claim: "Peer-to-peer costs more network",
        why: "not measured yet; scenario `gossip` runs it",
    },
];
