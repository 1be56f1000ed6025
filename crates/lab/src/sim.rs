//! What `keypact sim` runs: scenarios by name, seeds in, one report out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

use keypact_simulator::{Printer, Report, Scenario, Tally, run_seed, run_seeds};
use serde::Serialize;

use crate::plants::{PLANTS_BUILT_IN, Switched, plants};
use crate::scenarios::{ENTRIES, scenarios};

/// How to run.
pub struct Options<'a> {
    /// A planted bug to switch on, by name.
    pub plant: Option<&'a str>,
    /// Prints every event; for a single seed.
    pub trace: Option<Printer>,
    /// How many threads.
    pub threads: usize,
    /// End with the first violation. What other threads have then begun is still finished and counted.
    pub stop_at_violation: bool,
    /// Told after every seed; may end the run.
    pub progress: &'a mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send),
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options {{ plant: {:?}, threads: {} }}", self.plant, self.threads)
    }
}

/// How far a run is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Seeds done.
    pub done: u64,
    /// Of so many.
    pub seeds: u64,
    /// Simulated nanoseconds so far.
    pub simulated_ns: u64,
    /// Violations of the seed that has just ended, mostly none.
    pub violations: &'a [SimViolation],
}

/// Client operations by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Operations {
    /// Acknowledged.
    pub ok: u64,
    /// Refused, and not applied.
    pub failed: u64,
    /// Unknown.
    pub unknown: u64,
}

/// What a run came to. Its JSON is what `keypact sim --json` prints; fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct SimReport {
    /// What ran.
    pub scenario: &'static str,
    /// How many seeds ran.
    pub seeds: u64,
    /// The first of them.
    pub first_seed: u64,
    /// The planted bug, if one was switched on.
    pub plant: Option<String>,
    /// What did not hold, by seed.
    pub violations: Vec<SimViolation>,
    /// Peer messages that reached a live process, by wall second.
    pub messages_per_second: f64,
    /// The same, all.
    pub messages: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// The same, by outcome.
    pub outcomes: Operations,
    /// What should be reached over many seeds: none of these should be 0.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// What else was counted.
    pub counters: BTreeMap<&'static str, u64>,
    /// Faults by kind; kinds that never struck are left out.
    pub faults: BTreeMap<&'static str, u64>,
    /// Equal for equal code, scenario, seeds and plant. Hexadecimal.
    pub trace_hash: String,
    /// Histories that the checker decided. A history too hard for its steps is neither right nor wrong, and not counted.
    pub histories_checked: u64,
    /// Simulated seconds of all seeds together.
    pub simulated_seconds: f64,
    /// Wall seconds of the run.
    pub wall_seconds: f64,
    /// Simulated seconds by wall second.
    pub speed: f64,
}

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SimViolation {
    /// In which seed.
    pub seed: u64,
    /// Which property.
    pub property: String,
    /// The command that repeats it.
    pub command: String,
    /// What was seen.
    pub detail: String,
}

/// What can't be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SimError {
    /// No scenario of this name.
    UnknownScenario(String),
    /// No plant of this name.
    UnknownPlant(String),
    /// This build has no planted bugs in it.
    PlantsNotBuiltIn,
    /// No seed at all.
    NoSeeds,
    /// A trace is of one seed.
    TraceOfMany,
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SimError::UnknownScenario(name) => {
                let known: Vec<_> = scenarios().map(|info| info.name).collect();
                write!(f, "no scenario {name:?}; there are {}", known.join(", "))
            }
            SimError::UnknownPlant(name) => {
                let known: Vec<_> = plants().map(|info| info.name).collect();
                write!(f, "no planted bug {name:?}; there are {}", known.join(", "))
            }
            SimError::PlantsNotBuiltIn => {
                f.write_str("this build has no planted bugs in it (feature `plant`)")
            }
            SimError::NoSeeds => f.write_str("no seeds to run"),
            SimError::TraceOfMany => f.write_str("a trace is of one seed"),
        }
    }
}

impl std::error::Error for SimError {}

