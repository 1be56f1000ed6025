//! The hybrid clock: never backwards, never far ahead, and Lamport's order.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use crate::clock::{DriftError, HybridClock, HybridStamp};

const DRIFT_MS: u64 = 50;

proptest! {
    /// Three clocks whose walls wander and jump back; each step one of them stamps an event or hears another's stamp.
    #[test]
    fn stamps_only_grow_and_stay_near_the_wall(
        steps in prop::collection::vec((0_usize..3, 0_usize..3, 900_u64..1200, any::<bool>()), 1..80),
    ) {
        let mut clocks = [HybridClock::new(DRIFT_MS); 3];
        let mut highest_wall_ms = 0;
        for (here, there, wall_ms, hears) in steps {
            highest_wall_ms = highest_wall_ms.max(wall_ms);
            let before = clocks[here].last();
            if hears {
                let sent = clocks[there].last();
                let heard = clocks[here].observe(sent, wall_ms);
                if heard.is_ok() {
                    prop_assert!(clocks[here].now(wall_ms) > sent, "an effect is after its cause");
                } else {
                    prop_assert!(sent.wall_ms > wall_ms + DRIFT_MS);
                    prop_assert_eq!(clocks[here].last(), before, "a refusal changes nothing");
                }
            } else {
                prop_assert!(clocks[here].now(wall_ms) > before);
            }
            // Counts are far from carrying here, so no clock leaves behind the highest wall that anybody had.
            prop_assert!(clocks[here].last().wall_ms <= highest_wall_ms);
        }
    }
}

#[test]
fn a_stamp_beyond_the_bound_is_refused() {
    let mut clock = HybridClock::new(DRIFT_MS);
    clock.now(1000);
    let just = HybridStamp { wall_ms: 1050, count: 3 };
    let beyond = HybridStamp { wall_ms: 1051, count: 0 };
    let refused = clock.observe(beyond, 1000);
    assert_eq!(refused, Err(DriftError { stamp: beyond, wall_ms: 1000, drift_max_ms: DRIFT_MS }));
    assert_eq!(std::format!("{}", refused.expect_err("beyond")), "stamp 1051+0 is 51 ms ahead, 50 allowed");
    assert_eq!(clock.last(), HybridStamp { wall_ms: 1000, count: 0 });
    assert_eq!(clock.observe(just, 1000), Ok(()));
    assert_eq!(clock.ahead_ms(1000), 50);
    // Its own wall goes back: what it knows already it need not refuse.
    assert_eq!(clock.observe(just, 10), Ok(()));
    assert_eq!(clock.now(10), HybridStamp { wall_ms: 1050, count: 4 });
}

#[test]
fn a_full_count_carries() {
    let full = HybridStamp { wall_ms: 7, count: u32::MAX };
    assert_eq!(HybridClock::resume(full, DRIFT_MS).now(7), HybridStamp { wall_ms: 8, count: 0 });
}

#[test]
fn a_restart_goes_on_after_what_was_kept() {
    let mut clock = HybridClock::new(DRIFT_MS);
    let kept = clock.now(5000);
    let mut again = HybridClock::resume(kept, DRIFT_MS);
    let stamps: Vec<HybridStamp> = [4000, 4000, 5001].map(|wall_ms| again.now(wall_ms)).into();
    assert_eq!(
        stamps.iter().map(|s| (s.wall_ms, s.count)).collect::<Vec<_>>(),
        [(5000, 1), (5000, 2), (5001, 0)]
    );
}

#[test]
fn the_end_of_time_is_not_reached() {
    let mut clock = HybridClock::new(u64::MAX);
    let first = clock.now(u64::MAX);
    assert_eq!(first.wall_ms, (1 << 62) - 1);
    assert!(clock.now(u64::MAX) > first);
    let beyond = HybridStamp { wall_ms: 1 << 62, count: 0 };
    assert!(HybridClock::new(u64::MAX).observe(beyond, u64::MAX).is_err());
}
