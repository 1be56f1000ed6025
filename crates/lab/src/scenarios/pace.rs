//! What a seed's bounds can demand of it.

use keypact_simulator::{MICROSECOND_NS, Swarm};

/// Bytes of a small entry with its header.
const ENTRY_BYTES: usize = 64;
/// How many entries a member may lack when faults are over, about: what a cluster commits while one of it is away all the time.
const LAG_ENTRIES: u64 = 3_000;

/// A member that lacks much gets at most `max_inflight` frames of `max_frame_bytes` in a round trip. Where disks and network are so slow that it
/// could not have everything within half the time that the liveness phase allows, they are made fast: such a seed would tell of its own
/// arithmetic, and not of the protocol.
pub(crate) fn let_laggards_catch_up(swarm: &mut Swarm, max_inflight: usize, max_frame_bytes: usize) {
    let entries = (max_inflight * (max_frame_bytes / ENTRY_BYTES).max(1)) as u64;
    let round_trip_ns =
        2 * (swarm.delay_min_ns + swarm.delay_spread_ns) + 2 * swarm.sync_ns + 4 * swarm.step_ns;
    if LAG_ENTRIES.div_ceil(entries) * round_trip_ns > swarm.liveness_ns / 2 {
        swarm.delay_min_ns = 50 * MICROSECOND_NS;
        swarm.delay_spread_ns = 200 * MICROSECOND_NS;
        swarm.sync_ns = 100 * MICROSECOND_NS;
    }
}
