//! Seeds in, one report out.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::trace::catch;
use crate::world::{Printer, Setup, World};
use crate::{Clients, Counters, FaultCounts, Observer, Process, Random, Tally, TraceHash, Violation};

/// What is run, and who judges it.
pub trait Scenario: Sync {
    /// What runs.
    type Process: Process;
    /// Who asks.
    type Clients: Clients<Self::Process>;
    /// Who watches.
    type Observer: Observer<Self::Process>;

    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// One seed's world.
    fn setup(&self, random: &mut Random) -> Setup<Self::Process, Self::Clients, Self::Observer>;

    /// Judges a world that has run without a violation; returns how many histories a checker has checked.
    ///
    /// # Errors
    /// The property that does not hold.
    fn judge(&self, world: &World<Self::Process, Self::Clients, Self::Observer>) -> Result<u64, Violation> {
        let _ = world;
        Ok(0)
    }

    /// Counters that must not be 0 after many seeds.
    fn sometimes(&self) -> &'static [&'static str] {
        &[]
    }
}

/// A seed that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
}

/// What one seed, or many, have come to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many seeds.
    pub seeds: u64,
    /// Simulated nanoseconds, of all seeds together.
    pub simulated_ns: u64,
    /// Peer messages that reached a live process.
    pub delivered: u64,
    /// Batches that processes took.
    pub steps: u64,
    /// Client operations by outcome.
    pub operations: Tally,
    /// Faults by kind.
    pub faults: FaultCounts,
    /// Counters of what was reached.
    pub sometimes: Counters,
    /// Histories that a checker has judged.
    pub histories: u64,
    /// What failed, by seed.
    pub failures: Vec<Failure>,
    /// Hash of all traces; does not depend on the order in which seeds ran.
    pub trace_hash: u64,
}

impl Report {
    /// Adds another report to this one.
    pub fn merge(&mut self, other: &Report) {
        self.seeds += other.seeds;
        self.simulated_ns += other.simulated_ns;
        self.delivered += other.delivered;
        self.steps += other.steps;
        self.operations.ok += other.operations.ok;
        self.operations.failed += other.operations.failed;
        self.operations.unknown += other.operations.unknown;
        self.faults.merge(&other.faults);
        self.sometimes.merge(&other.sometimes);
        self.histories += other.histories;
        self.failures.extend(other.failures.iter().cloned());
        self.failures.sort_by_key(|failure| failure.seed);
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
    }

    /// Those of `names` whose counter is 0: what the seeds never reached.
    #[must_use]
    pub fn never(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.sometimes.of(name) == 0).collect()
    }
}

/// Runs one seed. With a printer, prints every event.
#[must_use]
pub fn run_seed<S: Scenario>(scenario: &S, seed: u64, printer: Option<Printer>) -> Report {
    let setup = scenario.setup(&mut Random::new(seed ^ 0x5bd1_e995_7b93_15c7));
    let mut world = World::new(setup, seed);
    if let Some(printer) = printer {
        world.print_to(printer);
    }
    let mut report = Report { seeds: 1, ..Report::default() };
    let verdict = world.run().and_then(|()| {
        catch(|| scenario.judge(&world)).unwrap_or_else(|panic| Err(Violation::new("no-panic", panic)))
    });
    match verdict {
        Ok(histories) => report.histories = histories,
        Err(violation) => report.failures.push(Failure { seed, violation }),
    }
    report.simulated_ns = world.now_ns();
    report.delivered = world.delivered();
    report.steps = world.steps();
    report.operations = world.clients().tally();
    report.faults = world.faults().clone();
    report.sometimes = world.counters().clone();
    for name in scenario.sometimes() {
        report.sometimes.add(name, 0);
    }
    let mut hash = TraceHash::default();
    hash.add(seed);
    hash.add(world.trace_hash());
    report.trace_hash = hash.value();
    report
}

/// Runs the seeds `first..first + count` on this many threads. After each, `each` sees its report and may end the run.
pub fn run_seeds<S: Scenario>(
    scenario: &S,
    first: u64,
    count: u64,
    threads: usize,
    each: impl FnMut(&Report) -> ControlFlow<()> + Send,
) -> Report {
    let next = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    let shared = Mutex::new((Report::default(), each));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    if offset >= count {
                        return;
                    }
                    let report = run_seed(scenario, first.wrapping_add(offset), None);
                    let mut shared = shared.lock().expect("nobody panics while holding it");
                    let (total, each) = &mut *shared;
                    total.merge(&report);
                    if each(&report).is_break() {
                        ended.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    shared.into_inner().expect("every thread has ended").0
}
