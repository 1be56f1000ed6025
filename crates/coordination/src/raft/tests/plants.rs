//! Planted bugs: each is found by the rough seeds, by a cluster-wide check or by a read that is too old.

use std::panic::catch_unwind;
use std::string::String;

use keypact_protocol::{Plant, switch_on};

use super::rough::{calm, rough};

/// The mistakes that are planted in this crate or in its gate.
const PLANTS: [Plant; 9] = [
    Plant::GateAlwaysOpen,
    Plant::QuorumOffByOne,
    Plant::VoteNotPersisted,
    Plant::OlderTermCommittedByCounting,
    Plant::StaleLeaderServesReads,
    Plant::ReadIndexBeforeOwnCommit,
    Plant::LeaseIgnoresPause,
    Plant::SnapshotWithoutLastTerm,
    Plant::TruncatesMatchingEntries,
];

/// Alone in its process: a plant is switched on for all threads. Run it by name, with `--ignored`.
#[test]
#[ignore = "switches bugs on for the whole process"]
fn every_plant_is_found() {
    for plant in PLANTS {
        switch_on(Some(plant));
        let found = (0..1_000_u64).find_map(|seed| {
            let members = if seed % 3 == 0 { 5 } else { 3 };
            let lived = catch_unwind(|| calm(&mut rough(seed, members)));
            let panic = lived.err()?;
            let why = panic.downcast::<String>().map_or_else(|_| String::from("assertion"), |text| *text);
            Some((seed, why))
        });
        switch_on(None);
        let (seed, why) = found.unwrap_or_else(|| panic!("{plant:?} is not found"));
        std::eprintln!("{}: seed {seed}: {why}", plant.name());
    }
}
