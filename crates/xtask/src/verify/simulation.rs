//! What the simulator must show: planted bugs caught, fresh seeds clean, equal seeds equal traces. It is called as users call it,
//! by `keypact sim .. --json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use super::Context;
use crate::process::{Failure, Task, none_found};
use crate::repository::{Build, Repository};

/// How far a check goes: so many seeds or so long, whichever ends first.
#[derive(Clone, Copy)]
struct Budget {
    seeds: u64,
    time: Duration,
}

/// What one plant may cost until it is caught.
const PLANT: Budget = Budget { seeds: 200, time: Duration::from_secs(20) };
const PLANT_LONG: Budget = Budget { seeds: 2_000, time: Duration::from_secs(120) };
/// What one scenario's fresh seeds may cost.
const FRESH: Budget = Budget { seeds: 200, time: Duration::from_secs(40) };
const FRESH_LONG: Budget = Budget { seeds: 5_000, time: Duration::from_secs(1_800) };
/// A run that takes so much longer than its budget hangs.
const HANG: Duration = Duration::from_secs(120);
/// Seeds of a first run, which shows how fast the rest will go.
const FIRST_SEEDS: u64 = 10;
/// Seeds whose traces are compared.
const TRACED_SEEDS: u64 = 50;
/// Fresh seeds begin below this, so that they stay short enough to type.
const SEED_SPACE: u64 = 1 << 32;

/// What `keypact sim --json` prints. Fields that are not judged here are left out.
#[derive(Debug, Deserialize)]
struct Report {
    violations: Vec<Violation>,
    #[serde(default)]
    sometimes: BTreeMap<String, u64>,
    trace_hash: Value,
}

#[derive(Debug, Deserialize)]
struct Violation {
    seed: u64,
    property: String,
    #[serde(default)]
    command: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}; {}", self.seed, self.property, self.command)
    }
}

/// One call of the simulator.
struct Run<'a> {
    binary: &'a Path,
    scenario: Option<&'a str>,
    plant: Option<&'a str>,
    /// First seed, and the one behind the last.
    seeds: (u64, u64),
    limit: Duration,
}

impl Run<'_> {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["sim".to_string()];
        for (option, value) in [("--scenario", self.scenario), ("--plant", self.plant)] {
            arguments.extend(value.into_iter().flat_map(|value| [option.to_string(), value.to_string()]));
        }
        arguments.extend(["--seeds".to_string(), format!("{}..{}", self.seeds.0, self.seeds.1)]);
        arguments.push("--json".to_string());
        arguments
    }

    /// The report of a run that came to a verdict: exit 0 or 1, and JSON. All else is no verdict but a failure, a crash too.
    fn report(&self, repository: &Repository) -> Result<Report, Failure> {
        let task = Task::new(repository, self.binary).arguments(self.arguments()).within(self.limit);
        let command = task.shown();
        let finished = task.keep()?;
        let code = finished.status.code();
        if !matches!(code, Some(0 | 1)) {
            return Err(Failure::Exit { command, status: finished.status });
        }
        let wrong = |reason: String| Failure::Output { command: command.clone(), reason };
        let report: Report =
            serde_json::from_str(&finished.stdout).map_err(|error| wrong(error.to_string()))?;
        judged(code == Some(0), report).map_err(|reason| wrong(reason.to_string()))
    }
}

/// A report fits its exit code: violations exit 1; and so may a counter at zero, which a short run can't avoid.
fn judged(success: bool, report: Report) -> Result<Report, &'static str> {
    match (success, report.violations.is_empty()) {
        (true, false) => Err("exit 0 with violations"),
        (false, true) if report.sometimes.values().all(|&times| times > 0) => {
            Err("exit 1 without a violation")
        }
        _ => Ok(report),
    }
}

