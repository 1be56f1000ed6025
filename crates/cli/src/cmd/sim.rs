//! `keypact sim`: the node's own code in a simulator that breaks networks, disks and clocks.

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::process;
use std::time::{Duration, Instant};

use clap::Args;
use keypact_lab::{Options, PLANTS_BUILT_IN, Progress, SimReport};

use crate::failure::Failure;
use crate::output::{grouped, note, say, say_json, table};
use crate::random;

const AFTER: &str = "\
Examples:
  keypact sim                                   whole nodes, 100 seeds from a random one
  keypact sim --scenario raft --seeds 1000
  keypact sim --scenario node --seeds 500..600 --json
  keypact sim --scenario raft --seed 42 --trace   one seed, every event
  keypact sim --plant quorum-off-by-one         a known bug, to see that it is found
  keypact sim --scenario list
  keypact sim --plant list

A seed decides everything; a failure prints the command that repeats it, which is valid for this commit.
Exit codes: 0 all properties held; 1 one did not, or something that should happen never did in 100 seeds or more; 2 can't be run.";

/// Seeds unless told otherwise.
const SEEDS: u64 = 100;
/// Random first seeds are below this, so that they stay short enough to type.
const SEED_SPACE: u64 = 1 << 32;
/// Fewer seeds may well miss what should happen sometimes.
const SEEDS_FOR_SOMETIMES: u64 = 100;
/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Run whole clusters in a simulator that breaks networks, disks and clocks
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Sim {
    /// What runs; `list` shows all [default: node; of a plant, where it must be found]
    #[arg(long, value_name = "raft|node|..|list")]
    scenario: Option<String>,
    /// How many seeds from a random one, or a range (its end is not run) [default: 100]
    #[arg(long, value_name = "N|A..B", value_parser = parse_seeds, conflicts_with = "seed")]
    seeds: Option<Seeds>,
    /// One seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Switch on a known bug; `list` shows all
    #[arg(long, value_name = "BUG|list")]
    plant: Option<String>,
    /// Print every event; needs --seed
    #[arg(long, requires = "seed", conflicts_with = "json")]
    trace: bool,
    /// Threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Seeds as given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seeds {
    Count(u64),
    Range(Range<u64>),
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    let Some((first, end)) = text.split_once("..") else {
        return match number(text)? {
            0 => Err(String::from("at least 1")),
            count => Ok(Seeds::Count(count)),
        };
    };
    let range = number(first)?..number(end)?;
    if range.is_empty() {
        return Err(format!("no seed is in {text}"));
    }
    Ok(Seeds::Range(range))
}

impl Sim {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.plant.as_deref() == Some("list") {
            let rows = keypact_lab::plants().map(|info| (info.name, info.scenario, info.about));
            return self.list("plants", &rows.collect::<Vec<_>>());
        }
        if self.scenario.as_deref() == Some("list") {
            let rows = keypact_lab::scenarios().map(|info| (info.name, "", info.about));
            return self.list("scenarios", &rows.collect::<Vec<_>>());
        }
        if let Some(plant) = &self.plant {
            known_plant(plant)?;
            if !PLANTS_BUILT_IN {
                return run_planted();
            }
        }
        let seeds = self.seeds()?;
        let report = self.simulate(seeds)?;
        match self.json {
            true => say_json(&report)?,
            false => say_report(&report),
        }
        judge(&report, self.json)
    }

    fn list(&self, field: &str, rows: &[(&str, &str, &str)]) -> Result<(), Failure> {
        if self.json {
            let entry = |(name, scenario, about): &(&str, &str, &str)| match scenario.is_empty() {
                true => serde_json::json!({ "name": name, "about": about }),
                false => serde_json::json!({ "name": name, "scenario": scenario, "about": about }),
            };
            let entries: Vec<_> = rows.iter().map(entry).collect();
            return say_json(&serde_json::json!({ field: entries }));
        }
        let cells = rows.iter().map(|row| [row.0, row.1, row.2].map(ToOwned::to_owned).to_vec());
        let scenario = if field == "plants" { "scenario" } else { "" };
        say(table(&["name", scenario, "what"], &[], &cells.collect::<Vec<_>>()));
        Ok(())
    }

    fn seeds(&self) -> Result<Range<u64>, Failure> {
        let count = match (self.seed, &self.seeds) {
            (Some(seed), _) => return Ok(seed..seed.saturating_add(1)),
            (None, Some(Seeds::Range(range))) => return Ok(range.clone()),
            (None, Some(Seeds::Count(count))) => *count,
            (None, None) => SEEDS,
        };
        let random =
            random::number().map_err(|error| Failure::cannot(format!("no random number: {error}")))?;
        let first = random % SEED_SPACE;
        note(format!("seeds from {first}"));
        Ok(first..first.saturating_add(count))
    }

    fn simulate(&self, seeds: Range<u64>) -> Result<SimReport, Failure> {
        let threads = match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let people = !self.json && !self.trace;
        let mut shown = Instant::now();
        let mut progress = |progress: Progress<'_>| {
            if people {
                for violation in progress.violations {
                    note(format!("seed {}: {}: {}", violation.seed, violation.property, violation.detail));
                }
                if shown.elapsed() >= PROGRESS_EVERY && progress.done < progress.seeds {
                    shown = Instant::now();
                    let simulated = progress.simulated_ns / 1_000_000_000;
                    note(format!(
                        "{} of {} seeds, {} simulated seconds",
                        progress.done,
                        progress.seeds,
                        grouped(simulated)
                    ));
                }
            }
            ControlFlow::Continue(())
        };
        let options = Options {
            plant: self.plant.as_deref(),
            trace: self.trace.then(printer),
            threads,
            // A plant is found once; of a real failure every seed is worth knowing.
            stop_at_violation: self.plant.is_some(),
            progress: &mut progress,
        };
        keypact_lab::run(self.scenario.as_deref(), seeds, options).map_err(Failure::cannot)
    }
}

