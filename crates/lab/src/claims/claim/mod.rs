//! A file for each claim, or for a few that are measured together.

pub(super) mod breaker;
pub(super) mod chain_is_consistent;
pub(super) mod chain_writes_slow;
pub(super) mod crdts_commute;
pub(super) mod crdts_resolve;
pub(super) mod hash_is_even;
pub(super) mod head_change;
pub(super) mod head_failure;
pub(super) mod lag_grows;
pub(super) mod last_write_counter;
pub(super) mod majority_is_safe;
pub(super) mod raft_is_live;
pub(super) mod raft_is_safe;
pub(super) mod range_hotspots;
pub(super) mod range_is_simple;
pub(super) mod range_queries;
pub(super) mod reads_scale;
pub(super) mod retries;
pub(super) mod ring_moves_little;
pub(super) mod stale_follower_reads;
pub(super) mod tail_reads_scale;
pub(super) mod tokens;
pub(super) mod two_phase_beside_raft;
pub(super) mod two_phase_blocks;
pub(super) mod two_phase_is_atomic;
pub(super) mod writes_at_the_leader;
