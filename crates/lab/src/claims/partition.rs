//! What the claims about partitioning share: keys, rings, loads, and the time of a lookup.

use std::hint::black_box;
use std::time::Instant;

use keypact_partitioning::Member;
use keypact_partitioning::ring::{Ring, RingConfig, Tokens};
use keypact_protocol::NodeId;

/// Keys `k:0` to `k:count-1`.
pub(super) fn keys(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|at| format!("k:{at}").into_bytes()).collect()
}

/// Nodes 1 to `count` with this many tokens each.
pub(super) fn ring(count: u64, tokens_per_weight: u32, tokens: Tokens, seed: u64) -> Ring {
    let config = RingConfig { tokens_per_weight, tokens, seed, ..RingConfig::default() };
    let members: Vec<Member> = (1..=count).map(|node| Member::alone(NodeId(node))).collect();
    Ring::of(config, &members).expect("different nodes, and not too many tokens")
}

/// The largest of these beside their mean.
pub(super) fn max_over_mean(loads: &[f64]) -> f64 {
    let sum: f64 = loads.iter().sum();
    assert!(sum > 0.0, "something is loaded");
    loads.iter().copied().fold(0.0, f64::max) * loads.len() as f64 / sum
}

/// Nanoseconds of a lookup, over all keys several times; the fastest pass, as others on the machine only slow it.
pub(super) fn ns_per_lookup(keys: &[Vec<u8>], lookup: impl Fn(&[u8]) -> u64) -> f64 {
    let pass = || {
        let begun = Instant::now();
        let sum = keys.iter().fold(0u64, |sum, key| sum.wrapping_add(lookup(black_box(key))));
        black_box(sum);
        begun.elapsed().as_nanos() as f64 / keys.len() as f64
    };
    (0..7).map(|_| pass()).fold(f64::INFINITY, f64::min)
}
