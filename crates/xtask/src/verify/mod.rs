//! `cargo xtask verify`: everything that must hold, step by step, and a table at the end.

mod programs;
mod purity;
mod simulation;
mod stray;

use std::time::{Duration, Instant};

use clap::Args;

use crate::process::{Failure, Task};
use crate::ratchet;
use crate::repository::Repository;

/// What to verify.
#[derive(Args)]
#[command(after_help = "Examples:\n  cargo xtask verify\n  cargo xtask verify --list\n  \
                        cargo xtask verify --only clippy --only ratchet\n  cargo xtask verify --long --only seeds")]
pub(crate) struct Options {
    /// Thousands of seeds instead of hundreds.
    #[arg(long)]
    long: bool,
    /// Runs this step only; may be repeated.
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
    /// Leaves this step out; may be repeated.
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    skip: Vec<String>,
    /// Prints the steps and runs none.
    #[arg(long)]
    pub(crate) list: bool,
    /// Writes improved style figures before they are compared.
    #[arg(long)]
    ratchet_update: bool,
}

/// What a step runs on.
struct Context<'a> {
    repository: &'a Repository,
    long: bool,
}

/// One thing that must hold.
struct Step {
    name: &'static str,
    /// What holds, as a sentence's end.
    about: &'static str,
    /// Returns a short summary for the table.
    run: fn(&Context) -> Result<String, Failure>,
}

/// All steps, quick ones first.
const STEPS: &[Step] = &[
    Step { name: "format", about: "rustfmt has nothing to change", run: format },
    Step { name: "ratchet", about: "style figures did not get worse", run: |c| ratchet::check(c.repository) },
    Step {
        name: "stray",
        about: "no path or address of one machine, in files or messages",
        run: stray::check,
    },
    Step {
        name: "features",
        about: "pure crates get no hasher or randomness of its own choosing",
        run: purity::features,
    },
    Step {
        name: "clippy",
        about: "no warning from compiler or clippy, tests and benches included",
        run: clippy,
    },
    Step {
        name: "alone",
        about: "each no_std crate builds with what its own manifest asks for",
        run: purity::alone,
    },
    Step { name: "edges", about: "crates use only what the layout allows", run: edges },
    Step { name: "docs", about: "documentation builds without a warning", run: docs },
    Step { name: "programs", about: "tests that need redis, etcd and Python pass", run: programs::check },
    Step { name: "plants", about: "each planted bug is caught in its budget", run: simulation::plants },
    Step { name: "seeds", about: "no violation on fresh seeds", run: simulation::seeds },
    Step { name: "determinism", about: "the same seeds leave the same traces", run: simulation::determinism },
];

/// How a step went.
struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<String, Failure>,
}

fn step_names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// Prints all steps.
///
/// # Errors
///
/// None; it is a task as the others.
pub(crate) fn list() -> Result<(), Failure> {
    for step in STEPS {
        println!("{:12} {}", step.name, step.about);
    }
    Ok(())
}

/// Runs the chosen steps to the end, whatever fails on the way.
///
/// # Errors
///
/// If any step failed; which, stands in the table.
pub(crate) fn verify(repository: &Repository, options: &Options) -> Result<(), Failure> {
    if options.ratchet_update {
        println!("{}", ratchet::write_improved(repository)?);
    }
    let context = Context { repository, long: options.long };
    let chosen: Vec<&Step> = STEPS.iter().filter(|step| is_chosen(step.name, options)).collect();
    let mut outcomes = Vec::new();
    for (index, step) in chosen.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, chosen.len(), step.name, step.about);
        let start = Instant::now();
        let result = (step.run)(&context);
        let took = start.elapsed();
        match &result {
            Ok(summary) => println!("  ok, {:.1} s: {summary}", took.as_secs_f64()),
            Err(failure) => println!("  FAILED, {:.1} s\n{}", took.as_secs_f64(), indented(failure)),
        }
        outcomes.push(Outcome { name: step.name, took, result });
    }
    print!("\n{}", table(&outcomes));
    let failed: Vec<&str> = outcomes.iter().filter(|o| o.result.is_err()).map(|o| o.name).collect();
    match failed.len() {
        0 if outcomes.is_empty() => Err(Failure::found("no step was chosen")),
        0 => Ok(()),
        _ => Err(Failure::found(format!("failed: {}", failed.join(", ")))),
    }
}

