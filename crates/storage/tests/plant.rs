//! Planted bugs are found by the same random lives that pass without them.
#![cfg(feature = "plant")]

mod machine;

use keypact_protocol::{Plant, switch_on};
use machine::{random_lives, rot_is_noticed};

/// One test, because a plant is switched on for the whole process.
#[test]
fn each_planted_bug_is_found() {
    for seed in 0..200 {
        random_lives(seed, 12).unwrap_or_else(|e| panic!("without a bug: {e}"));
    }
    switch_on(Some(Plant::TornTailAccepted));
    let found = (0..200).find_map(|seed| random_lives(seed, 12).err());
    assert!(found.is_some(), "a torn tail that is accepted goes unnoticed");

    switch_on(Some(Plant::DamageTakenForTornTail));
    let found = (0..200).find_map(|seed| rot_is_noticed(seed).err());
    assert!(found.is_some(), "damage taken for a torn tail goes unnoticed");
    switch_on(None);
    assert!((0..200).all(|seed| rot_is_noticed(seed).is_ok()));
}