/// Runs a scenario's seeds. Without a scenario: the plant's, or else `node`.
///
/// # Errors
/// [`SimError`] if it can't be run. Violations are no error; they are in the report.
pub fn run(scenario: Option<&str>, seeds: Range<u64>, options: Options<'_>) -> Result<SimReport, SimError> {
    let plant = match options.plant {
        None => None,
        Some(name) => match plants().find(|info| info.name == name) {
            None => return Err(SimError::UnknownPlant(name.into())),
            Some(_) if !PLANTS_BUILT_IN => return Err(SimError::PlantsNotBuiltIn),
            found => found,
        },
    };
    if seeds.is_empty() {
        return Err(SimError::NoSeeds);
    }
    if options.trace.is_some() && seeds.end - seeds.start > 1 {
        return Err(SimError::TraceOfMany);
    }
    let name = scenario.or(plant.as_ref().map(|info| info.scenario)).unwrap_or("node");
    let Some(entry) = ENTRIES.iter().find(|entry| entry.info.name == name) else {
        return Err(SimError::UnknownScenario(name.into()));
    };
    // Until the run is over.
    let _switched = plant.as_ref().map(Switched::on);
    Ok((entry.run)(seeds, options))
}

pub(crate) fn run_scenario<S: Scenario>(scenario: &S, seeds: Range<u64>, options: Options<'_>) -> SimReport {
    let Options { plant, trace, threads, stop_at_violation, progress } = options;
    let begun = Instant::now();
    let count = seeds.end - seeds.start;
    let violations = |report: &Report| -> Vec<SimViolation> {
        let violations = report.failures.iter().map(|failure| SimViolation {
            seed: failure.seed,
            property: failure.violation.property.into(),
            command: command(scenario.name(), plant, failure.seed),
            detail: failure.violation.detail.clone(),
        });
        violations.collect()
    };
    let (mut done, mut simulated_ns) = (0, 0);
    let mut each = |report: &Report| {
        done += 1;
        simulated_ns += report.simulated_ns;
        let violations = violations(report);
        let told = progress(Progress { done, seeds: count, simulated_ns, violations: &violations });
        let stop = stop_at_violation && !violations.is_empty();
        if stop { ControlFlow::Break(()) } else { told }
    };
    let report = match trace {
        Some(printer) => {
            let report = run_seed(scenario, seeds.start, Some(printer));
            let _: ControlFlow<()> = each(&report);
            report
        }
        None => run_seeds(scenario, seeds.start, count, threads, each),
    };
    let wall_seconds = begun.elapsed().as_secs_f64().max(1e-9);
    let violations = violations(&report);
    assert!(violations.len() == report.failures.len(), "every failure is told");
    summary(scenario, seeds.start, plant, violations, &report, wall_seconds)
}

fn summary<S: Scenario>(
    scenario: &S,
    first_seed: u64,
    plant: Option<&str>,
    violations: Vec<SimViolation>,
    report: &Report,
    wall_seconds: f64,
) -> SimReport {
    let Tally { ok, failed, unknown } = report.operations;
    let simulated_seconds = report.simulated_ns as f64 / 1e9;
    let wanted = scenario.sometimes();
    let (sometimes, counters) = report.sometimes.iter().partition(|(name, _)| wanted.contains(name));
    SimReport {
        scenario: scenario.name(),
        seeds: report.seeds,
        first_seed,
        plant: plant.map(Into::into),
        violations,
        messages_per_second: (report.delivered as f64 / wall_seconds).round(),
        messages: report.delivered,
        operations: ok + failed + unknown,
        outcomes: Operations { ok, failed, unknown },
        sometimes,
        counters,
        faults: report
            .faults
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| (kind.name(), count))
            .collect(),
        trace_hash: format!("{:016x}", report.trace_hash),
        histories_checked: report.histories,
        simulated_seconds,
        wall_seconds,
        speed: simulated_seconds / wall_seconds,
    }
}

fn command(scenario: &str, plant: Option<&str>, seed: u64) -> String {
    match plant {
        None => format!("keypact sim --scenario {scenario} --seed {seed}"),
        Some(plant) => format!("keypact sim --scenario {scenario} --plant {plant} --seed {seed}"),
    }
}