fn is_chosen(name: &str, options: &Options) -> bool {
    (options.only.is_empty() || options.only.iter().any(|only| only == name))
        && !options.skip.iter().any(|skip| skip == name)
}

fn indented(failure: &Failure) -> String {
    failure.to_string().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!("{:12} {:>8}  {:6}\n", "step", "seconds", "result");
    for Outcome { name, took, result } in outcomes {
        let (verdict, line) = match result {
            Ok(summary) => ("ok", summary.clone()),
            Err(failure) => ("FAILED", failure.to_string().lines().next().unwrap_or_default().to_string()),
        };
        text.push_str(&format!("{name:12} {:>8.1}  {verdict:6}  {line}\n", took.as_secs_f64()));
    }
    text
}

fn format(context: &Context) -> Result<String, Failure> {
    Task::cargo(context.repository, ["fmt", "--check"]).run()?;
    Ok(String::new())
}

fn clippy(context: &Context) -> Result<String, Failure> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    Task::cargo(context.repository, arguments).run()?;
    // Planted code is compiled out above.
    let planted = ["clippy", "--quiet", "-p", "keypact-cli", "--features", "plant", "--", "-D", "warnings"];
    Task::cargo(context.repository, planted).run()?;
    Ok(String::new())
}

fn edges(context: &Context) -> Result<String, Failure> {
    let task = Task::cargo(context.repository, ["test", "--quiet", "-p", "keypact-cli", "--test", "edges"]);
    passed_tests(task).map(|passed| format!("{passed} tests"))
}

fn docs(context: &Context) -> Result<String, Failure> {
    let task = Task::cargo(context.repository, ["doc", "--quiet", "--workspace", "--no-deps"]);
    task.variable("RUSTDOCFLAGS", "-D warnings").run()?;
    Ok(String::new())
}

/// Runs `cargo test` and counts what passed; that nothing ran is a failure too, since it would look the same.
fn passed_tests(task: Task) -> Result<usize, Failure> {
    let command = task.shown();
    let finished = task.show_and_keep()?;
    if !finished.status.success() {
        return Err(Failure::Exit { command, status: finished.status });
    }
    match passed_in(&finished.stdout) {
        0 => Err(Failure::Output { command, reason: "no test ran".to_string() }),
        passed => Ok(passed),
    }
}

/// The sum over all lines `test result: ok. 7 passed; ..`.
fn passed_in(output: &str) -> usize {
    let results = output.lines().filter_map(|line| line.trim().strip_prefix("test result: ok. "));
    results.filter_map(|rest| rest.split_once(" passed")?.0.parse::<usize>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_summed() {
        let output = "\
running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s
test result: ok. 0 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 11 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        assert_eq!(passed_in(output), 13);
        assert_eq!(passed_in("test result: FAILED. 2 passed; 1 failed"), 0);
    }

    #[test]
    fn steps_are_chosen_by_name() {
        let options = |only: &[&str], skip: &[&str]| Options {
            long: false,
            only: only.iter().map(ToString::to_string).collect(),
            skip: skip.iter().map(ToString::to_string).collect(),
            list: false,
            ratchet_update: false,
        };
        let rows = [
            (options(&[], &[]), true),
            (options(&["docs"], &[]), true),
            (options(&["edges"], &[]), false),
            (options(&[], &["docs"]), false),
            (options(&["docs"], &["docs"]), false),
        ];
        for (options, chosen) in rows {
            assert_eq!(is_chosen("docs", &options), chosen);
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_step() {
        let outcomes = [
            Outcome { name: "format", took: Duration::from_millis(1230), result: Ok("fine".to_string()) },
            Outcome {
                name: "determinism",
                took: Duration::from_secs(75),
                result: Err(Failure::found("first\nsecond")),
            },
        ];
        let drawn = "\
step          seconds  result
format            1.2  ok      fine
determinism      75.0  FAILED  first
";
        assert_eq!(table(&outcomes), drawn);
    }
}