/// How many seeds to run next: a few first, then as many as four fifths of the time that is left allow.
fn next_seeds(done: u64, elapsed: Duration, budget: Budget) -> u64 {
    let left = budget.seeds - done;
    if done == 0 {
        return left.min(FIRST_SEEDS);
    }
    let seconds_left = budget.time.saturating_sub(elapsed).as_secs_f64();
    let per_second = done as f64 / elapsed.as_secs_f64().max(0.001);
    ((seconds_left * per_second * 0.8) as u64).clamp(1, left.max(1)).min(left)
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Neighbouring runs should not share seeds: spread the nanoseconds (Knuth's multiplicative hashing).
    (now.as_nanos() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % SEED_SPACE
}

/// Names from `list --json`: an array, or an object with the array under `field`; of strings, or of objects with `name`.
fn names(json: &str, field: &str) -> Option<Vec<String>> {
    let value: Value = serde_json::from_str(json).ok()?;
    let entries = value.as_array().or_else(|| value.get(field)?.as_array())?;
    let name = |entry: &Value| entry.as_str().or_else(|| entry.get("name")?.as_str()).map(str::to_string);
    entries.iter().map(name).collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
}

fn listed(repository: &Repository, binary: &Path, option: &str, field: &str) -> Result<Vec<String>, Failure> {
    let task = Task::new(repository, binary).arguments(["sim", option, "list", "--json"]).within(HANG);
    let command = task.shown();
    let output = task.output()?;
    names(&output, field).ok_or_else(|| Failure::Output {
        command,
        reason: "not a list of names, or an empty one".to_string(),
    })
}

/// Each planted bug is caught by a checker or an invariant, on fresh seeds.
pub(super) fn plants(context: &Context) -> Result<String, Failure> {
    let repository = context.repository;
    repository.keypact(Build::Plant)?;
    let binary = repository.keypact(Build::Release)?;
    let budget = if context.long { PLANT_LONG } else { PLANT };
    let plants = listed(repository, &binary, "--plant", "plants")?;
    let mut missed = Vec::new();
    let start = Instant::now();
    for plant in &plants {
        let began = Instant::now();
        match catch(repository, &binary, plant, budget) {
            Ok(violation) => println!("  {plant}: {:.1} s, {violation}", began.elapsed().as_secs_f64()),
            Err(failure) => missed.push(format!("{plant}: {failure}")),
        }
    }
    none_found(missed)?;
    Ok(format!("{} caught, in {:.0} s", plants.len(), start.elapsed().as_secs_f64()))
}

fn catch(repository: &Repository, binary: &Path, plant: &str, budget: Budget) -> Result<Violation, Failure> {
    let first = fresh_seed();
    let (start, mut done) = (Instant::now(), 0);
    while done < budget.seeds && start.elapsed() < budget.time {
        let count = next_seeds(done, start.elapsed(), budget);
        let seeds = (first + done, first + done + count);
        let limit = budget.time.saturating_sub(start.elapsed());
        let run = Run { binary, scenario: None, plant: Some(plant), seeds, limit };
        if let Some(violation) = run.report(repository)?.violations.into_iter().next() {
            return Ok(violation);
        }
        done += count;
    }
    let took = start.elapsed().as_secs_f64();
    Err(Failure::found(format!("not caught in {done} seeds from {first}, {took:.1} s")))
}

/// No violation on seeds that nobody chose, and every counter of what must sometimes happen above zero.
pub(super) fn seeds(context: &Context) -> Result<String, Failure> {
    let repository = context.repository;
    let binary = repository.keypact(Build::Release)?;
    let budget = if context.long { FRESH_LONG } else { FRESH };
    let mut found = Vec::new();
    let mut total = 0;
    for scenario in listed(repository, &binary, "--scenario", "scenarios")? {
        let first = fresh_seed();
        let swept = sweep(repository, &binary, &scenario, first, budget)?;
        println!("  {scenario}: {} seeds from {first}, {:.1} s", swept.seeds, swept.took.as_secs_f64());
        total += swept.seeds;
        found.extend(swept.wrong().into_iter().map(|wrong| format!("{scenario}: {wrong}")));
    }
    none_found(found)?;
    Ok(format!("{total} seeds"))
}

/// What a row of runs over one scenario came to.
struct Swept {
    seeds: u64,
    took: Duration,
    violations: Vec<Violation>,
    sometimes: BTreeMap<String, u64>,
}

impl Swept {
    /// Violations, or counters that stayed at zero over all seeds: then the scenario shows less than it says.
    fn wrong(&self) -> Vec<String> {
        if !self.violations.is_empty() {
            return self.violations.iter().map(ToString::to_string).collect();
        }
        let never = self.sometimes.iter().filter(|(_, times)| **times == 0);
        never.map(|(what, _)| format!("`{what}` never happened in {} seeds", self.seeds)).collect()
    }
}

fn sweep(
    repository: &Repository,
    binary: &Path,
    scenario: &str,
    first: u64,
    budget: Budget,
) -> Result<Swept, Failure> {
    let start = Instant::now();
    let mut swept =
        Swept { seeds: 0, took: Duration::ZERO, violations: Vec::new(), sometimes: BTreeMap::new() };
    while swept.seeds < budget.seeds && swept.took < budget.time && swept.violations.is_empty() {
        let count = next_seeds(swept.seeds, swept.took, budget);
        let seeds = (first + swept.seeds, first + swept.seeds + count);
        let run = Run { binary, scenario: Some(scenario), plant: None, seeds, limit: budget.time + HANG };
        let report = run.report(repository)?;
        for (what, times) in report.sometimes {
            *swept.sometimes.entry(what).or_default() += times;
        }
        swept.violations.extend(report.violations);
        swept.seeds += count;
        swept.took = start.elapsed();
    }
    Ok(swept)
}

/// The same seeds leave the same traces: in two processes, and with other optimisation.
pub(super) fn determinism(context: &Context) -> Result<String, Failure> {
    let repository = context.repository;
    let release = repository.keypact(Build::Release)?;
    let debug = repository.keypact(Build::Debug)?;
    let processes: [(&str, &PathBuf); 3] =
        [("release", &release), ("release again", &release), ("debug", &debug)];
    let first = fresh_seed();
    let scenarios = listed(repository, &release, "--scenario", "scenarios")?;
    let mut found = Vec::new();
    for scenario in &scenarios {
        let mut hashes = Vec::new();
        for (name, binary) in processes {
            let seeds = (first, first + TRACED_SEEDS);
            let limit = FRESH_LONG.time;
            let run = Run { binary, scenario: Some(scenario), plant: None, seeds, limit };
            hashes.push((name, run.report(repository)?.trace_hash));
        }
        found.extend(
            unequal(&hashes).map(|wrong| format!("{scenario}, {TRACED_SEEDS} seeds from {first}: {wrong}")),
        );
    }
    none_found(found)?;
    Ok(format!("{} scenarios, {TRACED_SEEDS} seeds from {first}", scenarios.len()))
}

/// Names the hashes if they differ, or are none at all.
fn unequal(hashes: &[(&str, Value)]) -> Option<String> {
    let (_, first) = hashes.first()?;
    let says_something = first.as_str().is_some_and(|hash| !hash.is_empty()) || first.is_u64();
    if says_something && hashes.iter().all(|(_, hash)| hash == first) {
        return None;
    }
    Some(hashes.iter().map(|(name, hash)| format!("{name} {hash}")).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
