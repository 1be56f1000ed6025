//! A few fixed seeds of each scenario hold, and leave the same traces when they run again.

use std::ops::{ControlFlow, Range};

use keypact_lab::{Options, SimError, SimReport, run, scenarios};

fn report(scenario: &str, seeds: Range<u64>, threads: usize) -> Result<SimReport, SimError> {
    let mut progress = |_: keypact_lab::Progress<'_>| ControlFlow::Continue(());
    let options =
        Options { plant: None, trace: None, threads, stop_at_violation: false, progress: &mut progress };
    run(Some(scenario), seeds, options)
}

#[test]
fn fixed_seeds_hold_and_repeat() {
    for scenario in scenarios() {
        let first = report(scenario.name, 1..21, 1).expect("a listed scenario runs");
        assert_eq!(first.violations, [], "{}", scenario.name);
        assert_eq!(first.seeds, 20);
        assert!(first.operations > 0, "{}: clients did something", scenario.name);
        // On two threads, so that seeds end in another order.
        let again = report(scenario.name, 1..21, 2).expect("a listed scenario runs");
        assert_eq!(first.trace_hash, again.trace_hash, "{}", scenario.name);
        assert_eq!((first.messages, &first.sometimes), (again.messages, &again.sometimes));
        let other = report(scenario.name, 21..41, 2).expect("a listed scenario runs");
        assert_ne!(first.trace_hash, other.trace_hash, "{}: other seeds, other traces", scenario.name);
    }
}

#[test]
fn what_cant_be_run_is_said() {
    assert_eq!(report("nonsense", 0..1, 1).err(), Some(SimError::UnknownScenario("nonsense".into())));
    assert_eq!(report("raft", 5..5, 1).err(), Some(SimError::NoSeeds));
    let mut progress = |_: keypact_lab::Progress<'_>| ControlFlow::Continue(());
    let mut options = Options {
        plant: Some("nonsense"),
        trace: None,
        threads: 1,
        stop_at_violation: false,
        progress: &mut progress,
    };
    options.trace = Some(Box::new(|_| {}));
    assert_eq!(run(None, 0..1, options).err(), Some(SimError::UnknownPlant("nonsense".into())));
    let mut progress = |_: keypact_lab::Progress<'_>| ControlFlow::Continue(());
    let trace: keypact_simulator::Printer = Box::new(|_| {});
    let options = Options {
        plant: None,
        trace: Some(trace),
        threads: 1,
        stop_at_violation: false,
        progress: &mut progress,
    };
    assert_eq!(run(Some("raft"), 0..2, options).err(), Some(SimError::TraceOfMany));
}
