//! Runs a scenario without the `keypact` binary around it:
//! `cargo run --release -p keypact-lab --example sim -- raft 1..201 [PLANT]`, or with `TRACE=1` and one seed.

use std::ops::ControlFlow;

use keypact_lab::{Options, run};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().filter(|name| name != "-");
    let seeds = arguments.next().unwrap_or_else(|| "1..101".into());
    let plant = arguments.next();
    let (first, end) = seeds.split_once("..").expect("seeds are A..B");
    let seeds = first.parse().expect("a number")..end.parse().expect("a number");
    let trace =
        std::env::var_os("TRACE").map(|_| Box::new(|line: std::fmt::Arguments<'_>| println!("{line}")) as _);
    let threads = std::env::var("THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let mut progress = |progress: keypact_lab::Progress<'_>| {
        for violation in progress.violations {
            eprintln!("{}  {}: {}", violation.command, violation.property, violation.detail);
        }
        ControlFlow::Continue(())
    };
    let stop_at_violation = plant.is_some();
    let options =
        Options { plant: plant.as_deref(), trace, threads, stop_at_violation, progress: &mut progress };
    match run(scenario.as_deref(), seeds, options) {
        Ok(report) => println!("{}", serde_json::to_string_pretty(&report).expect("a report is JSON")),
        Err(error) => eprintln!("{error}"),
    }
}