fn known_plant(name: &str) -> Result<(), Failure> {
    if keypact_lab::plants().any(|info| info.name == name) {
        return Ok(());
    }
    Err(Failure::cannot(format!("no planted bug {name:?}: `keypact sim --plant list` shows all")))
}

/// This binary has no bugs planted in it, and must not: hands over to the one that has.
fn run_planted() -> Result<(), Failure> {
    let exe = std::env::current_exe().ok();
    let beside = exe.as_deref().and_then(|exe| exe.parent()?.parent()).map(|target| target.join("plant"));
    let places: Vec<PathBuf> = beside.into_iter().chain([PathBuf::from("target/plant")]).collect();
    let name = format!("release/keypact{}", std::env::consts::EXE_SUFFIX);
    let Some(binary) = places.iter().map(|place| place.join(&name)).find(|binary| binary.is_file()) else {
        return Err(Failure::cannot(format!(
            "this binary has no planted bugs in it, and there is none with them at {}: build it with `cargo xtask plant`",
            places[0].join(&name).display()
        )));
    };
    let status = process::Command::new(&binary).args(std::env::args_os().skip(1)).status();
    let status =
        status.map_err(|error| Failure::cannot(format!("cannot run {}: {error}", binary.display())))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failure { code: u8::try_from(code).unwrap_or(2).max(1), text: String::new() }),
        None => Err(Failure::cannot(format!("{} ended: {status}", binary.display()))),
    }
}

/// Writes each event of a trace.
fn printer() -> Box<dyn FnMut(std::fmt::Arguments<'_>)> {
    Box::new(|event| say(event.to_string()))
}

/// What should happen at least once in so many seeds, and did not.
fn never(report: &SimReport) -> Vec<&str> {
    if report.seeds < SEEDS_FOR_SOMETIMES || report.plant.is_some() {
        return Vec::new();
    }
    report.sometimes.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect()
}

fn judge(report: &SimReport, json: bool) -> Result<(), Failure> {
    let never = never(report);
    let text = match (report.violations.len(), never.is_empty()) {
        (0, true) => return Ok(()),
        (0, false) => format!("these never happened in {} seeds: {}", report.seeds, never.join(", ")),
        (count, _) => format!("{count} violations"),
    };
    Err(Failure { code: 1, text: if json { String::new() } else { text } })
}

fn say_report(report: &SimReport) {
    let last = report.first_seed + report.seeds.saturating_sub(1);
    let rows = [
        ("scenario", report.scenario.to_owned()),
        ("seeds", format!("{} ({}..={last})", grouped(report.seeds), report.first_seed)),
        ("simulated time", format!("{:.1} s", report.simulated_seconds)),
        ("speed", format!("{:.1} simulated seconds per second", report.speed)),
        ("messages per second", grouped(report.messages_per_second as u64)),
        ("operations", grouped(report.operations)),
        (
            "  ok, failed, unknown",
            [report.outcomes.ok, report.outcomes.failed, report.outcomes.unknown].map(grouped).join(", "),
        ),
        ("histories checked", grouped(report.histories_checked)),
        ("violations", report.violations.len().to_string()),
        ("trace hash", report.trace_hash.clone()),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>();
    say(table(&["what", "seen"], &[], &rows));
    for (title, counts) in [("fault", &report.faults), ("sometimes", &report.sometimes)] {
        let rows: Vec<Vec<String>> =
            counts.iter().map(|(name, count)| vec![(*name).to_owned(), grouped(*count)]).collect();
        say("");
        say(table(&[title, "times"], &["times"], &rows));
    }
    for violation in &report.violations {
        say(format!("\nseed {}, commit {}: {}", violation.seed, commit(), violation.property));
        say(format!("  {}", violation.detail));
        say(format!("  repeat: {}", violation.command));
    }
}

/// The commit that a seed is valid for, where git can tell.
fn commit() -> String {
    let output = process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let told = output.ok().filter(|output| output.status.success());
    told.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_count_or_a_range() {
        assert_eq!(parse_seeds("7"), Ok(Seeds::Count(7)));
        assert_eq!(parse_seeds("5..8"), Ok(Seeds::Range(5..8)));
        for text in ["0", "", "x", "5..5", "8..5", "..5", "5..", "-1", "1..x"] {
            assert!(parse_seeds(text).is_err(), "{text}");
        }
    }
}
