//! Planted bugs are found by the same random lives that pass without them.
#![cfg(feature = "plant")]

mod machine;

use keypact_protocol::{Lsn, Plant, switch_on};
use machine::{Machine, Random, random_lives, recover, small_options};

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
    let silent = (0..200).filter(|seed| damage_is_silent(*seed)).count();
    assert!(silent > 20, "damage taken for a torn tail goes unnoticed");
    switch_on(None);
    assert_eq!((0..200).filter(|seed| damage_is_silent(*seed)).count(), 0);
}

/// Rots a byte of a confirmed frame; whether confirmed records are gone without an error.
fn damage_is_silent(seed: u64) -> bool {
    let mut random = Random(seed);
    let mut machine = Machine::new(small_options());
    for _ in 0..4 {
        let bytes = random.below(500);
        machine.append_random(&mut random, bytes);
        machine.commit().expect("a sound disk");
    }
    let (name, end) = machine.wal().provable_end();
    let offset = 512 + random.below(end - 512);
    assert!(machine.disk.rot(&name, offset, 4));
    machine.crash(&mut random);
    recover(&machine.disk, machine.options).is_ok_and(|(recovered, _)| recovered.report.last < Lsn(4))
}
