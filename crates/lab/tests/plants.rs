//! Every planted bug is caught, on seeds that nobody chose: `cargo test --release -p keypact-lab --features plant`.
#![cfg(feature = "plant")]

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use keypact_lab::{Options, plants, run};

/// Seeds within which each bug must be found.
const SEEDS: u64 = 400;

/// One test for all: which bug is switched on is a setting of the whole process.
#[test]
fn every_plant_is_caught() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = u64::from(now.subsec_nanos()) << 8;
    let mut missed = Vec::new();
    for plant in plants() {
        let mut progress = |_: keypact_lab::Progress<'_>| ControlFlow::Continue(());
        let options = Options {
            plant: Some(plant.name),
            trace: None,
            threads: 2,
            stop_at_violation: true,
            progress: &mut progress,
        };
        let report = run(None, first..first + SEEDS, options).expect("a listed plant runs");
        match report.violations.first() {
            Some(violation) => println!("{}: {} seeds, {}", plant.name, report.seeds, violation.property),
            None => missed.push(plant.name),
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds from {first}: {missed:?}");
}
